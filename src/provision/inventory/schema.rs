//! The JSON Schema of the inventory, for editors. A test keeps it equal to what the reader accepts.

/// The schema as text.
pub(crate) fn json_schema() -> &'static str {
    include_str!("schema.json")
}

#[cfg(test)]
mod tests {
    use super::super::{backup, etcd, fencing, https, manager, read, resource, ssh, stack};
    use serde_json::Value;

    fn keys(schema: &Value) -> Vec<String> {
        let mut keys: Vec<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(schema["additionalProperties"], false, "{schema}");
        keys
    }

    fn sorted(keys: &[&str]) -> Vec<String> {
        let mut keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_schema_knows_exactly_the_keys_of_the_reader() {
        let schema: Value = serde_json::from_str(super::json_schema()).unwrap();
        assert_eq!(keys(&schema), sorted(read::TOP));
        assert_eq!(keys(&schema["properties"]["virtual_ip"]), sorted(read::VIRTUAL_IP));
        let way = &schema["properties"]["ssh"];
        assert_eq!(keys(way), sorted(ssh::SSH));
        assert_eq!(keys(&way["properties"]["jump"]["anyOf"][1]), sorted(ssh::JUMP));
        assert_eq!(keys(&schema["properties"]["witness"]), sorted(read::WITNESS));
        let https = &schema["properties"]["https"]["anyOf"];
        assert_eq!(https[0]["enum"], serde_json::json!(https::WORDS));
        assert_eq!(keys(&https[1]), sorted(https::HTTPS));
        let backup = &schema["properties"]["backup"]["anyOf"];
        assert_eq!(backup[0]["enum"], serde_json::json!(backup::WORDS));
        assert_eq!(keys(&backup[1]), sorted(backup::BACKUP));
        let host = &schema["properties"]["hosts"]["additionalProperties"];
        assert_eq!(keys(host), sorted(read::HOST));
        assert_eq!(keys(&host["properties"]["interfaces"]), sorted(read::INTERFACES));
        let manager = &schema["properties"]["manager"];
        assert_eq!(keys(manager), sorted(manager::MANAGER));
        let of = |key: &str| &manager["properties"][key];
        assert_eq!(keys(of("etcd")), sorted(etcd::ETCD));
        assert_eq!(keys(of("policy")), sorted(manager::POLICY));
        assert_eq!(keys(&of("fencing")["items"]), sorted(fencing::FENCING));
        assert_eq!(keys(&of("alerts")["items"]), sorted(manager::ALERT));
        assert_eq!(of("failover_target")["anyOf"][0]["enum"], serde_json::json!(manager::PROFILES));
        assert_eq!(of("fstype")["enum"], serde_json::json!(manager::FILE_SYSTEMS));
        assert_eq!(of("watchdog")["enum"], serde_json::json!(manager::WATCHDOGS));
        assert_eq!(of("verify")["enum"], serde_json::json!(manager::VERIFY));
        assert_eq!(of("metrics")["items"]["enum"], serde_json::json!(manager::SEGMENTS));
        let resource = &of("group")["items"];
        assert_eq!(keys(resource), sorted(&resource::all_keys()));
        assert_eq!(keys(&resource["properties"]["check"]), sorted(resource::CHECK));
        assert_eq!(schema["properties"]["stack"]["enum"], serde_json::json!(stack::STACKS));
    }
}
