//! Total loss of a host: it is made anew on a bare machine while the other one serves its client.

use serde_json::Value;

use crate::harness::{futago, output, possible};
use crate::managed::{Managed, PAIR, assert_unbroken, other};

/// `futago rebuild HOST` and all that it says.
fn rebuild(pair: &Managed, host: &str) -> (Option<i32>, String) {
    let mut command = futago();
    command.args(["rebuild", host, "-i"]).arg(pair.lab.folder().join("inventory.yml"));
    let done = output(command);
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_host_that_was_lost_is_made_anew_while_the_other_one_serves() {
    if !possible() {
        return;
    }
    let pair = Managed::up("default");
    let (code, said) = rebuild(&pair, "ha-b");
    assert!(code == Some(1) && said.contains("its disk needs no copy"), "{said}");
    let (code, said) = rebuild(&pair, "ha-c");
    assert!(code == Some(64) && said.contains("no such host; did you mean"), "{said}");

    let client = pair.client();
    client.until_rows(100);
    // The first host of the inventory, and the active one: nothing about it is special.
    pair.lab.run("exchange", &[PAIR[0]]);
    client.until_rows(100);
    let (code, said) = rebuild(&pair, PAIR[0]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ha-b serves and has every acknowledged write"), "{said}");
    client.until_rows(100);
    pair.until_protected();
    assert_unbroken("rebuild", &client.stop());
    assert_eq!(pair.active(), other(PAIR[0]), "nothing moves back by itself");
    let status: Value = pair.status(PAIR[0]).expect("a status");
    assert_eq!(status["local"]["replica"]["disk"], "UpToDate", "{status}");

    // What was copied is whole: it serves from the new disk alone.
    pair.lab.run("power-off", &[PAIR[1]]);
    let client = pair.client();
    client.until_rows(100);
    assert_unbroken("serve from the new disk", &client.stop());

    // With the other one gone, a bare machine is refused: there is nothing to copy from.
    pair.lab.run("exchange", &[PAIR[1]]);
    pair.lab.run("power-off", &[PAIR[0]]);
    let (code, said) = rebuild(&pair, PAIR[1]);
    assert!(code == Some(4) && said.contains("nothing was changed"), "{said}");
}
