//! The file of known host keys, read as sshd(8) describes it and answered strictly.
//!
//! Plain, wildcard, negated, `[host]:port` and hashed names are understood. A revoked key is refused, a key
//! of another kind than the recorded ones counts as changed, and a line that cannot be read never makes a
//! host trusted. Entries of certificate authorities are not supported and say so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::{Algorithm, PublicKey};
use sha1::Sha1;

/// What the file says about a key that a host presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This key is recorded for this host.
    Known,
    /// Nothing is recorded for this host.
    Unknown,
    /// Other keys are recorded; this is the first of them, preferably one of the same kind.
    Changed { line: usize, recorded: Box<PublicKey> },
    /// The key is marked as revoked.
    Revoked { line: usize },
    /// Only a certificate authority is recorded for this host.
    Authority { line: usize },
    /// A line for this host cannot be read, and no other one knows the key.
    Unreadable { line: usize },
}

/// A line of the file that concerns the host.
struct Entry {
    line: usize,
    marker: Marker,
    key: Option<PublicKey>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

/// How a host is called in the file: plain on port 22, `[host]:port` on others.
pub(super) fn name_of(address: &str, port: u16) -> String {
    let address = address.to_ascii_lowercase();
    if port == 22 { address } else { format!("[{address}]:{port}") }
}

/// Judges a presented key.
pub(super) fn judge(text: &str, name: &str, presented: &PublicKey) -> Verdict {
    let entries = entries(text, name);
    let same = |entry: &&Entry| entry.key.as_ref().is_some_and(|key| key.key_data() == presented.key_data());
    if let Some(Entry { line, .. }) = entries.iter().filter(same).find(|e| e.marker == Marker::Revoked) {
        return Verdict::Revoked { line: *line };
    }
    if entries.iter().filter(same).any(|entry| entry.marker == Marker::None) {
        return Verdict::Known;
    }
    let plain = || entries.iter().filter(|entry| entry.marker == Marker::None);
    let keys = || plain().filter_map(|entry| Some((entry.line, entry.key.as_ref()?)));
    let same_kind = keys().find(|(_, key)| same_algorithm(&key.algorithm(), &presented.algorithm()));
    if let Some((line, key)) = same_kind.or_else(|| keys().next()) {
        return Verdict::Changed { line, recorded: Box::new(key.clone()) };
    }
    if let Some(Entry { line, .. }) = plain().next() {
        return Verdict::Unreadable { line: *line };
    }
    match entries.iter().find(|entry| entry.marker == Marker::Authority) {
        Some(Entry { line, .. }) => Verdict::Authority { line: *line },
        None => Verdict::Unknown,
    }
}

/// The algorithms to ask the server for, those of recorded keys first, so that it shows a key that is known.
pub(super) fn preferred(text: &str, name: &str, all: &[Algorithm]) -> Vec<Algorithm> {
    let entries = entries(text, name);
    let recorded = |algorithm: &Algorithm| {
        entries.iter().filter_map(|e| e.key.as_ref()).any(|key| same_algorithm(&key.algorithm(), algorithm))
    };
    let (mut first, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(recorded);
    first.extend(rest);
    first
}

/// Adds a key durably; the file and its folder are made when missing, readable by their owner only.
pub(super) fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // Two hosts may be recorded at the same time.
    file.lock()?;
    let whole = if ends_inside_a_line(&mut file)? { format!("\n{line}\n") } else { format!("{line}\n") };
    file.write_all(whole.as_bytes())?;
    file.sync_all()
}

fn ends_inside_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn entries(text: &str, name: &str) -> Vec<Entry> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| entry(line, name).map(|e| Entry { line: index + 1, ..e })).collect()
}

fn entry(line: &str, name: &str) -> Option<Entry> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut word = words.next()?;
    let marker = match word {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::Authority,
        _ => Marker::None,
    };
    if marker != Marker::None {
        word = words.next()?;
    }
    if !names_match(word, name) {
        return None;
    }
    let key = words.next().zip(words.next());
    let key = key.and_then(|(kind, data)| PublicKey::from_openssh(&format!("{kind} {data}")).ok());
    Some(Entry { line: 0, marker, key })
}

