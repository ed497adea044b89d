//! `--json`: one event a line.

use std::io::Write;

use super::event::Line;
use super::{Event, Sink};

/// Writes events as lines of JSON.
pub struct Json<W> {
    /// Where to.
    pub out: W,
    /// The cluster that they are about.
    pub cluster: String,
}

impl<W: Write + Send> Sink for Json<W> {
    fn event(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(&Line { cluster: &self.cluster, event }) {
            // The reader may be gone; the run goes on all the same.
            let _ = self.out.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.out.flush());
        }
    }
}
