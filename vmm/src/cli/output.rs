//! Where programs' output goes: the command's own stdout and stderr.
//!
//! With one process the bytes pass as they are. With several, each line is written whole, with `guest.process| `
//! before it: what a process has written of a line is kept until the rest comes, the line is [`MAX_LINE`] long, or
//! the run ends.
//!
//! The callers are vCPU threads, and whoever ends a run joins them. So no write may last for ever: descriptors
//! that can be full are polled and get as much as they take at once, and a full one is given up when the run is
//! over ([`Streams::abandon`], or its deadline). Until then a slow reader slows the programs down, as on Linux.

use abi::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, fstat};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tombolo::config::Output;

/// Longest line that is kept together, in bytes; a longer one is broken here.
pub(super) const MAX_LINE: usize = 64 << 10;
/// What a pipe with room takes without blocking (PIPE_BUF, pipe(7)).
const PIPE_BUF: usize = 4096;
/// How often a write that waits looks whether the run is over.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Whether lines say who wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// No: bytes pass as they are.
    Plain,
    /// Yes: `guest.process| ` before each.
    Prefixed,
}

/// The command's stdout and stderr.
pub(super) struct Streams {
    lines: Lines,
    descriptors: [Descriptor; 2],
    /// One for each descriptor, or one for both if they are the same file: whoever holds it writes.
    unfinished: [Mutex<Unfinished>; 2],
    same_file: bool,
    abandoned: AtomicBool,
    deadline: Option<Instant>,
}

struct Descriptor {
    fd: OwnedFd,
    /// A regular file takes everything and is never full; anything else may be.
    regular: bool,
}

/// Lines without their end yet: (guest, process, descriptor) and the bytes so far.
type Unfinished = BTreeMap<(u32, u32, u32), Vec<u8>>;

impl Streams {
    /// Streams into the command's own descriptors.
    ///
    /// # Errors
    /// The host's, should it have no descriptor left.
    pub(super) fn of_command(lines: Lines, deadline: Option<Instant>) -> io::Result<Self> {
        let (out, err) = (
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        );
        Ok(Streams::new(lines, deadline, out, err))
    }

    fn new(lines: Lines, deadline: Option<Instant>, out: OwnedFd, err: OwnedFd) -> Self {
        let identity = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let same_file = identity(&out).is_some() && identity(&out) == identity(&err);
        Streams {
            lines,
            descriptors: [Descriptor::new(out), Descriptor::new(err)],
            unfinished: Default::default(),
            same_file,
            abandoned: AtomicBool::new(false),
            deadline,
        }
    }

    /// From now on nothing waits for a full descriptor: what it does not take is lost.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Writes what is left of unfinished lines, each with an end. Call it when all programs have ended.
    pub(super) fn finish(&self) {
        for unfinished in &self.unfinished {
            let rest = std::mem::take(&mut *lock(unfinished));
            for ((guest, process, descriptor), line) in rest.into_iter().filter(|(_, line)| !line.is_empty())
            {
                let mut whole = prefix(guest, process).into_bytes();
                whole.extend_from_slice(&line);
                whole.push(b'\n');
                if self.emit(descriptor, &whole).is_err() {
                    tracing::debug!("the end of process {guest}.{process}'s output is lost");
                }
            }
        }
    }

    fn over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Writes all of `bytes`. The caller holds the descriptor's lock.
    fn emit(&self, descriptor: u32, mut bytes: &[u8]) -> Result<(), Errno> {
        let Descriptor { fd, regular } = &self.descriptors[index(descriptor)];
        while !bytes.is_empty() {
            if !regular && !ready(fd.as_fd())? {
                if self.over() {
                    return Err(Errno::EIO);
                }
                continue;
            }
            let most = if *regular {
                bytes.len()
            } else {
                bytes.len().min(PIPE_BUF)
            };
            match rustix::io::write(fd, &bytes[..most]) {
                Ok(taken) => bytes = &bytes[taken..],
                // Somebody else was faster, or set O_NONBLOCK: look again.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(errno) => return Err(to_guest(errno)),
            }
        }
        Ok(())
    }
}

impl Output for Streams {
    fn write(&self, guest: u32, process: u32, descriptor: u32, bytes: &[u8]) -> Result<(), Errno> {
        let which = if self.same_file { 0 } else { index(descriptor) };
        let mut unfinished = lock(&self.unfinished[which]);
        if self.lines == Lines::Plain {
            return self.emit(descriptor, bytes);
        }
        let line = unfinished.entry((guest, process, descriptor)).or_default();
        let whole = take_lines(line, &prefix(guest, process), bytes);
        self.emit(descriptor, &whole)
    }
}

impl Descriptor {
    fn new(fd: OwnedFd) -> Self {
        let regular =
            fstat(&fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Descriptor { fd, regular }
    }
}

/// Waits a little for room. A descriptor whose other end is gone is ready: the write says EPIPE.
fn ready(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    match poll(&mut polled, Some(&LOOK)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(false),
        Err(errno) => Err(to_guest(errno)),
    }
}

/// Adds `bytes` to the unfinished `line` and takes out every line that is whole or too long, with prefixes.
fn take_lines(line: &mut Vec<u8>, prefix: &str, bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
        let mut piece = piece;
        while !piece.is_empty() {
            let take = piece.len().min(MAX_LINE - line.len());
            line.extend_from_slice(&piece[..take]);
            piece = &piece[take..];
            let ended = line.last() == Some(&b'\n');
            if ended || line.len() == MAX_LINE {
                whole.extend_from_slice(prefix.as_bytes());
                whole.append(line);
                if !ended {
                    whole.push(b'\n');
                }
            }
        }
    }
    whole
}

