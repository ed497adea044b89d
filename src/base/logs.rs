//! Log lines of a daemon: to stderr, which under systemd is the journal.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Variable that chooses what is logged, such as `debug` or `replicad::peer=debug`.
const FILTER: &str = "FUTAGO_LOG";

/// Starts to log. The journal adds the time itself.
pub fn start() {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colour);
    // A second start in one process (tests) keeps the first.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().try_init()
    } else {
        lines.try_init()
    };
}
