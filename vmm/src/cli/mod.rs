//! The command: reads its line ([`args`]), runs programs ([`run`]), the demo ([`demo`]), litmus tests ([`litmus`]) or
//! measurements ([`bench`]), and says how it went.
//!
//! One file a subcommand; [`output`] takes what programs write, [`closed`] knows what can't, [`signals`] Ctrl-C, [`verdict`] turns an outcome into
//! an exit status and messages, [`report`] into JSON. [`lab`] runs a built-in program natively and in guests by turns. Messages and logs go to stderr, one `tombolo: ` line each;
//! stdout belongs to the programs, the demo's result and `--report -`.

mod args;
mod bench;
mod closed;
mod demo;
mod lab;
mod litmus;
mod output;
mod progress;
mod report;
mod run;
mod signals;
mod table;
mod values;
mod verdict;

use args::{Refused, Task};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use table::Style;
use tombolo::error::VmmError;
use tracing_subscriber::EnvFilter;

/// Exit status for Tombolo's own errors.
const OWN_ERROR: u8 = 125;

/// The whole command.
pub(crate) fn main() -> ExitCode {
    let request = match args::parse(std::env::args_os()) {
        Ok(request) => request,
        Err(Refused::Shown(text)) => {
            // Nobody reads it: then nobody needs to know.
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
        Err(Refused::Wrong(text)) => {
            tell(text);
            return OWN_ERROR.into();
        }
    };
    start_log(request.common.verbose);
    let done = match &request.task {
        Task::Demo(demo) => demo::run(demo, &request.common),
        Task::Run(run) => run::run(run, &request.common),
        Task::Litmus(litmus) => litmus::run(litmus),
        Task::Bench(bench) => bench::run(bench),
    };
    let status = done.unwrap_or_else(|error| match error.downcast_ref::<VmmError>() {
        // Its message has the cause in it.
        Some(own) => {
            tell(own);
            own.exit_status()
        }
        None => {
            tell(format_args!("{error:#}"));
            OWN_ERROR
        }
    });
    status.into()
}

/// One message on stderr.
fn tell(text: impl Display) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "tombolo: {text}");
}

/// Sends the log to stderr: warnings, or what RUST_LOG or `-v` asks for.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match asked.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            tell(format_args!("RUST_LOG is not understood: {error}"));
            EnvFilter::new(level)
        }
        None => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that nobody reads any more must not end anything.
        .log_internal_errors(false)
        .with_ansi(Style::of(&std::io::stderr()) == Style::Colour)
        .init();
}