fn prefix(guest: u32, process: u32) -> String {
    format!("{guest}.{process}| ")
}

/// Where descriptor 1 or 2 is in an array of both.
fn index(descriptor: u32) -> usize {
    usize::from(descriptor != 1)
}

fn to_guest(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error()).unwrap_or(Errno::EIO)
}

fn lock(mutex: &Mutex<Unfinished>) -> std::sync::MutexGuard<'_, Unfinished> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::sync::Arc;
    use std::time::Duration;

    /// Streams into two pipes, and their other ends.
    fn piped(lines: Lines, deadline: Option<Instant>) -> (Arc<Streams>, File, File) {
        let ((out_read, out), (err_read, err)) =
            (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
        (
            Arc::new(Streams::new(lines, deadline, out, err)),
            out_read.into(),
            err_read.into(),
        )
    }

    fn rest(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn plain_output_passes_byte_for_byte_to_its_own_descriptor() {
        let (streams, out, err) = piped(Lines::Plain, None);
        streams.write(0, 0, 1, b"a\0b\xff").unwrap();
        streams.write(0, 0, 2, b"oops\n").unwrap();
        streams.write(0, 0, 1, b"c").unwrap();
        streams.finish();
        drop(streams);
        assert_eq!(
            (rest(out), rest(err)),
            (b"a\0b\xffc".to_vec(), b"oops\n".to_vec())
        );
    }

    #[test]
    fn lines_are_put_together_and_prefixed() {
        let (streams, out, err) = piped(Lines::Prefixed, None);
        streams.write(0, 0, 1, b"one ").unwrap();
        streams.write(1, 3, 1, b"other\nand").unwrap();
        streams.write(0, 0, 2, b"err").unwrap();
        streams.write(0, 0, 1, b"line\n\ntwo\n").unwrap();
        streams.finish();
        drop(streams);
        let expected = "1.3| other\n0.0| one line\n0.0| \n0.0| two\n1.3| and\n";
        assert_eq!(String::from_utf8(rest(out)).unwrap(), expected);
        assert_eq!(rest(err), b"0.0| err\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_broken() {
        let mut line = Vec::new();
        let text = vec![b'x'; MAX_LINE + 5];
        let whole = take_lines(&mut line, "0.0| ", &text);
        assert_eq!(whole.len(), 5 + MAX_LINE + 1);
        assert_eq!((whole.last(), line.len()), (Some(&b'\n'), 5));
        assert_eq!(take_lines(&mut line, "0.0| ", b"\n"), b"0.0| xxxxx\n");
    }

    #[test]
    fn a_line_of_exactly_the_limit_has_one_end() {
        let mut line = Vec::new();
        let mut text = vec![b'x'; MAX_LINE - 1];
        text.push(b'\n');
        assert_eq!(take_lines(&mut line, "", &text), text);
        assert!(line.is_empty());
    }

    #[test]
    fn without_a_reader_the_program_gets_epipe() {
        for lines in [Lines::Plain, Lines::Prefixed] {
            let (streams, out, _err) = piped(lines, None);
            drop(out);
            assert_eq!(streams.write(0, 0, 1, b"x\n"), Err(Errno::EPIPE));
        }
    }

    #[test]
    fn a_slow_reader_gets_everything() {
        let (streams, out, _err) = piped(Lines::Plain, None);
        let text: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let expected = text.clone();
        let writer = std::thread::spawn(move || streams.write(0, 0, 1, &text));
        std::thread::sleep(Duration::from_millis(80));
        assert_eq!(rest(out), expected);
        assert_eq!(writer.join().unwrap(), Ok(()));
    }

    #[test]
    fn a_full_pipe_is_given_up_when_the_run_is_over() {
        let (streams, _out, _err) = piped(Lines::Plain, Some(Instant::now() + Duration::from_millis(100)));
        assert_eq!(streams.write(0, 0, 1, &vec![0; 300_000]), Err(Errno::EIO));
        let (streams, _out, _err) = piped(Lines::Plain, None);
        let other = Arc::clone(&streams);
        let writer = std::thread::spawn(move || other.write(0, 0, 1, &vec![0; 300_000]));
        std::thread::sleep(Duration::from_millis(20));
        streams.abandon();
        assert_eq!(writer.join().unwrap(), Err(Errno::EIO));
    }

    #[test]
    fn a_non_blocking_descriptor_is_waited_for() {
        let (streams, out, _err) = piped(Lines::Plain, None);
        let fd = &streams.descriptors[0].fd;
        rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::WRONLY).unwrap();
        let other = Arc::clone(&streams);
        let writer = std::thread::spawn(move || other.write(0, 0, 1, &[7; 200_000]));
        std::thread::sleep(Duration::from_millis(80));
        drop(streams);
        assert_eq!(rest(out).len(), 200_000);
        assert_eq!(writer.join().unwrap(), Ok(()));
    }
}
