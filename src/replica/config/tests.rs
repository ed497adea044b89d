//! Whole files: what good ones mean, and the exact messages for broken ones (`cases/`).
//!
//! `FUTAGO_BLESS=1 cargo test -p replica config` writes the expectations anew; read the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cases").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "res")).collect();
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    files
}

fn compare(case: &Path, actual: &str) {
    let expected = case.with_extension("expected");
    if std::env::var_os("FUTAGO_BLESS").is_some() {
        fs::write(&expected, actual).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_else(|e| panic!("read {}: {e}", expected.display()));
    assert!(wanted == actual, "{}\n--- expected\n{wanted}\n--- actual\n{actual}", case.display());
}

fn parse_case(case: &Path) -> Result<Parsed, Vec<ConfigError>> {
    parse(case.file_name().unwrap().to_str().unwrap(), &fs::read_to_string(case).unwrap())
}

fn show(parsed: &Parsed) -> String {
    let mut out = String::new();
    for Resource { name, volume, minor, device, hosts, handlers, at } in &parsed.resources {
        writeln!(out, "{at}: {name} volume {volume} {device} minor {minor}").unwrap();
        for Host { name, node_id, address, disk, undo_file, options: o } in hosts {
            writeln!(out, "  {name} node-id {node_id} {address} {disk}").unwrap();
            let ping = format!("ping {} / {} ms", o.ping_interval_ms, o.ping_timeout_ms);
            let request = format!("request {} ms x {}", o.timeout_ms, o.ko_count);
            let rest = format!("connect {} ms, al {}", o.connect_interval_ms, o.al_extents);
            writeln!(out, "    {ping}, {request}, {rest}, resync {} KiB/s", o.resync_rate_kib).unwrap();
            if undo_file.is_some() || o.undo != DEFAULTS.undo {
                writeln!(out, "    undo {:?} {undo_file:?}", o.undo).unwrap();
            }
            if o.calls_local_io_error {
                writeln!(out, "    calls local-io-error").unwrap();
            }
        }
        for (handler, command) in handlers {
            writeln!(out, "  {}: {command}", handler.as_str()).unwrap();
        }
    }
    for include in &parsed.includes {
        writeln!(out, "{}: include {}", include.at, include.pattern).unwrap();
    }
    for note in &parsed.notes {
        writeln!(out, "{note}").unwrap();
    }
    out
}

#[test]
fn good_files_mean_what_is_expected() {
    for case in cases("good") {
        compare(&case, &show(&parse_case(&case).unwrap_or_else(|e| panic!("{}: {e:#?}", case.display()))));
    }
}

#[test]
fn every_mistake_of_a_broken_file_is_reported_with_its_exact_message() {
    for case in cases("broken") {
        let errors = parse_case(&case).expect_err(&case.display().to_string());
        compare(&case, &errors.iter().fold(String::new(), |text, e| format!("{text}{e}\n")));
    }
}

const PAIR: &str = "resource r0 { device /dev/drbd1; disk /dev/vdb1;
    on ha-a { node-id 4; address 10.0.0.1:7789; disk { al-extents 67; disk-timeout 30; } }
    on ha-b { node-id 2; address 10.0.0.2:7790; } }";

#[test]
fn each_host_sees_the_resource_from_its_own_side() {
    let parsed = parse("r0.res", PAIR).unwrap();
    let b = parsed.resource("r0").unwrap().for_node("ha-b").unwrap();
    assert_eq!((b.settings.node_id, b.settings.peer_node_id), (2, 4));
    assert_eq!((b.settings.node.as_str(), b.settings.peer.as_str()), ("ha-b", "ha-a"));
    assert_eq!((b.address.port(), b.peer_address.port()), (7790, 7789));
    assert_eq!((b.settings.al_extents, b.settings.request_timeout_ms), (1237, 42_000));
    assert!(b.settings.dials());
    let a = parsed.resource("r0").unwrap().for_node("ha-a").unwrap();
    assert_eq!(a.settings.al_extents, 67);
    assert_eq!((a.settings.disk_timeout_ms, b.settings.disk_timeout_ms), (3000, 60_000));
    assert!(!a.settings.dials());
}

