//! What expressions and templates evaluate to, and what is said about wrong ones.

use super::*;
use serde_json::json;

fn engine() -> Engine {
    Engine::new(Assets::new(vec![]))
}

fn scope() -> Scope {
    let variables =
        json!({"host": {"name": "ha-a", "disk": "/dev/vdb"}, "n": 3, "on": true, "list": ["a", "b"]});
    let mut scope = Scope::new(variables.as_object().unwrap());
    scope.set_partial("facts", &Map::new());
    scope.set_partial("made", json!({"changed": true}).as_object().unwrap());
    scope
}

fn text(source: &str) -> Value {
    engine().text(source, &scope()).unwrap().known().unwrap()
}

fn fault(source: &str) -> (String, Option<String>) {
    let error = engine().text(source, &scope()).unwrap_err();
    (error.message, error.hint)
}

#[test]
fn an_expression_alone_keeps_its_type_and_mixed_text_is_text() {
    assert_eq!(text("{{ n }}"), json!(3));
    assert_eq!(text("{{ host.disk == '/dev/vdb' }}"), json!(true));
    assert_eq!(text("{{ host.disk }}1"), json!("/dev/vdb1"));
    assert_eq!(text("on={{ on }}"), json!("on=true"));
    assert_eq!(text("plain"), json!("plain"));
}

#[test]
fn an_undefined_name_is_explained_also_where_evaluation_does_not_come_by() {
    let wrong = |name: &str, near: &str| {
        (format!("the variable `{name}` is not defined"), Some(format!("did you mean `{near}`?")))
    };
    assert_eq!(fault("{{ hots.name }}"), wrong("hots", "host"));
    assert_eq!(fault("{{ host.nmae }}"), wrong("host.nmae", "host.name"));
    assert_eq!(fault("x {{ host.nmae }}"), wrong("host.nmae", "host.name"));
    assert_eq!(fault("{% if facts.x == 1 %}{{ lost }}{% endif %}").0, "the variable `lost` is not defined");
    assert_eq!(text("{{ lost | default('x') }}"), json!("x"));
}

#[test]
fn what_depends_on_the_future_is_unknown_but_still_checked() {
    let unknown = |source: &str| engine().text(source, &scope()).unwrap() == Resolved::Unknown;
    assert!(unknown("{{ facts.family }}"));
    assert!(unknown("{{ facts.family == 'debian' }}"));
    assert!(unknown("{{ made.stdout | int + 1 }}"));
    assert!(unknown("a {{ made.lines | join(' ') }}"));
    assert_eq!(text("{{ made.changed }}"), json!(true));
    assert_eq!(text("{{ made is changed }}"), json!(true));
    assert!(fault("{{ facts.a | nofilter }}").0.contains("nofilter"));
    assert!(fault("{{ facts.a + }}").0.contains("not an expression"));
}

#[test]
fn lists_mappings_and_nothing_are_not_written_as_text() {
    assert!(fault("a {{ list }}").0.contains("a list cannot be written"));
    assert!(fault("a {{ host }}").0.contains("a mapping cannot be written"));
    assert!(fault("a {{ none }}").0.contains("cannot be written"));
    assert_eq!(text("a {{ list | join('-') }}"), json!("a a-b"));
}

#[test]
fn a_template_error_names_line_and_column() {
    let source = "one\ntwo {{ host.dsk }}\n";
    let error = engine().render("templates/x.j2", source, &scope()).unwrap_err();
    let problem = error.in_file("templates/x.j2");
    assert_eq!(problem.place.to_string(), "templates/x.j2:2:8");
    assert_eq!(problem.message, "the variable `host.dsk` is not defined");
}

#[test]
fn an_endless_template_is_stopped() {
    let (message, _) = fault("{% for a in range(9000) %}{% for b in range(9000) %}x{% endfor %}{% endfor %}");
    assert!(message.contains("does not come to an end"), "{message}");
}

#[test]
fn words_are_looked_up_where_evaluation_does_not_come_by() {
    let faults = |source: &str| -> Vec<String> {
        let faults = engine().check("x.j2", source, &scope()).into_iter();
        faults.map(|f| format!("{:?} {}", f.position.unwrap(), f.message)).collect()
    };
    let source = "{% if n == 4 %}{{ n | uper }}{{ n is odd and n is not evn }}\n{% filter trm %}x{% endfilter %}{% endif %}";
    assert_eq!(
        faults(source),
        [
            "(1, 23) there is no filter `uper`",
            "(1, 55) there is no test `evn`",
            "(2, 11) there is no filter `trm`"
        ]
    );
    assert_eq!(
        faults("{% if n == 4 %}{% include 'lost.j2' %}{% include 'lost.j2' ignore missing %}{% endif %}"),
        ["(1, 27) there is no template `lost.j2`"]
    );
    for right in [
        "{% raw %}{{ n | nofilter }}{% endraw %}{{ 'a | b is c' }}{# {{ n | nofilter }} #}",
        "{{ list | join(' | ') | upper }} {{ n is divisibleby(3) }} {{ host.name is defined }}",
        "{% set is_odd = n is odd %}{% for x in list if x is string %}{{ x | default('|') }}{% endfor %}",
        "{% include 'r0.res.j2' %} a | b is c",
    ] {
        assert_eq!(faults(right), [""; 0], "{right}");
    }
}

#[test]
fn attributes_of_what_has_a_fixed_shape_are_checked_before_their_values_are_known() {
    let mut scope = scope();
    scope.set_later("facts", &["family", "kernel"]);
    let engine = engine();
    assert_eq!(engine.text("{{ facts.family == 'debian' }}", &scope).unwrap(), Resolved::Unknown);
    let error = engine.text("{{ facts.famly == 'debian' }}", &scope).unwrap_err();
    assert_eq!(error.message, "the variable `facts.famly` is not defined");
    assert_eq!(error.hint.as_deref(), Some("did you mean `facts.family`?"));
    assert_eq!(engine.text("{{ facts.famly is defined }}", &scope).unwrap(), Resolved::Known(json!(false)));
    assert_eq!(engine.text("{{ facts.famly | default('x') }}", &scope).unwrap(), Resolved::Known(json!("x")));
}

#[test]
fn of_a_text_with_several_lines_the_wrong_one_is_shown() {
    let error = engine().text("one\ntwo {{ lost }}\n", &scope()).unwrap_err();
    let problem = error.in_value(&Place::start("a.yml"), "one\ntwo {{ lost }}\n");
    assert_eq!(
        problem.message,
        "the variable `lost` is not defined in line 2 of the value: \"two {{ lost }}\""
    );
}

/// What the advice about Ansible's words says must itself work.
#[test]
fn what_is_written_instead_of_ansible_s_filters_and_loops_works() {
    assert_eq!(text("{{ {'b': 2, 'a': 1} | dictsort }}"), json!([["a", 1], ["b", 2]]));
    assert_eq!(text("{{ range(1, 4) | list }}"), json!([1, 2, 3]));
    assert_eq!(text("{{ ['a'] | tojson(indent=2) }}"), json!("[\n  \"a\"\n]"));
    assert_eq!(text("{{ 'a' if n == 3 else 'b' }}"), json!("a"));
    assert_eq!(text("{{ {'failed': false} is not failed }}"), Value::Bool(true));
    assert_eq!(text("{{ lost | default(none) }}"), Value::Null);
    assert_eq!(text("{{ lost|d('x') }}"), json!("x"));
    assert_eq!(text("{{ (7 / 2) | int }}"), json!(3));
}