fn names_match(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return hash_matches(hashed, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(excluded) if glob(excluded.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= glob(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

fn hash_matches(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&Base64::decode_vec(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&Base64::decode_vec(hash).ok()?).is_ok())
}

/// `*` and `?`, without regard to case. Remembers only the last star, so that a hostile pattern costs no
/// more than the product of both lengths.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

/// The kind of key, whatever the hash that is used with it.
fn same_algorithm(a: &Algorithm, b: &Algorithm) -> bool {
    matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. })) || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKoakSZKiKIn8S+dLdvfhvU5wBDlhaNLxqLDNREyodxL";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMI7/aSoV1VlzpB+FwDrvZAb7Zqx3Ow4pMDT8tAkyzh8";
    const EC: &str = concat!(
        "ecdsa-sha2-nistp256 ",
        "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBncKGYU",
        "0wZsCCK/kcq/3LXCqoXQhOvdvYlpjTCFsi3SqFy0WspwLbFLcVNwGPS9ncgPkgDRJzCmMQR62uudIQU="
    );

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn judged(file: &str, name: &str) -> Verdict {
        judge(file, name, &key(A))
    }

    #[test]
    fn plain_listed_wildcard_and_port_names_are_understood() {
        for names in ["ha-a", "x,ha-a", "HA-A", "ha-?", "*", "h*a", "*,!other"] {
            assert_eq!(judged(&format!("{names} {A} comment"), "ha-a"), Verdict::Known, "{names}");
        }
        for names in ["ha-b", "*,!ha-a", "!ha-a,ha-a", "ha-a.example.com", "ha-??", "[ha-a]:2222"] {
            assert_eq!(judged(&format!("{names} {A}"), "ha-a"), Verdict::Unknown, "{names}");
        }
        assert_eq!(judged(&format!("[10.0.0.1]:2222 {A}"), &name_of("10.0.0.1", 2222)), Verdict::Known);
        assert_eq!(judged(&format!("10.0.0.1\t{A}"), &name_of("10.0.0.1", 22)), Verdict::Known);
    }

    #[test]
    fn hashed_names_are_understood() {
        // Made by `ssh-keygen -H`.
        let line = format!("|1|8ZibxsTG50BJo/0wbIhMsaYOMnk=|IlIoQp6wK9VycKcW4CDndoLZaTY= {A}");
        assert_eq!(judged(&line, "192.0.2.7"), Verdict::Known);
        assert_eq!(judged(&line, "192.0.2.8"), Verdict::Unknown);
        assert_eq!(judged(&line.replace('|', "!"), "192.0.2.7"), Verdict::Unknown);
    }

    #[test]
    fn another_key_is_a_change_and_names_the_line_with_comments_counted() {
        let file = format!("# first\n\nha-a {EC}\nha-a {B}\n");
        let Verdict::Changed { line, recorded } = judged(&file, "ha-a") else { panic!("not a change") };
        assert_eq!((line, *recorded), (4, key(B)));
    }

    #[test]
    fn a_key_of_another_kind_is_a_change_not_an_unknown_host() {
        assert!(matches!(judged(&format!("ha-a {EC}"), "ha-a"), Verdict::Changed { line: 1, .. }));
    }

    #[test]
    fn revoked_wins_over_known_and_authorities_and_damage_never_trust() {
        assert_eq!(judged(&format!("ha-a {A}\n@revoked * {A}"), "ha-a"), Verdict::Revoked { line: 2 });
        assert_eq!(
            judged(&format!("@cert-authority *.example.com,ha-a {A}"), "ha-a"),
            Verdict::Authority { line: 1 }
        );
        assert_eq!(judged("ha-a ssh-ed25519 AAAAnonsense", "ha-a"), Verdict::Unreadable { line: 1 });
        assert_eq!(judged(&format!("ha-a ssh-ed25519 AAAA\nha-a {A}"), "ha-a"), Verdict::Known);
    }

    #[test]
    fn recorded_kinds_of_key_are_asked_for_first() {
        let all = [Algorithm::Ed25519, key(EC).algorithm(), Algorithm::Rsa { hash: None }];
        assert_eq!(preferred(&format!("ha-a {EC}"), "ha-a", &all)[0], key(EC).algorithm());
        assert_eq!(preferred("", "ha-a", &all), all);
    }

    #[test]
    fn appending_makes_a_private_file_and_never_joins_lines() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".ssh/known_hosts");
        append(&path, "one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "without end").unwrap();
        append(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "without end\ntwo\n");
    }

    #[test]
    fn a_pattern_of_many_stars_costs_little() {
        assert!(!glob("*a".repeat(200).as_bytes(), "a".repeat(199).as_bytes()));
        assert!(glob("*a".repeat(200).as_bytes(), "a".repeat(200).as_bytes()));
    }
}
