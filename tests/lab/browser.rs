//! A real browser in the network of a lab: Debian's Chromium, driven by its own driver over WebDriver
//! (<https://www.w3.org/TR/webdriver2/>). It sees what a person sees, from where the lab's client stands.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Lab, output, succeeded, until};

/// Where the driver listens, in the lab's namespace: nothing else is there.
const PORT: u16 = 9515;
/// How WebDriver names a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with nothing in its memory; it goes away when dropped.
pub(crate) struct Browser {
    driver: Child,
    netns: PathBuf,
    session: String,
    profile: tempfile::TempDir,
}

/// Installs the browser where it is missing, as the lab installs what it needs.
fn install() {
    if Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success())
    {
        return;
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends", "chromium", "chromium-driver"]);
    succeeded(install);
}

impl Browser {
    /// Starts one to which `name` is the virtual address.
    pub(crate) fn open(lab: &Lab, name: &str, address: &str) -> Self {
        install();
        let netns = lab.netns();
        let profile = tempfile::tempdir().expect("make a folder");
        let mut driver = inside(&netns, "chromedriver");
        driver.arg(format!("--port={PORT}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = driver.spawn().expect("start chromedriver");
        let mut browser = Self { driver, netns, session: String::new(), profile };
        until("the driver of the browser answers", || browser.ask("GET", "/status", None).is_some());
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", browser.profile.path().display()),
            format!("--host-resolver-rules=MAP {name} {address}"),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let begun = browser.ask("POST", "/session", Some(&wanted)).expect("a session");
        browser.session = begun["sessionId"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
        browser
    }

    /// One request of WebDriver; `None` when the driver does not answer.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let mut curl = inside(&self.netns, "curl");
        curl.args(["--silent", "--max-time", "60", "--request", method]);
        if let Some(body) = body {
            curl.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
        }
        curl.arg(format!("http://127.0.0.1:{PORT}{path}"));
        let answer: Value = serde_json::from_slice(&output(curl).stdout).ok()?;
        Some(answer["value"].clone())
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.ask("POST", &path, Some(body)).unwrap_or_else(|| panic!("no answer to {path} {body}"))
    }

    /// Goes to a page and waits until it is loaded.
    pub(crate) fn visit(&self, url: &str) {
        let answer = self.post("/url", &json!({ "url": url }));
        assert!(answer.is_null(), "{url}: {answer}");
    }

    /// The first element that this selector fits, once it is there.
    fn element(&self, css: &str) -> String {
        let mut found = Value::Null;
        let what = format!("an element {css}");
        until(&what, || {
            found = self.post("/element", &json!({"using": "css selector", "value": css}));
            found[ELEMENT].is_string()
        });
        found[ELEMENT].as_str().expect("a reference").to_owned()
    }

    /// Types into a field; into one for files the path of a file.
    pub(crate) fn fill(&self, css: &str, text: &str) {
        let answer = self.post(&format!("/element/{}/value", self.element(css)), &json!({ "text": text }));
        assert!(answer.is_null(), "{css}: {answer}");
    }

    /// Clicks, and waits until what comes of it is loaded.
    pub(crate) fn click(&self, css: &str) {
        let answer = self.post(&format!("/element/{}/click", self.element(css)), &json!({}));
        assert!(answer.is_null(), "{css}: {answer}");
    }

    /// What a function of the page gives; it may be a promise.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression of the page is true; a page that cannot compute it yet is asked again.
    pub(crate) fn until(&self, what: &str, expression: &str) {
        let mut last = Value::Null;
        let shown = Shown(self);
        until(what, || {
            last = self.run(&format!("return Boolean({expression})"));
            last == Value::Bool(true)
        });
        drop(shown);
    }

    /// Keeps what is to be seen now as `target/browser/NAME.png`.
    pub(crate) fn picture(&self, name: &str) {
        let answer = self.ask("GET", &format!("/session/{}/screenshot", self.session), None);
        let encoded = answer.as_ref().and_then(Value::as_str).expect("a picture");
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/browser");
        fs::create_dir_all(&folder).expect("make a folder");
        let text = folder.join("picture.base64");
        fs::write(&text, encoded).expect("keep the picture");
        let mut decode = Command::new("base64");
        decode.arg("--decode").arg(&text);
        fs::write(folder.join(format!("{name}.png")), output(decode).stdout).expect("keep the picture");
        fs::remove_file(text).expect("remove what is not needed");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver is ended in any case.
        self.ask("DELETE", &format!("/session/{}", self.session), None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Tells what the browser shows when a test fails while this lives.
struct Shown<'a>(&'a Browser);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the browser shows: {}",
                self.0.run("return location.href + '\\n' + document.body.innerText")
            );
        }
    }
}

fn inside(netns: &std::path::Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns.display())).arg(program);
    command
}
