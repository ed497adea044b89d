//! What a host is, read from its own files: no program is started.

use std::collections::HashMap;
use std::fs;
use std::num::NonZero;
use std::thread;

use crate::protocol::Facts;

/// Gathers everything; what cannot be found out stays empty.
pub(crate) fn gather() -> Facts {
    let system = rustix::system::uname();
    let release =
        fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    Facts {
        hostname: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        memory_mib: memory_mib(&memory).unwrap_or(0),
        ..distribution(&release.unwrap_or_default())
    }
}

fn distribution(release: &str) -> Facts {
    let lines = release.lines().filter_map(|line| line.trim().split_once('='));
    let values: HashMap<&str, &str> =
        lines.map(|(key, value)| (key, value.trim_matches(['"', '\'']))).collect();
    let value = |key: &str| values.get(key).copied().unwrap_or_default().to_owned();
    let kinds = format!("{} {}", value("ID"), value("ID_LIKE"));
    let is = |names: &[&str]| kinds.split_whitespace().any(|kind| names.contains(&kind));
    let family = if is(&["debian", "ubuntu"]) {
        "debian"
    } else if is(&["rhel", "fedora", "centos"]) {
        "redhat"
    } else {
        ""
    };
    Facts {
        distribution: value("ID"),
        distribution_version: value("VERSION_ID"),
        family: family.into(),
        ..Facts::default()
    }
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_from_the_release_file() {
        let cases = [
            ("ID=debian\nVERSION_ID=\"12\"\n", ("debian", "12", "debian")),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", ("ubuntu", "24.04", "debian")),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n",
                ("rocky", "9.4", "redhat"),
            ),
            ("ID=arch\n", ("arch", "", "")),
            ("", ("", "", "")),
        ];
        for (text, (id, version, family)) in cases {
            let facts = distribution(text);
            let found = (&*facts.distribution, &*facts.distribution_version, &*facts.family);
            assert_eq!(found, (id, version, family), "{text}");
        }
    }

    #[test]
    fn memory_is_counted_in_mib() {
        assert_eq!(memory_mib("MemTotal:        2048000 kB\nMemFree: 1 kB\n"), Some(2000));
        assert_eq!(memory_mib("nonsense"), None);
    }
}
