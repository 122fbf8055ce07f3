//! `/proc/PID/maps`: the areas of a process's memory (proc_pid_maps(5)).

use super::text::Text;
use crate::kernel::Kernel;

/// `/proc/PID/maps`.
pub fn maps(_kernel: &mut Kernel, _number: usize, _text: &mut Text<'_>) {}
