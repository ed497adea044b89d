//! Units under the real systemd.

use std::fs;
use std::path::Path;

use cluster::config::{Check, Class};
use cluster::event::{AgentResult, Running, Verb};

use super::rig::{Rig, inside, sh, until};

fn unit(name: &str, text: &str) -> Class {
    fs::write(format!("/run/systemd/system/{name}.service"), text).expect("write the unit");
    sh("systemctl daemon-reload");
    Class::Systemd { unit: format!("{name}.service"), check: None }
}

#[tokio::test]
async fn a_unit_that_changes_by_itself_is_told_at_once() {
    if !inside() {
        return;
    }
    let mut rig =
        Rig::of(vec![unit("t1", "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n")]).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    assert_eq!(sh("systemctl show -p Restart --value t1"), "no");
    assert!(sh("systemctl show -p Before --value t1").contains("futago-clusterd.service"));
    rig.expect_silence();

    sh("systemctl kill -s KILL t1");
    let reason = rig.expect_change(Running::Failed).await;
    assert!(reason.contains("code=killed, status=9/KILL"), "{reason}");
    let looked = rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    assert!(looked.reason.contains("status=9/KILL"), "{}", looked.reason);
    rig.expect(Verb::Start, AgentResult::Ok).await;
    sh("systemctl stop t1");
    rig.expect_change(Running::Stopped).await;
    sh("systemctl start t1");
    rig.expect_change(Running::Started).await;

    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect_silence();
}

#[tokio::test]
async fn a_connection_that_was_lost_comes_back_and_tells_what_was_missed() {
    if !inside() {
        return;
    }
    let mut rig = Rig::of(vec![unit("t2", "[Service]\nExecStart=/bin/sleep infinity\n")]).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    for _ in 0..3 {
        sh("systemctl daemon-reexec; systemctl kill -s KILL t2");
        rig.expect_change(Running::Failed).await;
        rig.expect(Verb::Start, AgentResult::Ok).await;
    }
    rig.expect(Verb::Stop, AgentResult::Ok).await;
}

#[tokio::test]
async fn failures_of_units_are_told_with_their_reason_and_in_time() {
    if !inside() {
        return;
    }
    let rig = Rig::of(vec![
        unit("t3", "[Service]\nType=notify\nExecStart=/bin/false\n"),
        unit("t4", "[Service]\nType=notify\nExecStart=/bin/sleep infinity\n"),
        Class::Systemd { unit: "there-is-none.service".to_owned(), check: None },
        unit("t5", "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1000; done'\n"),
    ])
    .await;
    let broken = rig.expect(Verb::Start, AgentResult::Failed).await;
    assert!(broken.reason.contains("code=exited, status=1"), "{}", broken.reason);
    let slow = rig.perform_on(1, Verb::Start, 2).await;
    assert_eq!(slow.result, AgentResult::TimedOut, "{}", slow.reason);
    assert!(slow.reason.contains("activating"), "{}", slow.reason);
    assert_eq!(rig.perform_on(1, Verb::Kill, 30).await.result, AgentResult::Ok);
    for verb in [Verb::Start, Verb::Monitor] {
        let missing = rig.perform_on(2, verb, 30).await;
        assert_eq!(missing.result, AgentResult::NotHere, "{}", missing.reason);
    }
    assert_eq!(rig.perform_on(2, Verb::Stop, 30).await.result, AgentResult::Ok);

    assert_eq!(rig.perform_on(3, Verb::Start, 30).await.result, AgentResult::Ok);
    assert_eq!(rig.perform_on(3, Verb::Stop, 1).await.result, AgentResult::TimedOut);
    let killed = rig.perform_on(3, Verb::Kill, 30).await;
    assert_eq!(killed.result, AgentResult::Ok, "{}", killed.reason);
    assert_eq!(rig.perform_on(3, Verb::Monitor, 30).await.result, AgentResult::NotRunning);

    rig.agents.release().await;
    assert!(!Path::new("/run/systemd/system/t3.service.d").exists());
    sh("systemctl reset-failed");
}

/// Run by the unit that stands for the manager, when it is stopped because the host goes down: systemd then stops
/// the manager before what it controls, and its own stop of that waits.
#[tokio::test]
async fn a_unit_can_be_stopped_while_the_host_goes_down() {
    if std::env::var_os("FUTAGO_HOST_GOES_DOWN").is_none() {
        return;
    }
    assert_eq!(sh("systemctl is-system-running || true"), "stopping");
    let rig = Rig::of(vec![Class::Systemd { unit: "t6.service".to_owned(), check: None }]).await;
    let stopped = rig.perform_on(0, Verb::Stop, 5).await;
    fs::write("/root/stopped", format!("{stopped:?}")).expect("write the result");
}

#[tokio::test]
async fn a_database_is_pinged_and_serves_again_soon_after_it_was_killed() {
    if !inside() {
        return;
    }
    let socket = "/run/mysqld/mysqld.sock".to_owned();
    let check = Some(Check::Sql { socket });
    let mut rig = Rig::of(vec![Class::Systemd { unit: "mariadb.service".to_owned(), check }]).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::Ok).await;
    let begun = std::time::Instant::now();
    sh("kill -KILL $(pidof mariadbd)");
    let reason = rig.expect_change(Running::Failed).await;
    let noticed = begun.elapsed();
    rig.expect(Verb::Start, AgentResult::Ok).await;
    let started = begun.elapsed();
    rig.expect(Verb::Monitor, AgentResult::Ok).await;
    println!(
        "mariadbd killed: noticed {noticed:?}, started {started:?}, pinged {:?} ({reason})",
        begun.elapsed()
    );

    // It hangs: alive for systemd, silent for whoever asks.
    sh("kill -STOP $(pidof mariadbd)");
    let hung = rig.perform_on(0, Verb::Monitor, 2).await;
    assert_eq!(hung.result, AgentResult::TimedOut, "{}", hung.reason);
    rig.expect(Verb::Kill, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    rig.agents.release().await;
    sh("systemctl reset-failed");
}

#[tokio::test]
async fn a_web_server_must_answer_with_the_expected_text() {
    if !inside() {
        return;
    }
    let http = |path: &str, text: &str| Class::Systemd {
        unit: "apache2.service".to_owned(),
        check: Some(Check::Http { url: format!("http://127.0.0.1{path}"), contains: Some(text.to_owned()) }),
    };
    let command = |argv: &[&str]| Class::Systemd {
        unit: "apache2.service".to_owned(),
        check: Some(Check::Command { argv: argv.iter().map(|word| (*word).to_owned()).collect() }),
    };
    let tcp = |address: &str| Class::Systemd {
        unit: "apache2.service".to_owned(),
        check: Some(Check::Tcp { address: address.to_owned() }),
    };
    fs::write("/var/www/html/index.html", "all is well").expect("write a page");
    let rig = Rig::of(vec![
        http("/", "is well"),
        http("/", "is not well"),
        http("/none", ""),
        tcp("127.0.0.1:80"),
        tcp("127.0.0.1:81"),
        command(&["true"]),
        command(&["sh", "-c", "echo broken; exit 1"]),
    ])
    .await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    let expected = [true, false, false, true, false, true, false];
    for (index, expected) in expected.into_iter().enumerate() {
        let seen = rig.perform_on(index, Verb::Monitor, 30).await;
        let wanted = if expected { AgentResult::Ok } else { AgentResult::Failed };
        assert_eq!(seen.result, wanted, "check {index}: {}", seen.reason);
    }
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    until("nothing listens", || sh("ss -Hltn 'sport = :80'").is_empty()).await;
    rig.agents.release().await;
}
