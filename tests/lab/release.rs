//! A Debian release that is not the one of the other tests. With `FUTAGO_DRILLS=all` only, for it makes an image of its own.

use crate::cluster;
use crate::harness::{Lab, every_drill, output, possible};
use crate::managed::{Managed, PAIR};

#[test]
fn a_pair_of_debian_13_survives_the_loss_of_any_machine() {
    if !every_drill() || !possible() {
        return;
    }
    let pair = Managed::on(Lab::up(&["--witness", "--suite", "trixie"]), "default", |_| {});
    for host in PAIR {
        assert_eq!(pair.lab.run_in(host, ". /etc/os-release && echo $VERSION_ID"), "13");
    }
    let again = pair.lab.apply(&[]);
    assert_eq!(again.matches("changed=0").count(), 3, "a second apply changes nothing: {again}");
    pair.cluster(pair.active(), "switchover");
    pair.until_protected();
    cluster::one_machine_lost(&pair);
    // Else each start costs seconds of a processor, for a key that nobody sees.
    let certificate = "mariadb --skip-column-names --batch --execute 'SELECT @@ssl_cert'";
    assert_eq!(pair.lab.run_in(pair.active(), certificate), "/etc/mysql/futago.pem");
}

#[test]
fn a_release_that_is_none_is_refused_before_anything_is_made() {
    if !possible() {
        return;
    }
    let lab = Lab::named();
    for name in ["13", "Trixie", ""] {
        let refused = output(lab.command("up", &["--suite", name]));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(64) && said.contains("such as bookworm or trixie"), "{said}");
    }
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
