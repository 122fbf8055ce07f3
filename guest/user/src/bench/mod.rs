//! The program of `tombolo bench`: one measurement a run, the same code natively and in guests.
//!
//! `bench WHAT WHO CPUS KEY KHZ COUNT [SIZE]`: a measurement of [`MEASUREMENTS`]; `all` for both players in this process, or
//! the number of the one that this process is; their CPUs, separated by a comma; the key that players in several
//! processes meet by; the rate of the time-stamp counter; how many samples; and a size in bytes.
//!
//! Each result is a line `sample NAME LEAST MEDIAN P99 COUNT`, times in picoseconds. Clocks are read with `rdtsc`, because a
//! system call in a guest costs as much as what is measured. What comes first is done once untimed.

mod copy;
mod life;
mod pair;

use crate::shared::Attached;
use crate::start::{Start, parse_number};
use crate::{say, sys, thread};
use abi::Errno;
use abi::ipc::IPC_CREAT;
use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// Why a measurement ends early.
enum Failure {
    Usage,
    Call(&'static str, Errno),
    TooLong,
    Wrong(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage => f.write_str("usage: bench WHAT all|PLAYER CPU,CPU KEY KHZ COUNT [SIZE]"),
            Failure::Call(call, errno) => write!(f, "{call}: {errno}"),
            Failure::Wrong(what) => f.write_str(what),
            Failure::TooLong => f.write_str("waited too long for the other player"),
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::Call(call, errno)
}

/// What this process is to do.
struct Task {
    only: Option<usize>,
    cpus: [usize; 2],
    key: i32,
    khz: u64,
    count: usize,
    size: usize,
}

type Measurement = fn(&Task) -> Result<(), Failure>;

const MEASUREMENTS: &[(&str, Measurement)] = &[
    ("call", life::call),
    ("life", life::life),
    ("many", life::many),
    ("hand-off", pair::hand_off),
    ("wake", pair::wake),
    ("pipe", copy::pipe),
    ("sweep", copy::sweep),
    ("sweep-small", copy::sweep_small),
    ("sweep-file", copy::sweep_file),
    ("hello", hello),
    ("rest", rest),
    ("hold", life::hold),
    ("clear", life::clear),
    ("meet", life::meet),
];

/// Runs the program; the result is its exit status.
pub fn main(start: Start) -> i32 {
    match measure(start) {
        Ok(()) => 0,
        Err(failure) => {
            say!("error {failure}");
            1
        }
    }
}

fn measure(start: Start) -> Result<(), Failure> {
    let argument = |index| start.argument(index).ok_or(Failure::Usage);
    let number = |text| parse_number(text).ok_or(Failure::Usage);
    let what = argument(1)?;
    let known = MEASUREMENTS.iter().find(|(name, _)| name.as_bytes() == what);
    let (_, measurement) = known.ok_or(Failure::Usage)?;
    let mut cpus = argument(3)?.split(|&byte| byte == b',');
    let mut cpu = || number(cpus.next().ok_or(Failure::Usage)?).map(|cpu| cpu as usize);
    measurement(&Task {
        only: match argument(2)? {
            b"all" => None,
            text => Some(number(text)? as usize),
        },
        cpus: [cpu()?, cpu()?],
        key: number(argument(4)?)? as i32,
        khz: u64::from(number(argument(5)?)?).max(1),
        count: number(argument(6)?)? as usize,
        size: start
            .argument(7)
            .map_or(Ok(4096), |text| number(text).map(|size| size as usize))?,
    })
}

/// Says hello.
fn hello(_task: &Task) -> Result<(), Failure> {
    say!("hello");
    Ok(())
}

/// Says so, and does nothing for `COUNT` milliseconds.
fn rest(task: &Task) -> Result<(), Failure> {
    say!("rest");
    sys::sleep(Duration::from_millis(task.count as u64));
    Ok(())
}

impl Task {
    /// Runs `play` for both players, in this process or in two that have met in a segment of `size` bytes, each on its
    /// CPU. The segment goes with its last attach.
    fn both(
        &self,
        size: usize,
        play: fn(&Task, &Attached, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let id = sys::shmget(self.key, size as u64, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
        let segment = Attached::new(id, size, 0).map_err(failed("shmat"))?;
        if self.only.is_some() {
            segment.count(pair::ARRIVED);
        }
        let met = match self.only {
            Some(_) => pair::until(|| segment.load(pair::ARRIVED, Ordering::Acquire) >= 2),
            None => Ok(()),
        };
        // Whether the other has come or not: nothing stays behind.
        if self.only.unwrap_or(0) == 0 {
            sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
        }
        met?;
        let one = |me: usize| {
            sys::run_on(self.cpus[me])
                .map_err(failed("sched_setaffinity"))
                .and_then(|()| play(self, &segment, me))
        };
        match self.only {
            Some(me) => one(me.min(1)),
            None => thread::together(2, &|me| {
                if let Err(failure) = one(me) {
                    // The other can't go on either.
                    say!("error {failure}");
                    sys::exit(1);
                }
            })
            .map_err(failed("clone")),
        }
    }

    /// Prints what `ticks` amount to; each is of `units` units.
    fn tell(&self, name: impl fmt::Display, ticks: &mut [u64], units: u64) {
        if ticks.is_empty() {
            return;
        }
        ticks.sort_unstable();
        let at = |percent: usize| {
            let ticks = ticks[((ticks.len() - 1) * percent).div_ceil(100)];
            (u128::from(ticks) * 1_000_000_000 / u128::from(self.khz) / u128::from(units)) as u64
        };
        say!("sample {name} {} {} {} {}", at(0), at(50), at(99), ticks.len());
    }
}
