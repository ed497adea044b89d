//! Prints a resource the way its file could have been written, with the defaults filled in.

use std::fmt::Write as _;

use replica::config::{Host, Options, Resource};
use replica::engine::UndoPolicy;

/// The text; reading it again gives the same resource.
pub(crate) fn text(resource: &Resource) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_resource(&mut out, resource);
    out
}

fn write_resource(out: &mut String, resource: &Resource) -> std::fmt::Result {
    writeln!(out, "# resource {} defined at {}", resource.name, resource.at)?;
    writeln!(out, "resource {} {{", resource.name)?;
    // What concerns the network is the same on both hosts.
    let [first, _] = &resource.hosts;
    write_net(out, &first.options)?;
    if first.options.managed {
        writeln!(out, "    options {{")?;
        writeln!(out, "        managed          yes;")?;
        writeln!(out, "    }}")?;
    }
    write_handlers(out, resource)?;
    for host in &resource.hosts {
        write_host(out, resource, host)?;
    }
    writeln!(out, "}}\n")
}

/// Units as in DRBD: seconds, and tenths of a second.
fn write_net(out: &mut String, options: &Options) -> std::fmt::Result {
    writeln!(out, "    net {{")?;
    writeln!(out, "        ping-int         {};", options.ping_interval_ms / 1000)?;
    writeln!(out, "        ping-timeout     {};", options.ping_timeout_ms / 100)?;
    writeln!(out, "        timeout          {};", options.timeout_ms / 100)?;
    writeln!(out, "        ko-count         {};", options.ko_count)?;
    writeln!(out, "        connect-int      {};", options.connect_interval_ms / 1000)?;
    writeln!(out, "    }}")
}

fn write_handlers(out: &mut String, resource: &Resource) -> std::fmt::Result {
    if resource.handlers.is_empty() {
        return Ok(());
    }
    writeln!(out, "    handlers {{")?;
    for (handler, command) in &resource.handlers {
        let command = command.replace('\\', "\\\\").replace('"', "\\\"");
        writeln!(out, "        {:<24} \"{command}\";", handler.as_str())?;
    }
    writeln!(out, "    }}")
}

fn write_host(out: &mut String, resource: &Resource, host: &Host) -> std::fmt::Result {
    let family = if host.address.is_ipv4() { "ipv4" } else { "ipv6" };
    writeln!(out, "    on {} {{", host.name)?;
    writeln!(out, "        node-id          {};", host.node_id)?;
    writeln!(out, "        address          {family} {};", host.address)?;
    writeln!(out, "        volume {} {{", resource.volume)?;
    writeln!(out, "            device       {} minor {};", resource.device, resource.minor)?;
    writeln!(out, "            disk         {};", host.disk)?;
    writeln!(out, "            meta-disk    internal;")?;
    writeln!(out, "            disk {{")?;
    writeln!(out, "                disk-timeout {};", host.options.disk_timeout_ms / 100)?;
    writeln!(out, "                al-extents   {};", host.options.al_extents)?;
    writeln!(out, "                undo-log     {};", undo_word(host.options.undo))?;
    if host.options.calls_local_io_error {
        writeln!(out, "                on-io-error  call-local-io-error;")?;
    }
    if let Some(file) = &host.undo_file {
        writeln!(out, "                undo-file    {file};")?;
    }
    if host.options.resync_rate_kib > 0 {
        writeln!(out, "                resync-rate  {}K;", host.options.resync_rate_kib)?;
    }
    writeln!(out, "            }}")?;
    writeln!(out, "        }}")?;
    writeln!(out, "    }}")
}

fn undo_word(policy: UndoPolicy) -> &'static str {
    match policy {
        UndoPolicy::Off => "no",
        UndoPolicy::Try => "yes",
        UndoPolicy::Require => "required",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replica::config::parse;

    #[test]
    fn what_is_printed_reads_back_as_the_same_resource() {
        let source =
            "resource r0 { protocol C; options { managed yes; } disk { resync-rate 33M; undo-log required; on-io-error call-local-io-error; }
            net { timeout 50; } handlers { split-brain \"echo \\\"a\\\\b\\\" | mail root\"; local-io-error /bin/true; }
            on ha-a { device /dev/drbd1; disk /dev/vdb1; address 192.168.1.101:7789; meta-disk internal;
                disk { undo-file /srv/undo; } }
            on ha-b { device /dev/drbd1; disk /dev/vdc1; address 192.168.1.102:7789; meta-disk internal; } }";
        let first = parse("a", source).unwrap().resources.remove(0);
        let mut again = match parse("b", &text(&first)) {
            Ok(mut parsed) => parsed.resources.remove(0),
            Err(errors) => panic!("{}\n{errors:?}", text(&first)),
        };
        again.at = first.at.clone();
        assert_eq!(first, again);
    }
}
