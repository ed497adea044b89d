//! The applications as people see them: what a browser shows before, and after each fault. With `FUTAGO_DRILLS=all` only, for it
//! installs a browser.

use std::fs;

use crate::browser::Browser;
use crate::harness::{Lab, every_drill, possible};
use crate::managed::{Managed, other};

const ADDRESS: &str = "203.0.113.10";
const NAME: &str = "ha.example.com";
/// Eight pixels wide.
const PICTURE: &[u8] = include_bytes!("twins.png");

/// A pair with one of the applications, made by one `apply`; a second one changes nothing.
fn pair(stack: &str) -> Managed {
    let lab = Lab::up(&["--witness", "--disk-size", "1G"]);
    let inventory = lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    fs::write(&inventory, format!("{text}\nstack: {stack}\n")).expect("write the inventory");
    lab.apply(&[]);
    let pair = Managed { lab };
    pair.until_protected();
    let said = pair.lab.apply(&[]);
    assert_eq!(said.matches("changed=0").count(), 3, "a second apply changes nothing: {said}");
    pair
}

/// A password that futago has made.
fn secret(pair: &Managed, name: &str) -> String {
    let file = pair.lab.folder().join(".futago/inventory.secrets.yml");
    let text = fs::read_to_string(file).expect("read the secrets");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect("the password");
    line.trim().trim_matches(['"', '\'']).to_owned()
}

/// Does one fault after the other; `look` sees the pair in good order after each.
fn after_each_fault(pair: &Managed, look: impl Fn(&str)) {
    look("at first");
    pair.cluster(pair.active(), "switchover");
    pair.until_protected();
    look("after a switchover");

    let lost = pair.active();
    pair.lab.run("power-off", &[lost]);
    pair.until("the other host serves", || pair.active_now() == Some(other(lost)));
    look("with one host lost");
    pair.restore();
    look("after a power loss");

    pair.lab.run_in(pair.active(), "systemctl kill --kill-whom=main --signal=KILL mariadb");
    pair.until_protected();
    look("after the database was killed");

    pair.lab.run("cut", &["local"]);
    pair.until_verdict(pair.active(), "DEGRADED");
    pair.restore();
    look("after the local segment was cut");
}

#[test]
fn zabbix_lets_its_administrator_in_and_shows_both_hosts_green_after_every_fault() {
    if !possible() || !every_drill() {
        return;
    }
    let pair = pair("zabbix");
    let password = secret(&pair, "zabbix_admin_password");
    after_each_fault(&pair, |when| {
        let browser = Browser::open(&pair.lab, NAME, ADDRESS);
        browser.visit(&format!("http://{ADDRESS}/zabbix/"));
        browser.fill("input#name", "Admin");
        browser.fill("input#password", &password);
        browser.click("button#enter");
        browser
            .until("the administrator is in", "document.querySelector('a.icon-signout, a[class*=signout]')");
        browser.visit(&format!("http://{ADDRESS}/zabbix/zabbix.php?action=host.view"));
        let green = if when == "with one host lost" { 1 } else { 2 };
        // The page looks again every 30 seconds by itself; Zabbix looks at each agent every minute.
        let lights =
            format!("document.querySelectorAll('.status-container .status-green').length >= {green}");
        browser.until(&format!("{green} hosts are green {when}"), &lights);
        browser.picture(&format!("zabbix {when}"));
        eprintln!("zabbix {when}: logged in, {green} hosts are green");
    });
}

#[test]
fn a_post_with_a_picture_made_in_a_browser_is_there_after_every_fault() {
    if !possible() || !every_drill() {
        return;
    }
    let pair = pair("wordpress");
    let site = format!("http://{NAME}");
    let password = secret(&pair, "wordpress_admin_password");
    let folder = tempfile::tempdir().expect("make a folder");
    let picture = folder.path().join("twins.png");
    fs::write(&picture, PICTURE).expect("write the picture");

    let browser = Browser::open(&pair.lab, NAME, ADDRESS);
    log_in(&browser, &site, &password);
    browser.visit(&format!("{site}/wp-admin/media-new.php?browser-uploader"));
    browser.fill("input#async-upload", picture.to_str().expect("a path of text"));
    browser.click("input#html-upload");
    browser.visit(&format!("{site}/wp-admin/post-new.php"));
    browser.until(
        "the editor is there",
        "window.wp && wp.data && wp.data.select('core/editor').getCurrentPostId()",
    );
    browser.run(
        "const [media] = await wp.apiFetch({path: '/wp/v2/media'});
         const image = `<!-- wp:image --><figure class=\"wp-block-image\"><img src=\"${media.source_url}\"/></figure><!-- /wp:image -->`;
         wp.data.dispatch('core/editor').editPost({title: 'Two of us', content: image, status: 'publish'});
         await wp.data.dispatch('core/editor').savePost();",
    );
    browser.until("the post is published", "wp.data.select('core/editor').isCurrentPostPublished()");
    drop(browser);

    after_each_fault(&pair, |when| {
        let browser = Browser::open(&pair.lab, NAME, ADDRESS);
        browser.visit(&format!("{site}/?s=Two+of+us"));
        browser.visit(
            browser.run("return document.querySelector('h2 a, h3 a').href").as_str().expect("the post"),
        );
        let shown = "document.title.includes('Two of us') && [...document.images].some(i => i.src.includes('twins') && i.naturalWidth == 8)";
        browser.until(&format!("the post and its picture are there {when}"), shown);
        browser.picture(&format!("wordpress {when}"));
        log_in(&browser, &site, &password);
        eprintln!("wordpress {when}: post and picture are there, admin logs in");
    });
}

fn log_in(browser: &Browser, site: &str, password: &str) {
    browser.visit(&format!("{site}/wp-login.php"));
    browser.fill("input#user_login", "admin");
    browser.fill("input#user_pass", password);
    browser.click("input#wp-submit");
    browser.until("the administrator is in", "document.querySelector('#wpadminbar')");
}
