//! The demo's program: several processes in several guests share one segment, and each proves that it sees what
//! every other writes. `tombolo demo` runs it (2 guests × 2 processes) and reads what it prints.
//!
//! `demo KEY HANDOFFS`, with TOMBOLO_GUEST, _GUESTS, _PROC and _PROCS set. Each process is a *member*, numbered
//! through all guests. What a member does, step by step, each step only when all have done the one before:
//! 1. `shmget(KEY, IPC_CREAT | 0600)`, `shmat`; member 0 prints `all-attached`.
//! 2. Write its page; read everyone else's pages and check each byte.
//! 3. Hand-offs ([`baton`]), one pair (writer, reader) at a time while the others sleep.
//! 4. The last member attaches read-only, detaches the other attach, and writes: SIGSEGV. The others wait until its
//!    attach is gone and check that the byte is as it was.
//! 5. All detach; the one that leaves last removes the segment and looks that the key is free.
//!
//! What it prints, one line each, for the command to parse (members by number, times in nanoseconds):
//! `attached ID`, `all-attached`, `read WRITER BYTES`, `saw WRITER HANDOFFS LEAST MEDIAN NINTH_DECILE`, `read-only`,
//! `unchanged`, `detached`, `removed`, or `error TEXT` and exit status 1.

mod baton;
mod layout;
mod wait;

use crate::clock::TscRate;
use crate::shared::Attached;
use crate::start::{Start, parse_number};
use crate::{say, sys};
use abi::Errno;
use abi::ipc::{IPC_CREAT, SHM_RDONLY};
use baton::{MAX_HANDOFFS, Seen};
use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;
use layout::{
    ARRIVED, FAILED, LEAVING, MAX_MEMBERS, PAGE, READ, READ_ONLY, SIZE, TURN, WRITTEN, page_of, pair, pairs,
    pattern,
};
use wait::doze;

/// Longest wait for another member, at any step.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Why a member gives up.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// Its arguments or environment make no sense.
    Usage,
    /// A system call failed.
    Call(&'static str, Errno),
    /// Waiting took too long.
    TooLong(&'static str),
    /// Another member has given up and said why.
    OfAnother,
    /// A hand-off was not what had been written.
    WrongContents { handoff: u64 },
    /// A byte of a page was not what had been written.
    WrongByte { page: usize, offset: usize },
    /// The write through the read-only attach did not end the process.
    WriteWentThrough,
    /// The segment is not in the state it should be in.
    Segment(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage => {
                f.write_str("usage: demo KEY HANDOFFS, with TOMBOLO_GUEST, _GUESTS, _PROC, _PROCS set")
            }
            Failure::Call(call, errno) => write!(f, "{call}: {errno}"),
            Failure::TooLong(what) => write!(f, "waited {} s for {what}", TIME_LIMIT.as_secs()),
            Failure::OfAnother => f.write_str("another process gave up"),
            Failure::WrongContents { handoff } => write!(f, "hand-off {handoff} is not what was written"),
            Failure::WrongByte { page, offset } => {
                write!(f, "byte {offset} of page {page} is not what was written")
            }
            Failure::WriteWentThrough => f.write_str("a write through a read-only attach went through"),
            Failure::Segment(what) => write!(f, "the segment {what}"),
        }
    }
}

/// Turns a system call's error into a [`Failure`] that names the call.
fn failed(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::Call(call, errno)
}

/// Runs the program; the result is its exit status.
pub fn main(start: Start) -> i32 {
    match Member::new(start).and_then(|member| member.run()) {
        Ok(()) => 0,
        Err(failure) => {
            say!("error {failure}");
            1
        }
    }
}

/// One process of the demo.
struct Member {
    index: usize,
    members: usize,
    key: i32,
    handoffs: u64,
    rate: TscRate,
}

impl Member {
    fn new(start: Start) -> Result<Self, Failure> {
        let argument = |index| start.argument(index).and_then(parse_number).ok_or(Failure::Usage);
        let variable = |name| {
            start
                .number(name)
                .map(|number| number as usize)
                .ok_or(Failure::Usage)
        };
        let processes = variable("TOMBOLO_PROCS")?;
        let members = variable("TOMBOLO_GUESTS")?
            .checked_mul(processes)
            .ok_or(Failure::Usage)?;
        let index = variable("TOMBOLO_GUEST")?
            .checked_mul(processes)
            .ok_or(Failure::Usage)?
            + variable("TOMBOLO_PROC")?;
        let (key, handoffs) = (argument(1)? as i32, u64::from(argument(2)?));
        let sensible = (2..=MAX_MEMBERS).contains(&members)
            && index < members
            && (1..=MAX_HANDOFFS as u64).contains(&handoffs);
        if !sensible {
            return Err(Failure::Usage);
        }
        Ok(Member {
            index,
            members,
            key,
            handoffs,
            rate: TscRate::begin(),
        })
    }

