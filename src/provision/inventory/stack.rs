//! What the manager runs for a stack that comes with the program, and the passwords that it needs. Its playbook installs it:
//! `playbooks/lamp.yml`, and what stands on it.

use serde_json::json;

use super::resource::Resource;

/// The stacks there are.
pub(super) const STACKS: &[&str] = &["lamp", "zabbix", "wordpress"];

/// What lies between file system and virtual address, in order.
pub(super) fn group(stack: &str) -> Vec<Resource> {
    match stack {
        "lamp" | "zabbix" | "wordpress" => vec![
            Resource::new(json!({
                "name": "mariadb", "class": "systemd:mariadb", "check": {"sql": "/run/mysqld/mysqld.sock"},
            })),
            Resource::new(json!({
                "name": "apache", "class": "systemd:apache2", "check": {"http": "http://127.0.0.1/futago-alive", "contains": "alive"},
            })),
        ],
        _ => Vec::new(),
    }
}

/// What comes after the virtual address: it needs the address, and nobody who asks for a page needs it.
pub(super) fn after_address(stack: &str) -> Vec<Resource> {
    match stack {
        // It stops within two seconds, but never while its database is away.
        "zabbix" => {
            vec![Resource::new(
                json!({"name": "zabbix", "class": "systemd:zabbix-server", "stop_timeout": "10s"}),
            )]
        }
        _ => Vec::new(),
    }
}

/// Where a person begins to look at a stack.
pub(super) fn path(stack: &str) -> &'static str {
    match stack {
        "zabbix" => "/zabbix/",
        _ => "/",
    }
}

/// Who logs in first: the name, the variable that has another one, and the secret that lets them in.
pub(super) fn administrator(stack: &str) -> Option<(&'static str, Option<&'static str>, &'static str)> {
    match stack {
        "zabbix" => Some(("Admin", None, "zabbix_admin_password")),
        "wordpress" => Some(("admin", Some("wordpress_admin"), "wordpress_admin_password")),
        _ => None,
    }
}

/// Secrets that are made when nobody has written them.
pub(super) fn passwords(stack: &str) -> &'static [&'static str] {
    match stack {
        "zabbix" => &["zabbix_admin_password"],
        "wordpress" => &[
            "wordpress_admin_password",
            "wordpress_auth_key",
            "wordpress_secure_auth_key",
            "wordpress_logged_in_key",
            "wordpress_nonce_key",
            "wordpress_auth_salt",
            "wordpress_secure_auth_salt",
            "wordpress_logged_in_salt",
            "wordpress_nonce_salt",
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::super::Inventory;
    use super::super::manager::Manager;

    /// The example, and what is said besides.
    fn manager(more: &str) -> Option<Manager> {
        let text = format!("{}{more}", include_str!("../../../inventory/example.yml"));
        Inventory::parse(Path::new("ha.yml"), &text).unwrap().manager
    }

    fn names(manager: &Manager) -> Vec<&str> {
        manager.group.iter().filter_map(|resource| resource["name"].as_str()).collect()
    }

    #[test]
    fn a_stack_is_run_by_the_manager_without_another_word() {
        assert_eq!(manager(""), None);
        let lamp = manager("stack: lamp\n").unwrap();
        assert_eq!(names(&lamp), ["r0", "data", "mariadb", "apache", "address"]);
        assert_eq!(lamp.units, ["mariadb", "apache2"]);
        assert_eq!(lamp.mount["directory"], "/srv/data");
        let zabbix = manager("stack: zabbix\n").unwrap();
        assert_eq!(names(&zabbix), ["r0", "data", "mariadb", "apache", "address", "zabbix"]);
        assert_eq!(zabbix.units, ["mariadb", "apache2", "zabbix-server"]);
    }

    #[test]
    fn what_is_written_comes_after_the_stack_or_takes_the_place_of_its_namesake() {
        let group = "{name: worker, class: \"systemd:worker\"}, {name: apache, class: \"systemd:apache2\", restarts: 5}";
        let more = manager(&format!("stack: lamp\nmanager: {{group: [{group}]}}\n")).unwrap();
        assert_eq!(names(&more), ["r0", "data", "mariadb", "apache", "worker", "address"]);
        let apache: Vec<&Value> = more.group.iter().filter(|resource| resource["name"] == "apache").collect();
        assert_eq!(apache[0]["restarts"], 5);
        let group = "{name: worker, class: \"systemd:worker\"}, {name: zabbix, class: \"systemd:zabbix-server\", restarts: 5}";
        let more = manager(&format!("stack: zabbix\nmanager: {{group: [{group}]}}\n")).unwrap();
        assert_eq!(names(&more), ["r0", "data", "mariadb", "apache", "worker", "address", "zabbix"]);
        let own = more.group.iter().find(|resource| resource["name"] == "zabbix").unwrap();
        assert_eq!(own["restarts"], 5);
        let group = "{name: worker, class: \"systemd:a\"}, {name: worker, class: \"systemd:b\"}";
        let text = format!(
            "{}stack: lamp\nmanager: {{group: [{group}]}}\n",
            include_str!("../../../inventory/example.yml")
        );
        let problems = Inventory::parse(Path::new("ha.yml"), &text).unwrap_err().to_string();
        assert!(problems.contains("worker"), "{problems}");
    }
}
