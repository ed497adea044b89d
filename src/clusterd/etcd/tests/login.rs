//! A user of etcd: tokens, and passwords that are wrong.

use std::fs;
use std::sync::Mutex;

use serde_json::json;
use tempfile::TempDir;

use super::*;

const PASSWORD: &str = "tiger-and-dragon";

fn login(folder: &TempDir, password: &str) -> config::Login {
    let password_file = folder.path().join("password");
    fs::write(&password_file, format!("{password}\n")).unwrap();
    config::Login { user: "futago".to_owned(), password_file }
}

/// Knows one user, and the token that it gave last.
async fn etcd(stale: &'static str) -> (Fake, Arc<Mutex<u32>>) {
    let logins = Arc::new(Mutex::new(0));
    let given = Arc::clone(&logins);
    let fake = Fake::start(None, move |asked| {
        let mut given = given.lock().unwrap();
        if asked.path == "/v3/auth/authenticate" {
            *given += 1;
            return if asked.body == json!({ "name": "futago", "password": PASSWORD }) {
                (200, json!({ "header": {}, "token": format!("token.{given}") }))
            } else {
                fake::error(400, 3, "etcdserver: authentication failed, invalid user ID or password")
            };
        }
        if asked.headers["authorization"] == format!("token.{given}").as_str() {
            fake::changed(u64::from(*given))
        } else {
            fake::error(401, 16, stale)
        }
    })
    .await;
    (fake, logins)
}

#[tokio::test]
async fn a_token_is_used_until_it_is_over_and_then_renewed_with_the_same_question() {
    for stale in ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old"] {
        let folder = tempfile::tempdir().unwrap();
        let (fake, logins) = etcd(stale).await;
        let members = members_of(&[fake.url()], 10_000, None, Some(login(&folder, PASSWORD)));
        assert_eq!(members.answer(&change()).await, Answer::Changed(Revision(1)));
        assert_eq!(members.answer(&change()).await, Answer::Changed(Revision(1)));
        // As after a restart of etcd: it knows none.
        *logins.lock().unwrap() += 10;
        assert_eq!(members.answer(&change()).await, Answer::Changed(Revision(12)));
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it_and_not_tried_again_until_it_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (fake, logins) = etcd("etcdserver: invalid auth token").await;
    let members = members_of(&[fake.url()], 10_000, None, Some(login(&folder, "wrong-password")));
    for _ in 0..3 {
        assert_eq!(members.answer(&change()).await, Answer::NotDone);
        let told = told(&members);
        assert!(
            told.contains("does not log in \"futago\" with the password in")
                && !told.contains("wrong-password"),
            "{told}"
        );
        assert!(told.contains("invalid user ID or password"), "{told}");
    }
    assert_eq!(*logins.lock().unwrap(), 1);
    login(&folder, PASSWORD);
    assert_eq!(members.answer(&change()).await, Answer::Changed(Revision(2)));
}
