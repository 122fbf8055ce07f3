//! The program of `tombolo litmus`: plays one litmus test many times and counts its outcomes.
//!
//! `litmus TEST ROUNDS WHO CPUS PACE CASE`: the test's name; how many rounds; `all` for all threads in this process, or the
//! number of the one thread this process is; the CPU of each thread, separated by commas; whether players go `in-step` or
//! `apart` (below); and a [`Case`]. With TOMBOLO_GUESTS above 1 the copies meet in the segment with key [`KEY`]; a guest
//! more than the test has threads is the one that attaches and detaches other segments all the time ([`churn`]).
//!
//! A round is: all players meet; each waits for a random moment, so that none has the others' start for certain; each
//! plays its instructions, on words that no other round uses. Before a batch of rounds the words are set to 0, each
//! by a player chosen at random, and a player may read its words before it meets the others: so a word may be in any
//! cache and in any state when the round begins. Where there are fewer CPUs than players, meeting takes a time slice:
//! `apart` they only meet once a batch, and run through its rounds each at its own pace.
//!
//! Player 0 counts, and prints `at ROUNDS` now and then, `outcome CODE COUNT` (`litmus::encode`) for each that was seen,
//! and `played ROUNDS`; anybody may print `error TEXT` and end with status 1.

mod arena;
mod ops;

use crate::shared::Attached;
use crate::start::{Start, parse_number};
use crate::{say, sys, thread};
use abi::Errno;
use abi::ipc::{IPC_CREAT, IPC_PRIVATE, SHM_RDONLY};
use arena::{FAILED, Layout, MAX_BATCH, Meeting, OVER, SIZE};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use litmus::{CODES, MAX_REGISTERS, MAX_THREADS, TESTS, Test, Values};
use ops::{BODIES, Body};

/// The key that guests meet by: "litm".
const KEY: i32 = 0x6c69_746d;
/// Where segments are attached: a multiple of 2 MiB everywhere, so that its large pages are where `arena` says.
const FIRST_ADDRESS: u64 = 0x2000_0000_0000;
/// How far from one attach to the next.
const ADDRESS_STEP: u64 = 1 << 30;
/// Rounds of a batch where players meet for each: few enough to stay in a CPU's second-level cache.
const BATCH_IN_STEP: usize = 512;
/// How often player 0 says how far it is.
const TELL: u64 = 20;

/// Why a player gives up.
enum Failure {
    Usage,
    Call(&'static str, Errno),
    TooLong,
    OfAnother,
    /// A word held what nobody stores.
    Value(Values),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage => f.write_str("usage: litmus TEST ROUNDS all|THREAD CPU,... in-step|apart CASE"),
            Failure::Call(call, errno) => write!(f, "{call}: {errno}"),
            Failure::TooLong => f.write_str("waited too long for another player"),
            Failure::OfAnother => f.write_str("another player gave up"),
            Failure::Value(values) => write!(f, "values that nobody stores: {values:?}"),
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::Call(call, errno)
}

/// Which way the players reach the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// One attach for all players of a process.
    Plain,
    /// An attach for each player, at an address of its own.
    Twice,
    /// Players that only read do it through a read-only attach.
    ReadOnly,
    /// X and Y on either side of a boundary of large pages.
    Boundary,
}

impl Case {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"plain" => Some(Case::Plain),
            b"two-addresses" => Some(Case::Twice),
            b"read-only" => Some(Case::ReadOnly),
            b"boundary" => Some(Case::Boundary),
            _ => None,
        }
    }
}

/// What this process is to do.
struct Game {
    test: &'static Test,
    bodies: &'static [Body],
    rounds: u64,
    /// The one thread it plays; `None` for all.
    only: Option<usize>,
    cpus: [usize; MAX_THREADS],
    /// Whether players meet for every round.
    in_step: bool,
    case: Case,
    guests: u64,
}

/// Runs the program; the result is its exit status.
pub fn main(start: Start) -> i32 {
    match Game::new(start).and_then(|game| game.run()) {
        Ok(()) => 0,
        Err(failure) => {
            say!("error {failure}");
            1
        }
    }
}

