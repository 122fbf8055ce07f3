//! `tombolo demo`: 2 guests × 2 vCPUs, a program on each, one segment; shown and verified.
//!
//! The program is `guest/user`'s `demo` (its module essay tells what each copy does, and what it prints).
//! [`board`] takes what the programs print, [`check`] decides whether all is as it must be, [`show`] makes tables or
//! JSON of it. Everything that is shown has been checked; if something is not so, the exit status is 1.

mod board;
mod check;
mod show;

use super::args::{Common, DemoArgs, Format};
use super::report::Destination;
use super::run::{log_flags, log_outcome};
use super::signals::Signals;
use super::table::Style;
use super::{tell, verdict};
use anyhow::{Context, Result};
use board::Board;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tombolo::broker::{BrokerLimits, GuestPolicy, SegmentState};
use tombolo::config::{DEFAULT_MEMORY, GroupConfig, GuestConfig, Output, ProcessConfig, Stdin};
use tombolo::group::Group;
use tombolo::image::Program;
use tombolo::outcome::{GuestEnd, Outcome, StopRequest};

/// Guests.
const GUESTS: u32 = 2;
/// Processes in each guest, and vCPUs.
const PROCESSES: u32 = 2;
/// Processes in all.
const MEMBERS: u32 = GUESTS * PROCESSES;
/// The segment's key: "tomb".
const KEY: i32 = 0x746f_6d62;
/// Hand-offs between the writer and the reader of each pair; a pair that shares a CPU may stop earlier.
const HANDOFFS: u64 = 2000;
/// Fewest hand-offs a pair must have had.
const FEWEST_HANDOFFS: u64 = 20;
/// Bytes each process writes for the others to read.
const PAGE: u64 = 4096;
/// The whole demo is ended after this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// All there is to show.
struct Shown {
    members: Vec<board::Member>,
    /// The segments while all had attached.
    segments: Vec<SegmentState>,
    outcome: Outcome,
    /// From the start of the command's work to the end of the last guest.
    wall: Duration,
}

/// Runs the demo; the result is the command's exit status: 0, 1 if something was not as it must be, or as with
/// `tombolo run` if a guest failed or was ended.
///
/// # Errors
/// What kept it from starting or its result from being written.
pub(super) fn run(demo: &DemoArgs, common: &Common) -> Result<u8> {
    let began = Instant::now();
    let report = common.report.as_deref().map(Destination::new).transpose()?;
    let board = Arc::new(Board::new(MEMBERS, PROCESSES));
    let output: Arc<dyn Output> = Arc::<Board>::clone(&board);
    let guests = guests()?;
    let signals = Signals::block().context("signals")?;
    let group = Group::start(GroupConfig {
        guests,
        timeout: Some(TIMEOUT),
        stdin: Stdin::Bytes(Vec::new()),
        output,
        limits: BrokerLimits::default(),
        kernel: None,
        observer: None,
    })?;
    let broker = group.broker();
    board.look_with(move || broker.segments());
    let stopper = group.stopper();
    signals.on_first(move |signal| stopper.stop(StopRequest::Signal(signal)));
    let outcome = group.wait();
    log_outcome(&outcome);
    let (members, segments) = (board.members(), board.segments());
    let shown = Shown {
        members,
        segments,
        outcome,
        wall: began.elapsed(),
    };

    for message in verdict::messages(&shown.outcome, Some(TIMEOUT)) {
        // This one is part of the demonstration.
        if message != check::expected_message() {
            tell(message);
        }
    }
    let checks = check::all(&shown);
    let good = checks.iter().all(|check| check.wrong.is_none());
    // A guest that failed or was ended has a status of its own; what else is wrong is 1.
    let status = match verdict::exit_status(&shown.outcome) {
        status
            if shown
                .outcome
                .guests
                .iter()
                .any(|guest| guest.end != GuestEnd::Done) =>
        {
            status
        }
        _ => u8::from(!good),
    };
    let text = match demo.format {
        Format::Text => show::text(&shown, &checks, Style::of(&io::stdout())),
        Format::Json => show::json(&shown, &checks)?,
    };
    io::stdout().lock().write_all(text.as_bytes()).context("stdout")?;
    if let Some(report) = report {
        report.write(&shown.outcome, status)?;
    }
    for check in &checks {
        if let Some(wrong) = &check.wrong {
            tell(format_args!("not so: {}: {wrong}", check.claim));
        }
    }
    Ok(status)
}

fn guests() -> Result<Vec<GuestConfig>> {
    let program = Arc::new(Program::builtin("demo")?);
    let args = ["demo".into(), format!("{KEY:#x}"), HANDOFFS.to_string()];
    let process = ProcessConfig {
        program,
        args: args.into_iter().map(String::into_bytes).collect(),
        env: Vec::new(),
    };
    let guest = GuestConfig {
        vcpus: PROCESSES,
        memory: DEFAULT_MEMORY,
        processes: vec![process; PROCESSES as usize],
        policy: GuestPolicy::default(),
        quota: Default::default(),
        uid: 0,
        gid: 0,
        files: Vec::new(),
        flags: log_flags(),
        inject: None,
    };
    Ok(vec![guest; GUESTS as usize])
}

/// `guest.process` of a member.
fn name(member: u32) -> String {
    format!("{}.{}", member / PROCESSES, member % PROCESSES)
}
