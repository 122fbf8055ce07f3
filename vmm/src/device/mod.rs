//! What stands in for devices: the command's own descriptors 0, 1 and 2, and the kernel's log.
//!
//! | file | what |
//! |---|---|
//! | `stdin` | reading without blocking |
//! | `output` | writing without blocking |
//! | `watcher` | waiting in a guest's place, and the interrupt that says when to ask again |
//! | `stdio` | fstat, TIOCGWINSZ and TCGETS of the host's descriptors |
//! | `log` | the guest kernel's own text, escaped and bounded |

pub mod log;
pub mod output;
pub mod stdin;
pub mod stdio;
pub mod watcher;