#[test]
fn a_foreign_host_gets_the_sentence_of_drbdadm_and_the_reason() {
    let parsed = parse("r0.res", PAIR).unwrap();
    let error = parsed.resource("r0").unwrap().for_node("ha-a.example.com").unwrap_err();
    assert_eq!(
        error.to_string(),
        "'r0' not defined in your config (for this host).\n  \
         r0.res:1:1: r0 is defined for ha-a and ha-b; this host is \"ha-a.example.com\"\n  \
         the names after \"on\" must equal what \"uname -n\" prints"
    );
}

#[test]
fn common_of_another_file_holds_for_all_resources() {
    let common = "common { net { ping-int 7; } disk { al-extents 100; } }";
    let parsed = parse_files(&[("r0.res", PAIR), ("global_common.conf", common)]).unwrap();
    let [a, b] = &parsed.resource("r0").unwrap().hosts;
    assert_eq!((a.options.ping_interval_ms, b.options.ping_interval_ms), (7000, 7000));
    assert_eq!((a.options.al_extents, b.options.al_extents), (67, 100));
}

#[test]
fn resources_of_two_files_must_not_clash() {
    let errors = parse_files(&[("b.res", PAIR), ("a.res", PAIR)]).unwrap_err();
    let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = "a.res:1:1: \"resource r0\" is given twice\n  first given at b.res:1:1; keep one of them";
    assert_eq!(text, [expected]);
}

#[test]
fn reporting_stops_after_a_bounded_number_of_mistakes() {
    let errors = parse("x", &"x;\n".repeat(1000)).unwrap_err();
    assert_eq!(errors.len(), MAX_ERRORS + 1);
    assert_eq!(errors.last().unwrap().problem, Problem::TooMany);
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    assert!(parse("x", &"a {".repeat(200_000)).is_err());
}

fn words() -> impl Strategy<Value = String> {
    let pool = [
        "resource",
        "r0",
        "on",
        "a",
        "b",
        "volume",
        "0",
        "device",
        "/dev/drbd1",
        "disk",
        "/dev/vdb1",
        "{",
        "}",
        ";",
        "address",
        "ipv4",
        "ipv6",
        "[fd00::1]:1",
        "10.0.0.1:7789",
        "10.0.0.2:7789",
        "net",
        "ping-int",
        "1",
        "\"",
        "meta-disk",
        "internal",
        "connection",
        "host",
        "port",
        "path",
        "node-id",
        "common",
        "skip",
        "\n",
        "#",
        "\\",
        "handlers",
        "no-tcp-cork",
        "include",
        "connection-mesh",
        "hosts",
        "protocol",
        "C",
        "\u{3000}",
        "99999999999999",
    ];
    prop::collection::vec(prop::sample::select(pool.to_vec()), 0..120).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse("x", &text).map_err(|errors| errors.iter().map(ToString::to_string).count());
    }

    #[test]
    fn arbitrary_statements_never_panic_and_errors_have_places(text in words()) {
        if let Err(errors) = parse("x", &text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.at.line > 0 && error.at.column > 0);
                prop_assert!(error.to_string().contains("x:"));
            }
        }
    }

    #[test]
    fn a_changed_character_never_panics(at in 0..PAIR.len(), with in any::<char>()) {
        let mut text: Vec<char> = PAIR.chars().collect();
        text[at] = with;
        let _ = parse("x", &text.into_iter().collect::<String>());
    }
}

#[test]
fn every_option_is_on_the_page_for_users() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    for spec in options::TABLE {
        let named = page.contains(&format!("`{}`", spec.name)) || page.contains(&format!("`{} ", spec.name));
        assert!(named, "docs/configuration.md does not mention {}", spec.name);
    }
}
