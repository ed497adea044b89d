//! The cluster manager's agents on a real host. This very program is put there and runs the tests in its folder,
//! one after the other, with the host's own systemd, kernel and packages.

mod address;
mod mount;
mod ocf;
mod rig;
mod systemd;

use std::fs;

use crate::harness::{Lab, possible, until};

const PACKAGES: &str =
    "nftables e2fsprogs mariadb-server apache2 nginx-light curl resource-agents iputils-arping";

#[test]
fn agents_keep_their_contract_on_a_real_host() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "64M"]);
    let install =
        format!("apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes {PACKAGES}");
    lab.run_in("ha-a", &install);
    lab.run_in("ha-a", "systemctl disable --now mariadb apache2 nginx");
    let own = fs::File::open("/proc/self/exe").expect("open this program");
    let mut copy =
        lab.command("exec", &["ha-a", "--", "sh", "-c", "cat > /root/tests && chmod +x /root/tests"]);
    assert!(copy.stdin(own).status().expect("start futago").success(), "copy this program into the host");
    let wanted = std::env::var("AGENTS_TEST").unwrap_or_else(|_| "agents::".to_owned());
    let run = format!(
        "cd /root && FUTAGO_INSIDE=1 ./tests --test-threads 1 --nocapture --skip agents_keep {wanted} 2>&1"
    );
    let output = lab.try_in("ha-a", &run);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "the tests inside failed:\n{text}");
    assert!(!text.contains("running 0 tests"), "none ran:\n{text}");
    if wanted == "agents::" {
        goes_down(&lab);
    }
}

/// A unit is stopped by its manager although the host goes down.
fn goes_down(lab: &Lab) {
    let unit = "[Unit]\nBefore=futago-clusterd.service\n[Service]\nExecStart=/bin/sleep infinity";
    let manager = "[Unit]\nAfter=dbus.service\n[Service]\nExecStart=/bin/sleep infinity\nEnvironment=FUTAGO_HOST_GOES_DOWN=1\n\
                   ExecStop=/root/tests a_unit_can_be_stopped_while_the_host_goes_down";
    lab.run_in(
        "ha-a",
        &format!(
            "printf '{unit}' > /run/systemd/system/t6.service
             printf '{manager}' > /run/systemd/system/futago-clusterd.service
             systemctl daemon-reload && systemctl start t6 futago-clusterd"
        ),
    );
    lab.try_in("ha-a", "systemctl poweroff");
    until("the host is off", || !lab.is_powered("ha-a"));
    lab.run("power-on", &["ha-a"]);
    let stopped = lab.run_in("ha-a", "cat /root/stopped");
    assert!(stopped.contains("result: Ok"), "{stopped}");
}