impl Game {
    fn new(start: Start) -> Result<Self, Failure> {
        let argument = |index| start.argument(index).ok_or(Failure::Usage);
        let number = |text| parse_number(text).ok_or(Failure::Usage);
        let test = Test::named(argument(1)?).ok_or(Failure::Usage)?;
        let (bodies, test) = (BODIES[test], &TESTS[test]);
        let only = match argument(3)? {
            b"all" => None,
            text => Some(number(text)? as usize),
        };
        let mut cpus = [usize::MAX; MAX_THREADS];
        let mut listed = argument(4)?.split(|&byte| byte == b',');
        for cpu in &mut cpus[..test.threads.len()] {
            *cpu = number(listed.next().ok_or(Failure::Usage)?)? as usize;
        }
        let in_step = match argument(5)? {
            b"in-step" => true,
            b"apart" => false,
            _ => return Err(Failure::Usage),
        };
        Ok(Game {
            test,
            bodies,
            rounds: u64::from(number(argument(2)?)?).max(1),
            only,
            cpus,
            in_step,
            case: Case::named(argument(6)?).ok_or(Failure::Usage)?,
            guests: u64::from(start.number("TOMBOLO_GUESTS").unwrap_or(1)),
        })
    }

    fn run(&self) -> Result<(), Failure> {
        let key = if self.guests > 1 { KEY } else { IPC_PRIVATE };
        let id = sys::shmget(key, SIZE as u64, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
        let home = Attached::at(id, FIRST_ADDRESS, SIZE, 0).map_err(failed("shmat"))?;
        let meeting = Meeting {
            segment: &home,
            players: self.bodies.len(),
            in_step: self.in_step,
        };
        // Views before the first round: afterwards nobody can attach a segment that goes with its last attach.
        let view = |nth: u64, flags| {
            Attached::at(id, FIRST_ADDRESS + nth * ADDRESS_STEP, SIZE, flags).map_err(failed("shmat"))
        };
        let views = match self.case {
            Case::Plain | Case::Boundary => [None, None, None, None],
            Case::Twice => [None, Some(view(1, 0)?), Some(view(2, 0)?), Some(view(3, 0)?)],
            Case::ReadOnly => {
                let mut views = [None, None, None, None];
                for (thread, place) in views.iter_mut().enumerate().take(self.bodies.len()) {
                    if self.test.observes(thread) && self.only.is_none_or(|only| only == thread) {
                        *place = Some(view(1 + thread as u64, SHM_RDONLY)?);
                    }
                }
                views
            }
        };
        let begun = meeting.arrive(self.guests).and_then(|()| {
            if self.only.unwrap_or(0) == 0 {
                sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
            }
            Ok(())
        });
        let result = match self.only {
            _ if begun.is_err() => begun,
            Some(thread) if thread >= self.bodies.len() => churn(&home),
            Some(thread) => self.play(thread, meeting, views[thread].as_ref()),
            None => {
                let play = |thread| {
                    if let Err(failure) = self.play(thread, meeting, views[thread].as_ref()) {
                        home.store(FAILED, 1, Ordering::Relaxed);
                        if !matches!(failure, Failure::OfAnother) {
                            say!("error {failure}");
                        }
                    }
                };
                thread::together(self.bodies.len(), &play).map_err(failed("clone"))?;
                match home.load(FAILED, Ordering::Relaxed) {
                    0 => Ok(()),
                    _ => Err(Failure::OfAnother),
                }
            }
        };
        home.store(if result.is_ok() { OVER } else { FAILED }, 1, Ordering::Release);
        result
    }

    /// All rounds of one thread of the test.
    fn play(&self, me: usize, meeting: Meeting<'_>, view: Option<&Attached>) -> Result<(), Failure> {
        sys::run_on(self.cpus[me]).map_err(failed("sched_setaffinity"))?;
        let home = meeting.segment;
        let view = view.unwrap_or(home);
        let layout = match self.case {
            Case::Boundary => Layout::Boundary,
            _ => Layout::Together,
        };
        let body = self.bodies[me];
        let batch = if self.in_step { BATCH_IN_STEP } else { MAX_BATCH };
        let (mut random, mut number, mut played, mut told) = (Random(me as u64 + 1), 0, 0, 0);
        while played < self.rounds {
            let rounds = (self.rounds - played).min(batch as u64) as usize;
            for index in 0..rounds {
                for (nth, word) in layout.words(home, index).into_iter().enumerate() {
                    // The same for all players: exactly one sets it.
                    if chosen(played + index as u64, nth, self.bodies.len()) == me {
                        word.store(0, Ordering::Relaxed);
                    }
                }
            }
            number += 1;
            meeting.pass(me, number)?;
            for index in 0..rounds {
                let cell = layout.cell(view, index);
                let chance = random.next();
                if chance & 1 != 0 {
                    core::hint::black_box(cell.x.load(Ordering::Relaxed));
                }
                if chance & 2 != 0 {
                    core::hint::black_box(cell.y.load(Ordering::Relaxed));
                }
                // Out of step a round takes long, so that a batch lasts for several time slices.
                let mut delay = chance >> 8 & if self.in_step { 31 } else { 1023 };
                if self.in_step {
                    number += 1;
                    // The last to come sees the others at once; these see it only when its word has reached them.
                    if meeting.pass(me, number)? {
                        delay = chance >> 8 & 255;
                    }
                }
                for _ in 0..delay {
                    core::hint::black_box(());
                }
                let registers = body(cell);
                for (register, value) in registers.into_iter().enumerate() {
                    arena::register(home, me, index, register).store(value, Ordering::Relaxed);
                }
            }
            number += 1;
            meeting.pass(me, number)?;
            played += rounds as u64;
            if me == 0 {
                self.count(home, layout, rounds)?;
                if played * TELL / self.rounds > told {
                    told = played * TELL / self.rounds;
                    say!("at {played}");
                }
            }
            // Words are set to 0 only when they have been counted.
            number += 1;
            meeting.pass(me, number)?;
        }
        if me == 0 {
            tell(played);
        }
        Ok(())
    }

    /// Adds the outcomes of a batch to [`COUNTS`].
    fn count(&self, home: &Attached, layout: Layout, rounds: usize) -> Result<(), Failure> {
        for index in 0..rounds {
            let mut values = Values::default();
            let mut place = values.iter_mut();
            for player in 0..self.bodies.len() {
                for register in 0..self.test.registers(player).min(MAX_REGISTERS) {
                    let word = arena::register(home, player, index, register);
                    if let Some(place) = place.next() {
                        *place = word.load(Ordering::Relaxed);
                    }
                }
            }
            let words = layout.words(home, index);
            for &word in self.test.finals {
                if let Some(place) = place.next() {
                    *place = words[word as usize].load(Ordering::Relaxed);
                }
            }
            let code = litmus::encode(&values).ok_or(Failure::Value(values))?;
            COUNTS[code].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How often each outcome was seen. Player 0's alone.
static COUNTS: [AtomicU64; CODES] = [const { AtomicU64::new(0) }; CODES];

fn tell(played: u64) {
    for (code, count) in COUNTS.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            say!("outcome {code} {count}");
        }
    }
    say!("played {played}");
}

/// The player that sets word `nth` of a round to 0.
fn chosen(round: u64, nth: usize, players: usize) -> usize {
    let mixed = (round * 3 + nth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % players
}

/// A linear congruential generator (Knuth's MMIX); its high bits are good enough to scatter moments.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Makes, attaches, touches, detaches and removes other segments until the players are done.
fn churn(home: &Attached) -> Result<(), Failure> {
    const SIZES: [u64; 3] = [4096, 64 << 10, 2 << 20];
    let mut done = 0u64;
    loop {
        for size in SIZES {
            let id = sys::shmget(IPC_PRIVATE, size, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
            let other = Attached::new(id, size as usize, 0).map_err(failed("shmat"))?;
            other.store(0, done, Ordering::Relaxed);
            other.detach().map_err(failed("shmdt"))?;
            sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
            done += 1;
        }
        if home.load(OVER, Ordering::Acquire) != 0 {
            say!("churned {done}");
            return Ok(());
        }
        if home.load(FAILED, Ordering::Acquire) != 0 {
            return Err(Failure::OfAnother);
        }
    }
}
