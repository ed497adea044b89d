//! The forms that a text takes inside of others: in JSON, in a URL, in base64.

use base64ct::{Base64, Base64Unpadded, Encoding as _};

/// In fewer bytes of base64 there could be an ordinary word.
const MIN_BASE64_BYTES: usize = 6;
/// Characters of a URL that some encode and others leave.
const LEFT: &[&str] = &["-_.", "-_./", "-_.~", "-_.~/"];

/// All of them but the text itself.
pub(super) fn of(text: &str) -> Vec<String> {
    let json = inside(&serde_json::to_string(text).unwrap_or_default());
    let mut forms = vec![in_html(text), in_html(&json), json, inside(&format!("{text:?}"))];
    forms.extend(LEFT.iter().map(|left| in_url(text, left)));
    if text.len() >= MIN_BASE64_BYTES {
        forms.extend(in_base64(text.as_bytes()));
    }
    forms.retain(|form| form != text);
    forms.sort();
    forms.dedup();
    forms
}

/// What is between the quotes.
fn inside(quoted: &str) -> String {
    let open = quoted.strip_prefix('"').unwrap_or(quoted);
    open.strip_suffix('"').unwrap_or(open).to_owned()
}

/// JSON as `tojson` writes it in a template.
fn in_html(json: &str) -> String {
    [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")]
        .iter()
        .fold(json.to_owned(), |json, (character, escaped)| json.replace(*character, escaped))
}

fn in_url(text: &str, left: &str) -> String {
    let one = |byte: u8| {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric() || left.contains(character) {
            character.to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

/// Alone; and as a part of something longer, where it may begin at each of three places of a group: without the
/// characters at its ends, which the neighbours decide too.
fn in_base64(bytes: &[u8]) -> Vec<String> {
    let mut forms = vec![Base64::encode_string(bytes)];
    for before in 0..3 {
        let encoded = Base64Unpadded::encode_string(&[&[0; 3][..before], bytes].concat());
        let (first, end) = ((before * 8).div_ceil(6), (before + bytes.len()) * 8 / 6);
        forms.extend(encoded.get(first..end).map(str::to_owned));
    }
    let in_urls: Vec<String> = forms.iter().map(|form| form.replace('+', "-").replace('/', "_")).collect();
    forms.extend(in_urls);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_in_json_in_urls_and_anywhere_in_base64() {
        let text = "p\"4/s<w~rd&?";
        let forms = of(text);
        let known = |text: &str| forms.iter().any(|form| text.contains(form));
        for shown in [
            r#"{"a":"p\"4/s<w~rd&?"}"#,
            r#"{"a":"p\"4/s\u003cw~rd\u0026?"}"#,
            "https://admin:p%224%2Fs%3Cw~rd%26%3F@board/",
            "https://admin:p%224/s%3Cw%7Erd%26%3F@board/",
        ] {
            assert!(known(shown), "{shown}: {forms:?}");
        }
        for (before, after) in [("", ""), ("a", ""), ("ab", "c"), ("admin:", "\n"), ("x=1&y=", "&z")] {
            let encoded = Base64::encode_string(format!("{before}{text}{after}").as_bytes());
            assert!(known(&encoded), "{before}{text}{after}: {encoded}: {forms:?}");
            assert!(known(&encoded.replace('/', "_").replace('+', "-")), "{encoded}");
        }
        assert!(!known(&Base64::encode_string(b"something else")));
    }

    #[test]
    fn a_short_text_has_no_form_that_could_be_a_word() {
        assert_eq!(of("root"), Vec::<String>::new());
    }
}
