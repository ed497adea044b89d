//! Debian's resource agents, unmodified and without Pacemaker.

use std::collections::BTreeMap;
use std::fs;

use cluster::config::Class;
use cluster::event::{AgentResult, Verb};

use super::rig::{Rig, inside, sh, until};

fn agent(kind: &str, params: &[(&str, &str)]) -> Class {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let params: BTreeMap<String, String> = params.collect();
    Class::Ocf { provider: "heartbeat".to_owned(), kind: kind.to_owned(), params, check_level: 0 }
}

/// Start, look, fail, look, start, stop, look.
async fn round(class: Class, fail: &str) {
    let rig = Rig::of(vec![class]).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::Ok).await;
    sh(fail);
    let seen = rig.perform(Verb::Monitor).await;
    assert!(
        matches!(seen.result, AgentResult::NotRunning | AgentResult::Failed),
        "{:?}: {}",
        seen.result,
        seen.reason
    );
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::Ok).await;
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
}

#[tokio::test]
async fn dummy_and_stateful() {
    if !inside() {
        return;
    }
    round(agent("Dummy", &[]), "rm /run/resource-agents/Dummy-res0.state").await;
    // It also sets its promotion score, which only Pacemaker has: that comes to nothing and does not matter.
    round(agent("Stateful", &[]), "rm /run/resource-agents/Stateful-res0.state").await;
}

#[tokio::test]
async fn ipaddr2() {
    if !inside() {
        return;
    }
    sh(
        "ip link del n0 2>/dev/null || true; ip link add n0 type veth peer name n1; ip link set n1 up; ip addr add 198.51.100.1/24 dev n0; ip link set n0 up",
    );
    round(
        agent("IPaddr2", &[("ip", "198.51.100.20"), ("nic", "n0"), ("cidr_netmask", "24")]),
        "ip addr del 198.51.100.20/24 dev n0",
    )
    .await;
}

#[tokio::test]
async fn filesystem() {
    if !inside() {
        return;
    }
    sh("mkfs.ext4 -qF /dev/vdb; mkdir -p /srv/ocf");
    let params = [("device", "/dev/vdb"), ("directory", "/srv/ocf"), ("fstype", "ext4")];
    round(agent("Filesystem", &params), "umount /srv/ocf").await;
}

#[tokio::test]
async fn mysql() {
    if !inside() {
        return;
    }
    let params = [
        ("binary", "/usr/sbin/mariadbd"),
        ("client_binary", "/usr/bin/mariadb"),
        ("config", "/etc/mysql/my.cnf"),
        ("pid", "/run/mysqld/mysqld.pid"),
        ("socket", "/run/mysqld/mysqld.sock"),
        ("log", "/var/log/mysql.log"),
        ("test_user", "root"),
        ("test_table", "mysql.global_priv"),
    ];
    round(agent("mysql", &params), "kill -KILL $(pidof mariadbd); while pidof mariadbd; do sleep 0.1; done")
        .await;
}

#[tokio::test]
async fn apache() {
    if !inside() {
        return;
    }
    fs::write("/var/www/html/index.html", "<html>all is well</html>").expect("write a page");
    sh("a2enmod -q status");
    let params = [("configfile", "/etc/apache2/apache2.conf"), ("envfiles", "/etc/apache2/envvars")];
    round(agent("apache", &params), "pkill -KILL apache2; while pidof apache2; do sleep 0.1; done").await;
}

#[tokio::test]
async fn nginx() {
    if !inside() {
        return;
    }
    // The agent looks for a port in files that Debian does not have.
    fs::write("/etc/nginx/conf.d/none.conf", "").expect("write a configuration");
    let params = [("configfile", "/etc/nginx/nginx.conf"), ("httpd", "/usr/sbin/nginx")];
    round(agent("nginx", &params), "pkill -KILL nginx; while pidof nginx; do sleep 0.1; done").await;
}

#[tokio::test]
async fn an_agent_that_is_missing_or_lacks_a_parameter_says_so() {
    if !inside() {
        return;
    }
    let rig = Rig::of(vec![agent("NoSuch", &[]), agent("IPaddr2", &[("nic", "lo")])]).await;
    let missing = rig.expect(Verb::Start, AgentResult::NotHere).await;
    assert!(missing.reason.contains("resource-agents"), "{}", missing.reason);
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    let lacking = rig.perform_on(1, Verb::Start, 30).await;
    assert!(lacking.result == AgentResult::NotHere && lacking.reason.contains(" ip"), "{}", lacking.reason);
}

#[tokio::test]
async fn an_agent_that_hangs_is_killed_with_its_children() {
    if !inside() {
        return;
    }
    let folder = "/usr/lib/ocf/resource.d/test";
    fs::create_dir_all(folder).expect("create the provider");
    let script = "#!/bin/sh
case $1 in
meta-data) echo '<resource-agent name=\"Hang\"><parameters/></resource-agent>' ;;
start) sleep 1005 & wait ;;
*) env | sort > /run/hang-$1; echo ocf-exit-reason:never; exit 7 ;;
esac
";
    fs::write(format!("{folder}/Hang"), script).expect("write the agent");
    sh(&format!("chmod +x {folder}/Hang"));
    let class = Class::Ocf {
        provider: "test".to_owned(),
        kind: "Hang".to_owned(),
        params: BTreeMap::from([("some".to_owned(), "value with 'quotes'".to_owned())]),
        check_level: 10,
    };
    let rig = Rig::of(vec![class]).await;
    let hung = rig.perform_on(0, Verb::Start, 1).await;
    assert_eq!(hung.result, AgentResult::TimedOut, "{}", hung.reason);
    until("its children are gone", || sh("pgrep -fx 'sleep 1005' || true").is_empty()).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    let environment = sh("cat /run/hang-monitor");
    for line in [
        "OCF_RESKEY_some=value with 'quotes'",
        "OCF_RESKEY_CRM_meta_interval=0",
        "OCF_ROOT=/usr/lib/ocf",
        "OCF_RESOURCE_INSTANCE=res0",
        "OCF_RA_VERSION_MAJOR=1",
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} in\n{environment}");
    }
    assert!(!environment.contains("OCF_CHECK_LEVEL"), "a probe has no level");
}
