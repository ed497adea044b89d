//! Words to values: addresses, devices, paths, names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::raw::{Address, Device};

/// Largest minor number (DRBD's).
const MAX_MINOR: u32 = (1 << 20) - 1;

pub(super) const ADDRESS: &str =
    "ipv4 ADDRESS:PORT, for example ipv4 192.168.1.101:7789, or ipv6 [ADDRESS]:PORT";
pub(super) const DEVICE: &str = "/dev/drbdNUMBER, or /dev/NAME minor NUMBER, or minor NUMBER (up to 1048575)";
pub(super) const DISK: &str =
    "the absolute path of a partition, disk or logical volume, for example /dev/vdb1";
pub(super) const RESOURCE: &str =
    "a name of letters, digits and . _ + - that begins with a letter or digit, at most 127 long, not \"all\"";
pub(super) const HOST: &str = "one host name, as \"uname -n\" prints it there";
pub(super) const NODE_ID: &str = "0 to 31";
pub(super) const VOLUME: &str = "0 to 65534";

/// A whole number up to `max`, digits only.
pub(super) fn number(text: &str, max: u32) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n <= max)
}

/// `ADDRESS[:PORT]`, an IPv6 address in brackets.
pub(super) fn address(family: Option<&str>, text: &str) -> Option<Address> {
    let (ip, rest) = match text.strip_prefix('[') {
        Some(tail) if family != Some("ipv4") => {
            let (ip, rest) = tail.split_once(']')?;
            (IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?), rest)
        }
        None if family != Some("ipv6") => {
            let end = text.find(':').unwrap_or(text.len());
            let (ip, rest) = text.split_at_checked(end)?;
            (IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?), rest)
        }
        _ => return None,
    };
    let one_host = match ip {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        IpAddr::V6(_) => true,
    };
    if !one_host || ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(self::port(port)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some(Address { ip, port })
}

/// A port number, not 0.
pub(super) fn port(text: &str) -> Option<u16> {
    number(text, u32::from(u16::MAX)).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)
}

/// The words after `device`.
pub(super) fn device(words: &[&str]) -> Option<Device> {
    let (path, minor) = match words {
        ["minor", minor] => (format!("/dev/drbd{}", number(minor, MAX_MINOR)?), *minor),
        [path] => ((*path).to_owned(), path.strip_prefix("/dev/drbd")?),
        [path, "minor", minor] => ((*path).to_owned(), *minor),
        _ => return None,
    };
    if !path.starts_with("/dev/") || !is_plain_path(&path) {
        return None;
    }
    Some(Device { path, minor: number(minor, MAX_MINOR)? })
}

/// An absolute path without `..`.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.ends_with('/')
        && !path.split('/').any(|part| part == ".." || part == ".")
        && !path.contains("//")
}

/// A name that can also be part of a file name.
pub(super) fn is_resource_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-'))
        && name.len() <= 127
        && name != "all"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_host() {
        assert!(address(Some("ipv4"), "192.168.1.101:7789").is_some());
        assert!(address(None, "192.168.1.101").is_some_and(|a| a.port.is_none()));
        assert!(address(Some("ipv6"), "[fd00::1]:7789").is_some());
        for (family, text) in [
            (Some("ipv4"), "[fd00::1]:7789"),
            (Some("ipv6"), "10.0.0.1:7789"),
            (None, "10.0.0.1:"),
            (None, "10.0.0.1:0"),
            (None, "10.0.0.1:65536"),
            (None, "10.0.0.1:+1"),
            (None, "10.0.0.256:7789"),
            (None, "0.0.0.0:7789"),
            (None, "255.255.255.255:7789"),
            (None, "224.0.0.1:7789"),
            (None, "ha-a:7789"),
            (None, "[fd00::1"),
            (None, ""),
        ] {
            assert!(address(family, text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_device_is_below_dev_and_has_a_number() {
        assert_eq!(device(&["/dev/drbd12"]).map(|d| d.minor), Some(12));
        assert_eq!(device(&["minor", "3"]).map(|d| d.path), Some("/dev/drbd3".to_owned()));
        assert_eq!(device(&["/dev/data", "minor", "3"]).map(|d| d.minor), Some(3));
        for bad in ["/dev/drbd", "/dev/data", "/dev/../etc/drbd1", "drbd1", "/dev/drbd1048576", "/dev/drbd+1"]
        {
            assert!(device(&[bad]).is_none(), "{bad}");
        }
        assert!(device(&["/etc/passwd", "minor", "1"]).is_none());
    }
}
