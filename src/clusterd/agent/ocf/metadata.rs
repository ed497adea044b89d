//! What an agent says about itself: its parameters and the times it advises.

use std::collections::BTreeMap;

/// The meta-data of an agent, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Name of each parameter, and whether it must be given.
    parameters: BTreeMap<String, bool>,
    /// Advised timeout of each action, in milliseconds.
    timeouts: BTreeMap<String, u64>,
}

impl Metadata {
    /// Reads the XML that `meta-data` prints.
    pub(super) fn parse(xml: &str) -> Result<Self, String> {
        // Agents declare a DTD by name; it is not loaded.
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(xml.trim_start(), options)
            .map_err(|error| format!("its meta-data is not XML: {error}"))?;
        let mut metadata = Self::default();
        for node in document.descendants() {
            let Some(name) = node.attribute("name") else { continue };
            match node.tag_name().name() {
                "parameter" => {
                    let required = matches!(node.attribute("required"), Some("1" | "true" | "yes"));
                    let content = node.children().find(|child| child.has_tag_name("content"));
                    let default =
                        content.and_then(|content| content.attribute("default")).unwrap_or_default();
                    // A required parameter with a default is required of the agent's author only.
                    metadata.parameters.insert(name.to_owned(), required && default.is_empty());
                }
                "action" => {
                    if let Some(timeout) = node.attribute("timeout").and_then(milliseconds) {
                        // Of several looks with different levels the longest counts.
                        let known = metadata.timeouts.entry(name.to_owned()).or_default();
                        *known = timeout.max(*known);
                    }
                }
                _ => {}
            }
        }
        Ok(metadata)
    }

    pub(super) fn knows(&self, parameter: &str) -> bool {
        self.parameters.contains_key(parameter)
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().filter(|(_, required)| **required).map(|(name, _)| name.as_str())
    }

    pub(super) fn timeout_ms(&self, action: &str) -> Option<u64> {
        self.timeouts.get(action).copied()
    }
}

/// `20s`, `20`, `500ms`, `2min`.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "" | "s" | "sec" => number.checked_mul(1_000),
        "ms" | "msec" => Some(number),
        "m" | "min" => number.checked_mul(60_000),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_timeouts_are_read() {
        let xml = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="X"><version>1.0</version>
<parameters>
<parameter name="ip" unique="1" required="1"><content type="string" default="" /></parameter>
<parameter name="mode" required="1"><content type="string" default="fast" /></parameter>
<parameter name="nic"><content type="string"/></parameter>
</parameters>
<actions>
<action name="start" timeout="20s" /><action name="stop" timeout="30" />
<action name="monitor" depth="0" timeout="5s" /><action name="monitor" depth="10" timeout="1min" />
</actions></resource-agent>"#;
        let metadata = Metadata::parse(xml).unwrap();
        assert_eq!(metadata.required().collect::<Vec<_>>(), ["ip"]);
        assert!(metadata.knows("nic") && !metadata.knows("nick"));
        let times = ["start", "stop", "monitor", "promote"].map(|action| metadata.timeout_ms(action));
        assert_eq!(times, [Some(20_000), Some(30_000), Some(60_000), None]);
    }

    #[test]
    fn what_is_not_xml_is_refused_with_a_sentence() {
        assert!(
            Metadata::parse("usage: agent {start|stop}").unwrap_err().starts_with("its meta-data is not XML")
        );
    }
}
