//! A package source with the key that it is signed by: deb822 for apt, a .repo file for dnf.
//!
//! The lists of packages count as old afterwards: the next task that installs something reads them again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use serde::Deserialize;

use super::attributes::{self, Wanted};
use super::context::{Context, joined};
use super::error::Error;
use super::package::{self, Tool};
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use super::{Module, copy, file};
use crate::protocol::Outcome;

const MODE: u32 = 0o644;
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const APT_SOURCES: &str = "etc/apt/sources.list.d";
const APT_KEYS: &str = "etc/apt/keyrings";
const DNF_SOURCES: &str = "etc/yum.repos.d";
const DNF_KEYS: &str = "etc/pki/rpm-gpg";
const WAYS: &[&str] = &["http://", "https://", "file:/", "copy:/", "cdrom:", "mirror", "tor+http", "ftp://"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: String,
    #[serde(default)]
    uris: Vec<String>,
    #[serde(default)]
    suites: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    architectures: Vec<String>,
    types: Option<Vec<String>>,
    key: Option<String>,
    key_base64: Option<String>,
    signed_by: Option<PathBuf>,
    description: Option<String>,
    enabled: Option<bool>,
    #[serde(default)]
    state: State,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "repository",
        summary: "Keeps a package source with its key, for apt or dnf; the next package task reads its lists.",
        returns: &[],
        example: "\
- name: Packages of our own
  repository:
    name: example
    uris: https://packages.example.com/debian/
    suites: bookworm
    components: main
    signed_by: /usr/share/keyrings/example.gpg
",
        keys: &[
            Schema::must("name", Kind::Text, "its name, also that of its file"),
            Schema::may("uris", Kind::TextList, "where it is; needed unless absent"),
            Schema::may("suites", Kind::TextList, "for apt: such as bookworm, or a folder, such as ./"),
            Schema::may("components", Kind::TextList, "for apt: such as main"),
            Schema::may(
                "architectures",
                Kind::TextList,
                "for apt: such as amd64 (default: those of the host)",
            ),
            Schema::may("types", Kind::TextList, "for apt: deb (default), deb-src"),
            Schema::may(
                "key",
                Kind::Text,
                "the key that signs it, as text (-----BEGIN PGP PUBLIC KEY BLOCK-----)",
            ),
            Schema::may("key_base64", Kind::Text, "the key in base64, instead of key"),
            Schema::may("signed_by", Kind::Path, "a file of keys that is on the host, instead of key"),
            Schema::may("description", Kind::Text, "for dnf: what it is (default: its name)"),
            Schema::may("enabled", Kind::Bool, "packages come from it (default: true)"),
            Schema::may(
                "state",
                Kind::Choice(&["present", "absent"]),
                "present (default) or absent, with its key",
            ),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.name.is_empty() || self.name.starts_with(['.', '-']) || !self.name.chars().all(fits) {
            let message = format!("\"{}\" is not a name of a file; use letters, digits, - and _", self.name);
            errors.push(ArgError::at("name", message));
        }
        let keys = [self.key.is_some(), self.key_base64.is_some(), self.signed_by.is_some()];
        if keys.iter().filter(|is_given| **is_given).count() > 1 {
            errors.push(ArgError::whole("module repository takes one of key, key_base64 and signed_by"));
        }
        if self.state == State::Present && self.uris.is_empty() {
            errors.push(ArgError::at(
                "uris",
                "module repository needs the argument \"uris\" with state present",
            ));
        }
        let is_uri = |uri: &&String| WAYS.iter().any(|way| uri.starts_with(way)) || *uri == "unknown";
        errors.extend(self.uris.iter().filter(|uri| !is_uri(uri)).map(|uri| {
            ArgError::at(
                "uris",
                format!("\"{uri}\" is not a place of packages; write it as https://example.com/debian"),
            )
        }));
        let lists = [
            ("uris", &self.uris),
            ("suites", &self.suites),
            ("components", &self.components),
            ("architectures", &self.architectures),
        ];
        for (key, words) in lists {
            let wrong = words.iter().filter(|word| word.is_empty() || word.contains(char::is_whitespace));
            errors.extend(
                wrong.map(|word| ArgError::at(key, format!("\"{word}\" is not one word; write a list"))),
            );
        }
        errors.extend(self.suite_errors());
        if let Some(kind) =
            self.types.iter().flatten().find(|kind| !["deb", "deb-src"].contains(&kind.as_str()))
        {
            errors.push(ArgError::at("types", format!("\"{kind}\" is neither deb nor deb-src")));
        }
        if self.key.as_deref().is_some_and(|key| !key.trim_start().starts_with(ARMOR) && key != "unknown") {
            let message = format!("argument \"key\" of module repository must begin with {ARMOR}");
            errors.push(ArgError::at("key", message));
        }
        if self.key_base64.as_deref().is_some_and(|key| Base64::decode_vec(key).is_err() && key != "unknown")
        {
            errors.push(ArgError::at(
                "key_base64",
                "argument \"key_base64\" of module repository is not base64",
            ));
        }
        if self.description.as_deref().is_some_and(|text| text.contains('\n')) {
            errors.push(ArgError::at(
                "description",
                "argument \"description\" of module repository must be one line",
            ));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        self.bring(package::tool()?, Path::new("/"), context)
    }
}

impl Args {
    /// A folder as suite has no components, all others have some.
    fn suite_errors(&self) -> Vec<ArgError> {
        let folders = self.suites.iter().filter(|suite| suite.ends_with('/')).count();
        let message = match (folders, self.suites.len(), self.components.is_empty()) {
            (0, 0, true) => return Vec::new(),
            (0, 0, false) => "module repository takes components with suites only",
            (0, _, true) => "module repository needs components with suites, such as main",
            (0, _, false) => return Vec::new(),
            (folders, all, true) if folders == all => return Vec::new(),
            _ => "module repository takes no components with a folder as suite",
        };
        vec![ArgError::whole(message)]
    }

    fn bring(&self, tool: Tool, root: &Path, context: &Context) -> Result<Outcome, Error> {
        let file = root.join(match tool {
            Tool::Apt => format!("{APT_SOURCES}/{}.sources", self.name),
            Tool::Dnf => format!("{DNF_SOURCES}/{}.repo", self.name),
        });
        // Before the change: a run that is killed after it must not leave lists that count as read.
        if !context.check && tool == Tool::Apt {
            let mut ignore = |_| {};
            let plan = Context::new(true, false, &mut ignore);
            if joined(self.parts(tool, root, &file, &plan)?).changed {
                package::lists_are_old(root)?;
            }
        }
        Ok(joined(self.parts(tool, root, &file, context)?))
    }

    fn parts(&self, tool: Tool, root: &Path, file: &Path, context: &Context) -> Result<Vec<Outcome>, Error> {
        match self.state {
            State::Present => self.add(tool, root, file, context),
            State::Absent => {
                let mut paths = vec![file.to_owned()];
                paths.extend([true, false].map(|armored| root.join(self.key_file(tool, armored))));
                paths.dedup();
                paths.iter().map(|path| remove(path, context)).collect()
            }
        }
    }

    fn add(&self, tool: Tool, root: &Path, file: &Path, context: &Context) -> Result<Vec<Outcome>, Error> {
        if tool == Tool::Apt && self.suites.is_empty() {
            let what = format!("add the repository {}: it has no suites, and this host uses apt", self.name);
            return Err(Error::refused(
                what,
                "write suites, such as bookworm, or ./ for a folder of packages",
            ));
        }
        let wanted = Wanted { mode: Some(MODE), ..Wanted::default() };
        let mut parts = Vec::new();
        // The key comes first: a source without it would be refused by whoever reads it in between.
        if let Some((key, armored)) = self.key()? {
            let path = root.join(self.key_file(tool, armored));
            if let Some(folder) = path.parent().filter(|folder| !context.check && !folder.exists()) {
                std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            }
            parts.push(copy::place(&path, &key, wanted, context)?);
        }
        let text = match tool {
            Tool::Apt => self.sources(),
            Tool::Dnf => self.repo(),
        };
        parts.push(copy::place(file, text.as_bytes(), wanted, context)?);
        Ok(parts)
    }

    /// The key and whether it is text.
    fn key(&self) -> Result<Option<(Vec<u8>, bool)>, Error> {
        if let Some(text) = &self.key {
            return Ok(Some((format!("{}\n", text.trim()).into_bytes(), true)));
        }
        let Some(text) = &self.key_base64 else { return Ok(None) };
        let bytes =
            Base64::decode_vec(text).map_err(|error| Error::Args(format!("read key_base64: {error}")))?;
        let armored = bytes.trim_ascii_start().starts_with(ARMOR.as_bytes());
        Ok(Some((bytes, armored)))
    }

    /// Where the key is on the host, without the first `/`.
    fn key_file(&self, tool: Tool, armored: bool) -> String {
        match tool {
            // apt tells both kinds by their names.
            Tool::Apt => format!("{APT_KEYS}/{}.{}", self.name, if armored { "asc" } else { "gpg" }),
            Tool::Dnf => format!("{DNF_KEYS}/RPM-GPG-KEY-{}", self.name),
        }
    }

    /// The file of keys that the source names.
    fn signed_by(&self, tool: Tool) -> Option<String> {
        if let Some(path) = &self.signed_by {
            return Some(path.display().to_string());
        }
        let (_, armored) = self.key().ok().flatten()?;
        Some(format!("/{}", self.key_file(tool, armored)))
    }

    /// deb822, as sources.list(5) describes it.
    fn sources(&self) -> String {
        let types = self.types.as_deref().map_or_else(|| "deb".to_owned(), |types| types.join(" "));
        let mut text = String::new();
        let mut field = |name: &str, value: &str| {
            if !value.is_empty() {
                // Writing into a text cannot fail.
                let _ = writeln!(text, "{name}: {value}");
            }
        };
        field("Types", &types);
        field("URIs", &self.uris.join(" "));
        field("Suites", &self.suites.join(" "));
        field("Components", &self.components.join(" "));
        field("Architectures", &self.architectures.join(" "));
        field("Signed-By", &self.signed_by(Tool::Apt).unwrap_or_default());
        if self.enabled == Some(false) {
            field("Enabled", "no");
        }
        text
    }

    /// As dnf.conf(5) describes it. Packages must be signed, by this key or by one that the host knows.
    fn repo(&self) -> String {
        let description = self.description.as_deref().unwrap_or(&self.name);
        let enabled = u8::from(self.enabled.unwrap_or(true));
        let mut text = format!(
            "[{}]\nname={description}\nbaseurl={}\nenabled={enabled}\ngpgcheck=1\n",
            self.name,
            self.uris.join(" ")
        );
        if let Some(path) = self.signed_by(Tool::Dnf) {
            let _ = writeln!(text, "gpgkey=file://{path}");
        }
        text
    }
}

fn remove(path: &Path, context: &Context) -> Result<Outcome, Error> {
    file::absent(path, attributes::look(path)?.as_ref(), context)
}

#[cfg(test)]
mod tests {
    use super::super::testing::mistakes;
    use super::*;
    use serde_json::{Value, json};
    use std::fs;
    use tempfile::TempDir;

    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ\n-----END PGP PUBLIC KEY BLOCK-----\n";

    fn host() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in [APT_SOURCES, DNF_SOURCES] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        root
    }

    fn run(root: &TempDir, tool: Tool, args: &Value, check: bool) -> Outcome {
        let args: Args = super::super::parse(args.as_object().unwrap()).unwrap();
        args.bring(tool, root.path(), &Context::new(check, true, &mut |_| {})).unwrap()
    }

    fn converges(root: &TempDir, tool: Tool, args: &Value) -> Outcome {
        let planned = run(root, tool, args, true);
        let done = run(root, tool, args, false);
        assert!(planned.changed && done.changed, "{args}");
        for check in [true, false] {
            assert!(!run(root, tool, args, check).changed, "again {args}");
        }
        done
    }

    fn shop() -> Value {
        json!({
            "name": "shop", "uris": "https://packages.example.com/debian", "suites": "bookworm",
            "components": ["main", "contrib"], "key": KEY,
        })
    }

    #[test]
    fn apt_gets_a_source_in_deb822_with_its_key() {
        let root = host();
        converges(&root, Tool::Apt, &shop());
        assert_eq!(
            fs::read_to_string(root.path().join("etc/apt/sources.list.d/shop.sources")).unwrap(),
            "Types: deb\nURIs: https://packages.example.com/debian\nSuites: bookworm\nComponents: main contrib\n\
             Signed-By: /etc/apt/keyrings/shop.asc\n"
        );
        assert_eq!(fs::read_to_string(root.path().join("etc/apt/keyrings/shop.asc")).unwrap(), KEY);
        converges(&root, Tool::Apt, &json!({"name": "shop", "state": "absent"}));
        assert!(!root.path().join("etc/apt/keyrings/shop.asc").exists());
        assert!(!root.path().join("etc/apt/sources.list.d/shop.sources").exists());
    }

    #[test]
    fn dnf_gets_a_repo_file_with_its_key() {
        let root = host();
        converges(&root, Tool::Dnf, &shop());
        assert_eq!(
            fs::read_to_string(root.path().join("etc/yum.repos.d/shop.repo")).unwrap(),
            "[shop]\nname=shop\nbaseurl=https://packages.example.com/debian\nenabled=1\ngpgcheck=1\n\
             gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-shop\n"
        );
        converges(&root, Tool::Dnf, &json!({"name": "shop", "state": "absent"}));
    }

    #[test]
    fn a_binary_key_and_one_that_is_on_the_host_are_named_by_the_source() {
        let root = host();
        let source = || fs::read_to_string(root.path().join("etc/apt/sources.list.d/x.sources")).unwrap();
        let mut args = json!({"name": "x", "uris": "http://x", "suites": "./", "key_base64": "mQENBA=="});
        converges(&root, Tool::Apt, &args);
        assert!(source().ends_with("Suites: ./\nSigned-By: /etc/apt/keyrings/x.gpg\n"), "{}", source());
        assert_eq!(fs::read(root.path().join("etc/apt/keyrings/x.gpg")).unwrap(), [0x99, 1, 13, 4]);
        args.as_object_mut().unwrap().remove("key_base64");
        args["signed_by"] = json!("/usr/share/keyrings/x.gpg");
        args["enabled"] = json!(false);
        converges(&root, Tool::Apt, &args);
        assert!(source().ends_with("Signed-By: /usr/share/keyrings/x.gpg\nEnabled: no\n"), "{}", source());
    }

    #[test]
    fn the_lists_count_as_old_after_a_change_and_only_then() {
        let root = host();
        assert!(!package::are_lists_old(root.path()));
        run(&root, Tool::Apt, &shop(), true);
        assert!(!package::are_lists_old(root.path()), "a plan leaves nothing behind");
        run(&root, Tool::Apt, &shop(), false);
        assert!(package::are_lists_old(root.path()));
        package::lists_are_new(root.path()).unwrap();
        run(&root, Tool::Apt, &shop(), false);
        assert!(!package::are_lists_old(root.path()), "nothing was changed");
    }

    #[test]
    fn apt_needs_suites() {
        let root = host();
        let args: Args =
            super::super::parse(json!({"name": "x", "uris": "http://x"}).as_object().unwrap()).unwrap();
        let error = args.bring(Tool::Apt, root.path(), &Context::new(true, true, &mut |_| {})).unwrap_err();
        assert_eq!(error.to_string(), "add the repository x: it has no suites, and this host uses apt");
    }

    #[test]
    fn wrong_arguments_are_told_before_contact() {
        let uris = "https://x/y";
        let cases = [
            (
                json!({"name": "a/b", "uris": uris}),
                "\"a/b\" is not a name of a file; use letters, digits, - and _",
            ),
            (json!({"name": "a"}), "module repository needs the argument \"uris\" with state present"),
            (
                json!({"name": "a", "uris": "example.com"}),
                "\"example.com\" is not a place of packages; write it as https://example.com/debian",
            ),
            (json!({"name": "a", "uris": "http://x y"}), "\"http://x y\" is not one word; write a list"),
            (
                json!({"name": "a", "uris": uris, "key": KEY, "signed_by": "/k"}),
                "module repository takes one of key, key_base64 and signed_by",
            ),
            (
                json!({"name": "a", "uris": uris, "suites": "stable"}),
                "module repository needs components with suites, such as main",
            ),
            (
                json!({"name": "a", "uris": uris, "suites": "./", "components": "main"}),
                "module repository takes no components with a folder as suite",
            ),
            (
                json!({"name": "a", "uris": uris, "components": "main"}),
                "module repository takes components with suites only",
            ),
            (json!({"name": "a", "uris": uris, "types": "rpm"}), "\"rpm\" is neither deb nor deb-src"),
            (
                json!({"name": "a", "uris": uris, "key": "mQ"}),
                "argument \"key\" of module repository must begin with -----BEGIN PGP PUBLIC KEY BLOCK-----",
            ),
            (
                json!({"name": "a", "uris": uris, "key_base64": "?"}),
                "argument \"key_base64\" of module repository is not base64",
            ),
            (
                json!({"name": "a", "baseurl": uris, "uris": uris}),
                "module repository has no argument \"baseurl\"; did you mean \"uris\"?",
            ),
        ];
        for (args, wanted) in cases {
            assert_eq!(mistakes("repository", args.clone()), [wanted], "{args}");
        }
    }
}
