//! Golden cases: statements in, what a server answers, whether something changed.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::super::testing::mistakes;
use super::*;

/// A client that answers with the lines of a file, `MARK` in them being the word that it was told, and notes its input.
struct Stand(TempDir);

impl Stand {
    fn new(answers: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "\
cd \"$(dirname \"$0\")\" || exit 9
echo \"$*\" >words
n=$(cat count 2>/dev/null || echo 0)
echo $((n + 1)) >count
sql=$(cat)
echo \"$sql\" >input.$n
mark=$(echo \"$sql\" | sed -n \"s/^SELECT '\\([A-Za-z0-9]*\\)', ROW_COUNT();/\\1/p\" | head -n 1)
if grep -q ^ERROR answer.$n; then cat answer.$n >&2; exit 1; fi
sed \"s/MARK/$mark/\" answer.$n
";
        fs::write(folder.path().join("client"), script).unwrap();
        for (index, answer) in answers.iter().enumerate() {
            fs::write(folder.path().join(format!("answer.{index}")), answer).unwrap();
        }
        Self(folder)
    }

    fn run(&self, args: &Value, check: bool) -> Result<Outcome, Error> {
        let client = Client::standing_in(vec!["sh".into(), self.0.path().join("client").into()]);
        let args: Args = super::super::parse(args.as_object().unwrap()).unwrap();
        args.bring(&client, &Context::new(check, true, &mut |_| {}))
    }

    fn input(&self, number: usize) -> Option<String> {
        fs::read_to_string(self.0.path().join(format!("input.{number}"))).ok()
    }
}

#[test]
fn what_only_reads_changes_nothing_and_is_run_by_a_plan_too() {
    let args = json!({"query": "SELECT name, value FROM settings", "database": "shop"});
    for check in [true, false] {
        let stand = Stand::new(&["open\tyes\nsize\t3\nMARK\t-1\n"]);
        let outcome = stand.run(&args, check).unwrap();
        assert!(!outcome.changed && !outcome.unknown);
        assert_eq!(outcome.data["rows"], json!([["open", "yes"], ["size", "3"]]));
        assert!(stand.input(0).unwrap().starts_with("START TRANSACTION READ ONLY;\nSELECT name"));
        let words = fs::read_to_string(stand.0.path().join("words")).unwrap();
        assert!(words.starts_with("--database=shop --batch"), "{words}");
    }
}

#[test]
fn rows_are_counted_by_the_server() {
    let args = json!({"query": "UPDATE a SET b = 1; DELETE FROM c"});
    let outcome = |answer: &str| Stand::new(&[answer]).run(&args, false).unwrap();
    let some = outcome("MARK\t0\nMARK\t3\n");
    assert_eq!((some.changed, &some.data["affected"]), (true, &json!(3)));
    let none = outcome("MARK\t0\nMARK\t0\n");
    assert_eq!((none.changed, &none.data["affected"]), (false, &json!(0)));
    let other =
        Stand::new(&["MARK\t0\n"]).run(&json!({"query": "CREATE TABLE IF NOT EXISTS a (b INT)"}), false);
    assert!(other.unwrap().changed, "what is not counted may have changed something");
}

#[test]
fn a_plan_runs_nothing_that_writes_and_knows_with_unless() {
    let stand = Stand::new(&[]);
    let outcome = stand.run(&json!({"query": "DELETE FROM a"}), true).unwrap();
    assert!(outcome.unknown && stand.input(0).is_none());
    let args = json!({"query": "DELETE FROM a", "unless": "SELECT 1 FROM b"});
    let stand = Stand::new(&[""]);
    assert!(stand.run(&args, true).unwrap().changed && stand.input(1).is_none());
    let stand = Stand::new(&["1\n"]);
    let outcome = stand.run(&args, false).unwrap();
    assert_eq!((outcome.changed, outcome.message.as_str()), (false, "no need to run DELETE FROM a"));
    assert_eq!((&outcome.data["rows"], stand.input(1)), (&json!([]), None));
}

#[test]
fn a_table_that_is_not_there_gives_no_row_and_other_errors_are_told() {
    let args = json!({"query": "INSERT INTO a VALUES (1)", "unless": "SELECT 1 FROM a"});
    let missing = "ERROR 1146 (42S02) at line 2: Table 'shop.a' doesn't exist\n";
    let stand = Stand::new(&[missing, "MARK\t1\n"]);
    assert!(stand.run(&args, false).unwrap().changed);
    let wrong = Stand::new(&["ERROR 1064 (42000) at line 2: You have an error in your SQL syntax\n"]);
    let error = wrong.run(&args, false).unwrap_err();
    assert_eq!(error.to_string(), "ask whether to run it: the server refuses it");
    let read = json!({"query": "SELECT 1 FROM a"});
    assert!(Stand::new(&[missing]).run(&read, true).unwrap().unknown, "an earlier task may make it");
    assert!(Stand::new(&[missing]).run(&read, false).is_err());
}

#[test]
fn a_plan_without_a_server_does_not_know() {
    let none = Client::standing_in(vec!["/no/such/client".into()]);
    let given = json!({"query": "DELETE FROM a", "unless": "SELECT 1 FROM b"});
    let args: Args = super::super::parse(given.as_object().unwrap()).unwrap();
    assert!(args.bring(&none, &Context::new(true, true, &mut |_| {})).unwrap().unknown);
    assert!(args.bring(&none, &Context::new(false, true, &mut |_| {})).is_err());
}

#[test]
fn a_long_statement_is_shown_by_its_begin() {
    let statement = &split(&format!("INSERT  INTO a\nVALUES ('{}')", "x".repeat(100)))[0];
    let shown = shown(statement);
    assert!(shown.starts_with("INSERT INTO a VALUES ('xx") && shown.ends_with('…'), "{shown}");
}

#[test]
fn wrong_arguments_are_told_before_contact() {
    let cases = [
        (
            json!({"query": " -- nothing\n"}),
            "argument \"query\" of module mysql_query has no statement in it",
        ),
        (
            json!({"query": "DELIMITER $$ CREATE PROCEDURE p() SELECT 1$$"}),
            "DELIMITER is a word of the client: bring a file with `copy` and run it with `command`",
        ),
        (
            json!({"query": "SELECT 1", "unless": "DELETE FROM a"}),
            "argument \"unless\" of module mysql_query must be one SELECT: it must change nothing",
        ),
        (
            json!({"query": "SELECT 1", "unless": "SELECT 1; SELECT 2"}),
            "argument \"unless\" of module mysql_query must be one SELECT: it must change nothing",
        ),
        (
            json!({"query": "SELECT 1", "login_db": "a"}),
            "module mysql_query has no argument \"login_db\"; did you mean \"database\"?",
        ),
    ];
    for (args, wanted) in cases {
        assert_eq!(mistakes("mysql_query", args.clone()), [wanted], "{args}");
    }
}
