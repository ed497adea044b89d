//! What operators read: status, reasons, times, history. Text from a status; decides nothing, asks nothing.

pub(crate) mod facts;
pub(crate) mod history;
pub(crate) mod loss;
pub(crate) mod page;
pub(crate) mod plan;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod status;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod timings;
pub(crate) mod tone;
pub(crate) mod why;
pub(crate) mod words;
