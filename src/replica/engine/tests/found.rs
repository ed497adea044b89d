//! Mistakes that were found by reading or by the simulator, each with the smallest history that shows it.

use super::*;
