//! Takes secrets out of configuration files, whatever their language: the value of every word that sounds like a
//! secret, and what stands after the host in a web address. Rather too much than too little.

/// Parts of names whose values are secrets: of fence agents, of agents' parameters, of resource files.
const SECRET: &[&str] = &["pass", "secret", "token", "auth", "community", "credential", "key", "pwd"];
const MASK: &str = "********";

/// The text without secrets.
pub(super) fn text(text: &str) -> String {
    let mut out = String::new();
    let mut block = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if block.is_some_and(|outer| indent > outer || line.trim().is_empty()) {
            continue;
        }
        let masked = values(line);
        // A value that stands on the lines below, further in.
        let begins = line.trim_end().ends_with(['|', '>', '-', '+', ':']) && masked.contains(MASK);
        let named =
            line.trim_end().ends_with(':') && SECRET.iter().any(|part| line.to_lowercase().contains(part));
        block = (begins || named).then_some(indent);
        out.push_str(&address(&masked));
        out.push('\n');
    }
    out
}

/// Masks the value after each secret's name: up to the end of quotes, or of what a list or statement separates.
fn values(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(word_at) = rest.find(is_word) {
        let (before, from_word) = rest.split_at(word_at);
        let end = from_word.find(|c| !is_word(c)).unwrap_or(from_word.len());
        let (word, after) = from_word.split_at(end);
        out.push_str(before);
        out.push_str(word);
        rest = after;
        let lower = word.to_ascii_lowercase();
        if !SECRET.iter().any(|part| lower.contains(part)) {
            continue;
        }
        let gap = after.find(|c: char| !"\"' \t:=".contains(c)).unwrap_or(after.len());
        let (between, value) = after.split_at(gap);
        // In quotes everything up to their end is the value.
        let quote = between.chars().next_back().filter(|c| "\"'".contains(*c));
        let end = value.find(|c| quote.map_or(",};".contains(c), |quote| c == quote)).unwrap_or(value.len());
        out.push_str(between);
        if end > 0 {
            out.push_str(MASK);
        }
        rest = value.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Keeps the scheme and host of a web address: its path is often a secret.
fn address(line: &str) -> String {
    let Some((before, rest)) = line.split_once("webhook") else { return line.to_owned() };
    let Some((scheme, address)) = rest.split_once("://") else { return line.to_owned() };
    let end = address.find(['"', '\'', '}', ' ', ',']).unwrap_or(address.len());
    let (address, after) = address.split_at(end);
    let host = address.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{before}webhook{scheme}://{host}/{MASK}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_language_of_ours() {
        let masked = text(
            "params: {ip: 10.0.0.1, login: admin, password: hunter2, passwd_script: \"x y\"}\n\
             shared-secret \"hunter2\";\n\
             OCF_RESKEY_password=hunter2\n\
             \"token\": \"hunter2 and more\", \"a\": 1\n\
             alerts: [{exec: /a/b}, {webhook: \"http://u:hunter2@h.example.com/hunter2\"}]\n\
             password: hunter2 with blanks\n\
             gateway: 203.0.113.1\n",
        );
        assert!(!masked.contains("hunter2"), "{masked}");
        for kept in ["10.0.0.1", "admin", "h.example.com", "gateway: 203.0.113.1", "\"a\": 1", "exec: /a/b"] {
            assert!(masked.contains(kept), "{kept} in {masked}");
        }
    }

    #[test]
    fn a_value_on_the_lines_below_is_left_out() {
        assert_eq!(
            text("a:\n  password: |\n    hunter2\n\n    hunter2\n  b: 1\n"),
            "a:\n  password: ********\n  b: 1\n"
        );
        assert_eq!(text("password:\n  hunter2\nb: 1\n"), "password:\nb: 1\n");
    }
}
