//! `--json`: one event a line.

use std::io::Write;

use super::{Event, Sink};

/// Writes events as lines of JSON.
pub struct Json<W>(pub W);

impl<W: Write + Send> Sink for Json<W> {
    fn event(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // The reader may be gone; the run goes on all the same.
            let _ = writeln!(self.0, "{line}").and_then(|()| self.0.flush());
        }
    }
}