    fn run(&self) -> Result<(), Failure> {
        let id = sys::shmget(self.key, SIZE as u64, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
        let segment = Attached::new(id, SIZE, 0).map_err(failed("shmat"))?;
        say!("attached {id}");
        let result = self.meet(&segment).and_then(|()| self.hand_over(&segment));
        if let Err(failure) = result {
            segment.store(FAILED, 1, Ordering::Relaxed);
            return Err(failure);
        }
        if self.index == self.members - 1 {
            self.write_where_one_may_not(id, segment)
        } else {
            self.watch_and_leave(id, segment)
        }
    }

    /// Adds oneself to the word at `counter` and waits until all have.
    fn gather(&self, segment: &Attached, counter: usize, what: &'static str) -> Result<(), Failure> {
        segment.count(counter);
        doze(segment, what, || {
            segment.load(counter, Ordering::Acquire) >= self.members as u64
        })
    }

    /// Steps 1 and 2: all attach, each writes its page, all read all.
    fn meet(&self, segment: &Attached) -> Result<(), Failure> {
        self.gather(segment, ARRIVED, "the others to attach")?;
        if self.index == 0 {
            // Nobody goes past WRITTEN before member 0 has printed this: all are still attached.
            say!("all-attached");
        }
        for offset in 0..PAGE {
            segment.set_byte(page_of(self.index) + offset, pattern(self.index, offset));
        }
        self.gather(segment, WRITTEN, "the others to write")?;
        self.check_pages(segment)?;
        for writer in (0..self.members).filter(|&writer| writer != self.index) {
            say!("read {writer} {PAGE}");
        }
        self.gather(segment, READ, "the others to read")
    }

    fn check_pages(&self, segment: &Attached) -> Result<(), Failure> {
        for page in 0..self.members {
            for offset in 0..PAGE {
                if segment.byte(page_of(page) + offset) != pattern(page, offset) {
                    return Err(Failure::WrongByte { page, offset });
                }
            }
        }
        Ok(())
    }

    /// Step 3: hand-offs, one pair at a time.
    fn hand_over(&self, segment: &Attached) -> Result<(), Failure> {
        let mut samples = [0u64; MAX_HANDOFFS];
        let mut seen = [Seen::default(); MAX_MEMBERS];
        let last = pairs(self.members);
        let mut turn = 0;
        while turn < last {
            let (writer, reader) = pair(turn, self.members);
            if self.index == reader {
                seen[writer] = baton::take(segment, turn, &mut samples[..self.handoffs as usize])?;
                segment.store(TURN, turn as u64 + 1, Ordering::Release);
            } else if self.index == writer {
                baton::give(segment, turn, self.handoffs, self.rate.khz())?;
            }
            let done = turn as u64;
            doze(segment, "the other pairs", || {
                segment.load(TURN, Ordering::Acquire) > done
            })?;
            turn = segment.load(TURN, Ordering::Acquire) as usize;
        }
        let khz = self.rate.khz();
        for (writer, seen) in seen.iter().enumerate().filter(|(_, seen)| seen.handoffs > 0) {
            let [least, median, ninth_decile] = seen.in_ns(khz);
            say!("saw {writer} {} {least} {median} {ninth_decile}", seen.handoffs);
        }
        Ok(())
    }

    /// Step 4, the last member: writes through a read-only attach, which ends it.
    fn write_where_one_may_not(&self, id: u64, segment: Attached) -> Result<(), Failure> {
        let read_only = Attached::new(id, SIZE, SHM_RDONLY).map_err(failed("shmat read-only"))?;
        self.check_pages(&read_only)?;
        say!("read-only");
        // From here on the others take one attach less for the end of this process: they go from n + 1 attaches
        // (now) by n (below) to n - 1.
        segment.store(READ_ONLY, 1, Ordering::Release);
        segment.detach().map_err(failed("shmdt"))?;
        read_only.set_byte(page_of(0), !pattern(0, 0));
        Err(Failure::WriteWentThrough)
    }

    /// Steps 4 and 5, the other members.
    fn watch_and_leave(&self, id: u64, segment: Attached) -> Result<(), Failure> {
        let attaches = || sys::shm_stat(id).map(|state| state.nattch);
        let survivors = self.members as u64 - 1;
        doze(&segment, "the last process to attach read-only", || {
            segment.load(READ_ONLY, Ordering::Acquire) == 1
        })?;
        doze(&segment, "the read-only attach to go", || {
            attaches().is_ok_and(|now| now <= survivors)
        })?;
        self.check_pages(&segment)?;
        say!("unchanged");
        // None detaches before all have looked: the count above must not fall for another reason.
        let nth = segment.count(LEAVING) + 1;
        doze(&segment, "the others to look", || {
            segment.load(LEAVING, Ordering::Acquire) >= survivors
        })?;
        segment.detach().map_err(failed("shmdt"))?;
        say!("detached");
        if nth == survivors { self.remove(id) } else { Ok(()) }
    }

    /// Step 5, the last to leave: the segment goes.
    fn remove(&self, id: u64) -> Result<(), Failure> {
        let limit = sys::monotonic_ns() + TIME_LIMIT.as_nanos() as u64;
        while sys::shm_stat(id).map_err(failed("shmctl IPC_STAT"))?.nattch != 0 {
            if sys::monotonic_ns() > limit {
                return Err(Failure::Segment("is still attached somewhere"));
            }
            sys::sleep(Duration::from_millis(1));
        }
        sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
        match sys::shmget(self.key, 0, 0) {
            Err(Errno::ENOENT) => {}
            _ => return Err(Failure::Segment("is still found by its key")),
        }
        say!("removed");
        Ok(())
    }
}
