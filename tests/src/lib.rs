//! The harness that makes a test which boots guests five lines.
//!
//! A [`Run`] names a program of `tests/programs` and how many copies of it run where. [`Run::go`] runs it in guests,
//! [`Run::natively`] on Linux with the same environment, [`Run::compare`] does both and wants the same transcript.
//! [`conforms`] compares line by line, for programs with a line a case.
//! What came of each copy is in
//! [`Finished`]. `compile` builds the programs, `native` is Linux's side, `command` builds
//! and runs the command `tombolo`, `footprint` finds what a run has left behind in this process.
//!
//! Invariants, checked after every run: nothing of it is left in this process (descriptors, memory, threads,
//! children), every guest that ended by itself has as many free frames at its end as at its start, every segment
//! is gone unless the test expects one ([`Run::leaving_segments`]). To know that, runs of one test executable take
//! turns, and `cargo test` runs the executables one after the other.

mod command;
mod compile;
mod conform;
mod finished;
mod footprint;
mod native;
mod run;
mod turn;

pub use command::{Command, CommandResult};
pub use compile::{Toolchain, hostile_kernel, program};
pub use conform::conforms;
pub use finished::{Finished, ProcessResult};
pub use native::busybox;
pub use run::Run;
pub use turn::alone;
