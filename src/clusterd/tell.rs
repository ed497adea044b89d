//! What the cores want to be known.

use cluster::event::LogLevel;

/// One line of the log.
pub(crate) fn log(level: LogLevel, text: &str) {
    match level {
        LogLevel::Error => tracing::error!("{text}"),
        LogLevel::Warn => tracing::warn!("{text}"),
        LogLevel::Info => tracing::info!("{text}"),
    }
}
