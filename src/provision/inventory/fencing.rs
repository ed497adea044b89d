//! The key `fencing` of `manager`: devices that switch a host off. What such a device is told may be a secret.

use serde_json::{Map, Value};

use super::Member;
use super::resource;
use super::secrets::{MIN_CHARS, Secrets};
use crate::quote::names_a_secret;
use crate::template::alone;
use base::fields::Fields;
use base::problem::Problem;
use base::yaml::{Content, Node};

pub(super) const FENCING: &[&str] = &["target", "agent", "params", "timeout"];

/// The devices; a host may be named by its short name.
pub(super) fn read(fields: &mut Fields<'_, '_>, hosts: &[Member], secrets: &Secrets) -> Option<Value> {
    let mut devices = Vec::new();
    for node in fields.list("fencing") {
        let Some(mut inner) = Fields::of(node, "a fencing device", FENCING, fields.problems()) else {
            continue;
        };
        let at = inner.required("agent", "the fence agent, such as fence_ipmilan");
        let agent = inner.text("agent").filter(|agent| !agent.starts_with('/') && agent.contains('/'));
        if let (Some(at), Some(agent)) = (at, agent) {
            inner.report(
                at,
                format!(
                    "\"agent\" must be a name, such as fence_ipmilan, or an absolute path, not {agent:?}"
                ),
            );
        }
        let params = params(&mut inner, secrets);
        resource::duration(&mut inner, "timeout");
        let target =
            inner.required("target", "the host that it switches off").and_then(|_| inner.text("target"));
        let (Some(target), Some(at)) = (target, inner.get("target")) else { continue };
        let found = hosts.iter().find(|h| h.name == target || h.fqdn == target);
        if found.is_none() && !hosts.is_empty() {
            let names: Vec<&str> = hosts.iter().map(|h| h.name.as_str()).collect();
            let sentence = "\"target\" names a host that is not there:";
            inner.problems().push(Problem::unknown_word(&at.place, sentence, &target, &names));
        }
        let mut device = node.to_json();
        device["target"] = found.map_or(target, |h| h.fqdn.clone()).into();
        if let Some(params) = params {
            device["params"] = params.into();
        }
        devices.push(device);
    }
    (!devices.is_empty()).then(|| devices.into())
}

/// What the agent is told; `{{ name }}` stands for the secret of that name.
fn params(fields: &mut Fields<'_, '_>, secrets: &Secrets) -> Option<Map<String, Value>> {
    let node = fields.get("params")?;
    if !matches!(node.content, Content::Map(_)) {
        // What stands there instead may be the password itself.
        fields.report(node, format!("\"params\" must be a mapping, not {}", node.kind()));
        return None;
    }
    let mut params = Map::new();
    for entry in node.entries() {
        params.insert(entry.key.clone(), value(&entry.value, secrets, fields));
    }
    Some(params)
}

fn value(node: &Node, secrets: &Secrets, fields: &mut Fields<'_, '_>) -> Value {
    let Content::Text(text) = &node.content else { return node.to_json() };
    if !text.contains("{{") {
        return node.to_json();
    }
    let Some(name) = alone(text) else {
        fields.report(node, "a parameter is either a value or the secret `{{ name }}`, nothing around it");
        return Value::Null;
    };
    let all = secrets.values();
    if !all.contains_key(name) {
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let problem = Problem::unknown_word(&node.place, "there is no secret", name, &names);
        fields.problems().push(match problem.hint {
            None => problem.hint(format!("write `{name}: …` into the file that \"secrets\" names")),
            Some(_) => problem,
        });
    }
    all.get(name).cloned().unwrap_or_default()
}

/// What must not be shown of the parameters of a fence agent or of an OCF agent: by their names. A value that is so
/// short that it could be a word is hidden together with its name.
pub(super) fn hidden(told: &Value) -> Vec<String> {
    let params = told.get("params").and_then(Value::as_object).into_iter().flatten();
    let secret = params.filter(|(name, _)| names_a_secret(name));
    let texts = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.chars().count() >= MIN_CHARS {
            return vec![text];
        }
        let name = Value::from(name.as_str());
        vec![format!("{name}: {value}"), format!("{name}:{value}")]
    };
    secret.flat_map(texts).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Inventory;

    /// What an inventory with these parameters says; `None` for no file of secrets.
    fn with(params: &str, secrets: Option<&str>) -> Result<Inventory, String> {
        let folder = tempfile::tempdir().unwrap();
        let fencing = format!("[{{target: ha-a, agent: fence_ipmilan, params: {params}}}]");
        let mut text =
            format!("{}manager: {{fencing: {fencing}}}\n", include_str!("../../../inventory/example.yml"));
        if let Some(secrets) = secrets {
            base::file::replace(&folder.path().join("own.yml"), secrets.as_bytes(), 0o600).unwrap();
            text.push_str("secrets: own.yml\n");
        }
        let file = folder.path().join("ha.yml");
        Inventory::parse(&file, &text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_parameter_may_be_a_secret() {
        let params = "{ip: 10.0.0.9, password: \"{{ board }}\", lanplus: 1}";
        let inventory = with(params, Some("board: correct-horse\n")).unwrap();
        let device = inventory.manager.unwrap().plain["fencing"][0].clone();
        assert_eq!(
            device["params"],
            json!({"ip": "10.0.0.9", "password": "correct-horse", "lanplus": 1}),
            "{device}"
        );
        for (params, secrets, message) in [
            ("{password: \"{{ baord }}\"}", Some("board: correct-horse\n"), "did you mean \"board\"?"),
            ("{password: \"{{ board }}\"}", None, "write `board: …` into the file that \"secrets\" names"),
            ("{password: \"x{{ board }}\"}", Some("board: correct-horse\n"), "nothing around it"),
            ("hunter2", None, "\"params\" must be a mapping, not text"),
        ] {
            let said = with(params, secrets).unwrap_err();
            assert!(said.contains(message) && said.contains("ha.yml:"), "{params}: {said}");
        }
    }

    #[test]
    fn what_is_a_password_by_its_name_is_hidden_and_the_rest_is_shown() {
        let params =
            "{ip: 10.0.0.9, username: administrator, passwd: calvin-and-hobbes, snmp_priv_passwd: root}";
        let hidden = with(params, None).unwrap().hidden();
        assert_eq!(
            hidden,
            ["calvin-and-hobbes", "\"snmp_priv_passwd\": \"root\"", "\"snmp_priv_passwd\":\"root\""]
        );
        let ocf = json!({"class": "ocf:a:b", "params": {"monitor_password": 123_456, "user": "monitor"}});
        assert_eq!(super::hidden(&ocf), ["123456"]);
        assert_eq!(super::hidden(&json!({"name": "r0"})), Vec::<String>::new());
    }
}
