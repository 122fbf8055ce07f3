//! What the demo's programs say of themselves, line by line.
//!
//! The board is the group's [`Output`]. When a program says `all-attached`, it looks at the segments before that
//! program's write returns: so long none detaches.

use abi::Errno;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tombolo::broker::SegmentState;
use tombolo::config::Output;

/// Longest line a program may print, in bytes.
const MAX_LINE: usize = 4096;
/// Most lines that are not understood a program may print.
const MAX_ODD: usize = 16;

/// What one program has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// The segment it attached.
    pub(super) attached: Option<u64>,
    /// Bytes of each other program's page that it found as written.
    pub(super) read: BTreeMap<u32, u64>,
    /// What it saw of each other program's hand-offs.
    pub(super) saw: BTreeMap<u32, Saw>,
    /// It attached read-only and was about to write.
    pub(super) read_only: bool,
    /// It found all as it was after that write.
    pub(super) unchanged: bool,
    /// It detached.
    pub(super) detached: bool,
    /// It removed the segment.
    pub(super) removed: bool,
    /// Errors, and lines that are none of the above.
    pub(super) odd: Vec<String>,
}

/// What a reader saw of one writer, times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Saw {
    /// Hand-offs, all in order and with the right contents.
    pub(super) handoffs: u64,
    /// The fastest.
    pub(super) least: u64,
    /// The median.
    pub(super) median: u64,
    /// Nine in ten were at least as fast.
    pub(super) ninth_decile: u64,
}

/// Tells which segments there are.
type Segments = Box<dyn Fn() -> Vec<SegmentState> + Send + Sync>;

/// Collects the programs' lines.
pub(super) struct Board {
    state: Mutex<State>,
    segments: OnceLock<Segments>,
    processes: u32,
}

struct State {
    /// Each program, and its line without its end yet.
    members: Vec<(Member, Vec<u8>)>,
    /// The segments while all had attached.
    seen: Vec<SegmentState>,
}

impl Board {
    /// A board for `members` programs, `processes` in each guest.
    pub(super) fn new(members: u32, processes: u32) -> Self {
        let members = vec![Default::default(); members as usize];
        Board {
            state: Mutex::new(State {
                members,
                seen: Vec::new(),
            }),
            segments: OnceLock::new(),
            processes,
        }
    }

    /// Says how to look at the segments. A program that wants it done waits until then.
    pub(super) fn look_with(&self, segments: impl Fn() -> Vec<SegmentState> + Send + Sync + 'static) {
        // The first answer stands.
        let _ = self.segments.set(Box::new(segments));
    }

    /// The segments while all had attached; none if the programs did not come so far.
    pub(super) fn segments(&self) -> Vec<SegmentState> {
        self.state().seen.clone()
    }

    /// What each has said.
    pub(super) fn members(&self) -> Vec<Member> {
        self.state()
            .members
            .iter()
            .map(|(member, _)| member.clone())
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Board {
    fn write(&self, guest: u32, process: u32, descriptor: u32, bytes: &[u8]) -> Result<usize, Errno> {
        if descriptor != 1 {
            // Only a program that panics writes there. A closed stderr is no reason to fail.
            let _ = std::io::stderr().lock().write_all(bytes);
            return Ok(bytes.len());
        }
        let mut state = self.state();
        let index = (guest * self.processes + process) as usize;
        let (member, line) = state.members.get_mut(index).ok_or(Errno::EBADF)?;
        for &byte in bytes {
            if byte != b'\n' && line.len() < MAX_LINE {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(line).into_owned();
            line.clear();
            if text == "all-attached" {
                state.seen = (self.segments.wait())();
                return Ok(bytes.len());
            }
            member.hear(&text);
        }
        Ok(bytes.len())
    }
}

impl Member {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let numbers: Option<Vec<u64>> = words[1..].iter().map(|word| word.parse().ok()).collect();
        match (words[0], numbers.as_deref()) {
            ("attached", Some(&[id])) => self.attached = Some(id),
            ("read", Some(&[writer, bytes])) if writer < 256 => {
                self.read.insert(writer as u32, bytes);
            }
            ("saw", Some(&[writer, handoffs, least, median, ninth_decile])) if writer < 256 => {
                self.saw.insert(
                    writer as u32,
                    Saw {
                        handoffs,
                        least,
                        median,
                        ninth_decile,
                    },
                );
            }
            ("read-only", Some([])) => self.read_only = true,
            ("unchanged", Some([])) => self.unchanged = true,
            ("detached", Some([])) => self.detached = true,
            ("removed", Some([])) => self.removed = true,
            _ if self.odd.len() < MAX_ODD => self.odd.push(line.escape_debug().to_string()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn lines_may_come_in_pieces() {
        let board = Board::new(4, 2);
        for piece in [
            &b"attached 7\nsaw 0 20"[..],
            b"00 90 130 210\nread 2 4096\nunch",
            b"anged\n",
        ] {
            board.write(1, 0, 1, piece).unwrap();
        }
        let member = &board.members()[2];
        assert_eq!(
            (member.attached, member.read.get(&2), member.unchanged),
            (Some(7), Some(&4096), true)
        );
        assert_eq!(
            member.saw[&0],
            Saw {
                handoffs: 2000,
                least: 90,
                median: 130,
                ninth_decile: 210
            }
        );
        assert!(member.odd.is_empty());
        assert_eq!(board.members()[0], Member::default());
    }

    #[test]
    fn what_is_not_understood_is_kept_escaped_and_bounded() {
        let board = Board::new(1, 1);
        board
            .write(
                0,
                0,
                1,
                b"error shmat: \x1b[31mEINVAL\nsaw 1 2\nattached x\n\nattached 1 2\n",
            )
            .unwrap();
        let odd = board.members()[0].odd.clone();
        assert_eq!(
            odd,
            [
                "error shmat: \\u{1b}[31mEINVAL",
                "saw 1 2",
                "attached x",
                "",
                "attached 1 2"
            ]
        );
        board.write(0, 0, 1, &[b'\n'; 1000]).unwrap();
        board.write(0, 0, 1, &[b'x'; 100_000]).unwrap();
        assert_eq!(board.members()[0].odd.len(), MAX_ODD);
    }

    #[test]
    fn the_segments_are_looked_at_when_all_have_attached() {
        let board = Arc::new(Board::new(2, 2));
        let program = Arc::clone(&board);
        let held = std::thread::spawn(move || program.write(0, 1, 1, b"all-attached\n"));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!held.is_finished());
        board.look_with(|| super::super::check::tests::good().segments);
        assert!(held.join().unwrap().is_ok());
        assert_eq!(board.segments().len(), 1);
    }

    #[test]
    fn an_unknown_program_gets_an_error() {
        assert_eq!(Board::new(4, 2).write(7, 0, 1, b"x\n"), Err(Errno::EBADF));
    }
}
