//! A person at a terminal: the program asks there, and is answered there.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

/// The longest that a program may take that waits for a question which nobody expects.
const PATIENCE_SECONDS: &str = "120";

/// Runs a program on a terminal of its own. Each answer is typed when its question has come behind the one before. The exit code,
/// and all that the terminal has shown.
pub(crate) fn run(
    words: &[String],
    environment: &[(&str, &str)],
    answers: &[(&str, &str)],
) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args([
        PATIENCE_SECONDS,
        "script",
        "--quiet",
        "--return",
        "--command",
        &words.join(" "),
        "/dev/null",
    ]);
    command.env("TERM", "xterm").env_remove("SSH_AUTH_SOCK").envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = command.spawn().expect("start script");
    let mut keys = terminal.stdin.take().expect("its stdin");
    let mut screen = terminal.stdout.take().expect("its stdout");
    let mut answers = answers.iter();
    let (mut shown, mut buffer, mut seen, mut next) = (String::new(), [0; 4096], 0, answers.next());
    loop {
        let count = screen.read(&mut buffer).expect("read the screen");
        if count == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if let Some((question, answer)) = next
            && let Some(place) = shown[seen..].find(question)
        {
            keys.write_all(answer.as_bytes()).expect("type");
            seen += place + question.len();
            next = answers.next();
        }
    }
    let code = terminal.wait().expect("reap script").code();
    (code, shown)
}
