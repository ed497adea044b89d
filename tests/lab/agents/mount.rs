//! Mounts of the host's second disk.

use std::path::Path;

use cluster::config::Class;
use cluster::event::{AgentResult, Running, Verb};

use super::rig::{Rig, inside, sh, until};

const DEVICE: &str = "/dev/vdb";
const AT: &str = "/srv/deep/data";

fn ext4() -> Class {
    let [device, directory, fstype, options] = [DEVICE, AT, "ext4", "noatime"].map(str::to_owned);
    Class::Mount { device, directory, fstype, options }
}

fn format() {
    sh(&format!("umount {AT} 2>/dev/null || true; mkfs.ext4 -qF {DEVICE}"));
}

#[tokio::test]
async fn a_file_system_is_mounted_watched_and_unmounted() {
    if !inside() {
        return;
    }
    format();
    let mut rig = Rig::of(vec![ext4()]).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::Ok).await;
    assert!(sh(&format!("findmnt -no OPTIONS {AT}")).contains("noatime"));
    rig.expect_silence();

    sh(&format!("umount {AT}"));
    let reason = rig.expect_change(Running::Stopped).await;
    assert!(reason.contains("unmounted by somebody else"), "{reason}");
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;

    sh(&format!("mount -o remount,ro {AT}"));
    rig.expect_change(Running::Failed).await;
    let looked = rig.expect(Verb::Monitor, AgentResult::FileSystem).await;
    assert!(looked.reason.contains("read-only"), "{}", looked.reason);
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    rig.expect_silence();
}

#[tokio::test]
async fn who_keeps_a_mount_busy_is_ended_and_the_device_is_free_afterwards() {
    if !inside() {
        return;
    }
    format();
    let rig = Rig::of(vec![ext4()]).await;
    for verb in [Verb::Stop, Verb::Kill] {
        rig.expect(Verb::Start, AgentResult::Ok).await;
        // An open file, a working directory that ignores SIGTERM, and a namespace of its own.
        sh(&format!(
            "sleep 1001 > {AT}/file 2>&1 < /dev/null &
             (cd {AT}; trap '' TERM; exec sleep 1002) > /dev/null 2>&1 < /dev/null &
             unshare -m --propagation private sleep 1003 > /dev/null 2>&1 < /dev/null &"
        ));
        let running = || sh("pgrep -fx 'sleep 100[123]' | wc -l") == "3";
        until("all hold it", running).await;
        rig.expect(verb, AgentResult::Ok).await;
        assert_eq!(sh("pgrep -fx 'sleep 100[12]' || true"), "");
        if verb == Verb::Stop {
            assert_eq!(sh("pgrep -fx 'sleep 1003' || true"), "");
            sh(&format!("e2fsck -p {DEVICE}"));
        }
        sh("pkill -KILL -fx 'sleep 1003' || true");
        rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    }
}

#[tokio::test]
async fn what_cannot_be_mounted_says_why() {
    if !inside() {
        return;
    }
    let missing = Class::Mount {
        device: "/dev/none".to_owned(),
        directory: AT.to_owned(),
        fstype: "ext4".to_owned(),
        options: String::new(),
    };
    sh(&format!("umount {AT} 2>/dev/null || true; dd if=/dev/zero of={DEVICE} bs=1M count=4 status=none"));
    let rig = Rig::of(vec![ext4(), missing]).await;
    let broken = rig.expect(Verb::Start, AgentResult::Failed).await;
    assert!(broken.reason.contains(DEVICE), "{}", broken.reason);
    let none = rig.perform_on(1, Verb::Start, 30).await;
    assert!(none.result == AgentResult::Failed && none.reason.contains("/dev/none"), "{}", none.reason);

    format();
    sh(&format!("mkdir -p {AT}; mount -t tmpfs none {AT}"));
    let taken = rig.expect(Verb::Start, AgentResult::Failed).await;
    assert!(taken.reason.contains("tmpfs"), "{}", taken.reason);
    sh(&format!("umount {AT}"));

    // A file system that the kernel has found errors in is repaired first.
    sh(&format!("debugfs -w -R 'ssv state 2' {DEVICE} 2>/dev/null"));
    rig.expect(Verb::Start, AgentResult::Ok).await;
    assert!(sh(&format!("dumpe2fs -h {DEVICE} 2>/dev/null | grep 'Filesystem state'")).ends_with("clean"));
    rig.expect(Verb::Stop, AgentResult::Ok).await;
}

#[tokio::test]
async fn a_full_file_system_is_told_and_explains_the_failures_of_services() {
    if !inside() {
        return;
    }
    format();
    let broken = Class::Systemd { unit: "t-full.service".to_owned(), check: None };
    std::fs::write(
        "/run/systemd/system/t-full.service",
        format!(
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo some words > {AT}/new; sync {AT}/new'\n"
        ),
    )
    .expect("write the unit");
    sh("systemctl daemon-reload");
    let rig = Rig::of(vec![ext4(), broken]).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    sh(&format!("dd if=/dev/zero of={AT}/big bs=64k status=none 2>/dev/null || true"));
    let looked = rig.expect(Verb::Monitor, AgentResult::Ok).await;
    assert!(looked.reason.contains("no space left"), "{}", looked.reason);
    let failed = rig.perform_on(1, Verb::Start, 30).await;
    assert_eq!(failed.result, AgentResult::FileSystem, "{}", failed.reason);
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    rig.agents.release().await;
    sh("systemctl reset-failed");
}

#[tokio::test]
async fn a_folder_is_shown_at_another_place() {
    if !inside() {
        return;
    }
    format();
    let bind = Class::Bind { source: format!("{AT}/www"), directory: "/srv/www".to_owned() };
    let rig = Rig::of(vec![ext4(), bind]).await;
    rig.expect(Verb::Start, AgentResult::Ok).await;
    let early = rig.perform_on(1, Verb::Start, 30).await;
    assert!(
        early.result == AgentResult::Failed && early.reason.contains("no such folder"),
        "{}",
        early.reason
    );
    sh(&format!("mkdir {AT}/www; echo shown > {AT}/www/page"));
    for _ in 0..2 {
        assert_eq!(rig.perform_on(1, Verb::Start, 30).await.result, AgentResult::Ok);
    }
    assert_eq!(sh("cat /srv/www/page"), "shown");
    assert_eq!(rig.perform_on(1, Verb::Monitor, 30).await.result, AgentResult::Ok);
    sh("(cd /srv/www; exec sleep 1004) > /dev/null 2>&1 < /dev/null &");
    until("it holds it", || !sh("pgrep -fx 'sleep 1004' || true").is_empty()).await;
    assert_eq!(rig.perform_on(1, Verb::Stop, 30).await.result, AgentResult::Ok);
    assert!(!Path::new("/srv/www/page").exists());
    assert_eq!(sh("pgrep -fx 'sleep 1004' || true"), "");
    rig.expect(Verb::Stop, AgentResult::Ok).await;
}
