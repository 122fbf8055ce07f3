//! Where programs' output goes: the command's own stdout and stderr.
//!
//! With one process the bytes pass as they are. With several, each line is written whole, with `guest.process| `
//! before it: what a process has written of a line is kept until the rest comes, the line is [`MAX_LINE`] long, or
//! the run ends.
//!
//! The callers are vCPU threads, whose kernel may hold its lock: no write waits. A full descriptor takes what there is
//! room for; of a line that has not gone out whole the last byte is not taken from the program, which comes again
//! with it when there is room, and nothing else goes out before the rest of the line. So a slow reader slows down
//! the program that writes, as on Linux. Only [`Streams::finish`] waits, until the run is over
//! ([`Streams::abandon`], or its deadline).

use abi::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::fstat;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tombolo::config::Output;
use tombolo::device::output::Sink;

/// Longest line that is kept together, in bytes; a longer one is broken here.
pub(super) const MAX_LINE: usize = 64 << 10;
/// How often the last lines, when they have to wait, look whether the run is over.
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
    sinks: [Sink; 2],
    /// One for each sink, or one for both if they are the same file: whoever holds it writes.
    texts: [Mutex<Text>; 2],
    same_file: bool,
    abandoned: AtomicBool,
    deadline: Option<Instant>,
}

/// What is on its way to a sink.
#[derive(Default)]
struct Text {
    /// What has to go out next: the rest of a line, and to which descriptor.
    rest: VecDeque<u8>,
    rest_to: u32,
    /// Lines without their end yet: by guest, process and descriptor.
    unfinished: BTreeMap<(u32, u32, u32), Unfinished>,
}

#[derive(Default)]
struct Unfinished {
    line: Vec<u8>,
    /// The line has gone out, or is what has to go out next, with its last byte, which has not been taken from the
    /// program yet.
    owed: bool,
}

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
            sinks: [Sink::new(out), Sink::new(err)],
            texts: Default::default(),
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
        for text in &self.texts {
            let text = std::mem::take(&mut *lock(text));
            let rest = Vec::from(text.rest);
            let mut all = vec![(text.rest_to, rest)];
            for ((guest, process, descriptor), Unfinished { line, owed }) in text.unfinished {
                if !owed && !line.is_empty() {
                    let mut whole = prefix(guest, process).into_bytes();
                    whole.extend_from_slice(&line);
                    whole.push(b'\n');
                    all.push((descriptor, whole));
                }
            }
            for (descriptor, bytes) in all {
                if self.emit_all(descriptor, &bytes).is_err() {
                    tracing::debug!("the end of the output to descriptor {descriptor} is lost");
                }
            }
        }
    }

    fn over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Writes all of `bytes`, and waits for room meanwhile.
    fn emit_all(&self, descriptor: u32, mut bytes: &[u8]) -> Result<(), Errno> {
        let sink = &self.sinks[index(descriptor)];
        while !bytes.is_empty() {
            match sink.write(bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(Errno::EAGAIN) if self.over() => return Err(Errno::EIO),
                Err(Errno::EAGAIN) => wait_for_room(sink.as_fd()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what has to go out next; whether all of it is out.
    fn emit_rest(&self, text: &mut Text) -> Result<bool, Errno> {
        let sink = &self.sinks[index(text.rest_to)];
        while !text.rest.is_empty() {
            let written = sink.write(text.rest.as_slices().0);
            match written {
                Ok(taken) => drop(text.rest.drain(..taken)),
                Err(Errno::EAGAIN) => return Ok(false),
                Err(error) => {
                    text.rest.clear();
                    return Err(error);
                }
            }
        }
        Ok(true)
    }
}

impl Output for Streams {
    fn write(&self, guest: u32, process: u32, descriptor: u32, bytes: &[u8]) -> Result<usize, Errno> {
        let which = if self.same_file { 0 } else { index(descriptor) };
        let text = &mut *lock(&self.texts[which]);
        if self.lines == Lines::Plain {
            return self.sinks[index(descriptor)].write(bytes);
        }
        let mut done = 0;
        while done < bytes.len() {
            if !self.emit_rest(text)? {
                break;
            }
            let unfinished = text.unfinished.entry((guest, process, descriptor)).or_default();
            if std::mem::take(&mut unfinished.owed) {
                done += 1;
                continue;
            }
            let (taken, ended) = take_line(&mut unfinished.line, &bytes[done..]);
            done += taken;
            if ended {
                text.rest_to = descriptor;
                text.rest.extend(prefix(guest, process).as_bytes());
                text.rest.extend(unfinished.line.drain(..));
                if text.rest.back() != Some(&b'\n') {
                    text.rest.push_back(b'\n');
                }
                unfinished.owed = true;
                if !self.emit_rest(text)? {
                    // The program comes again with the last byte.
                    done -= 1;
                    break;
                }
                if let Some(unfinished) = text.unfinished.get_mut(&(guest, process, descriptor)) {
                    unfinished.owed = false;
                }
            }
        }
        if done == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        Ok(done)
    }

    fn awaited(&self, descriptor: u32) -> Option<BorrowedFd<'_>> {
        let which = if self.same_file { 0 } else { index(descriptor) };
        let text = lock(&self.texts[which]);
        // What has to go out next may be for the other one.
        let next = if text.rest.is_empty() {
            descriptor
        } else {
            text.rest_to
        };
        let sink = &self.sinks[index(next)];
        (!sink.is_ready()).then(|| sink.as_fd())
    }
}

/// Waits a little for room.
fn wait_for_room(fd: BorrowedFd<'_>) {
    // Whatever it says, the next write says it again.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&LOOK));
}

/// Adds bytes to the unfinished `line`, up to its end or the limit: how many, and whether it has to go out now.
fn take_line(line: &mut Vec<u8>, bytes: &[u8]) -> (usize, bool) {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let take = end.map_or(bytes.len(), |end| end + 1).min(MAX_LINE - line.len());
    line.extend_from_slice(&bytes[..take]);
    (take, line.last() == Some(&b'\n') || line.len() == MAX_LINE)
}

fn prefix(guest: u32, process: u32) -> String {
    format!("{guest}.{process}| ")
}

/// Where descriptor 1 or 2 is in an array of both.
fn index(descriptor: u32) -> usize {
    usize::from(descriptor != 1)
}

fn lock(mutex: &Mutex<Text>) -> std::sync::MutexGuard<'_, Text> {
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

    /// Writes all of `bytes`, coming again as a guest does while there is no room.
    fn write_all(streams: &Streams, copy: (u32, u32), descriptor: u32, bytes: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < bytes.len() {
            match streams.write(copy.0, copy.1, descriptor, &bytes[done..]) {
                Ok(taken) => done += taken,
                Err(Errno::EAGAIN) => {
                    if let Some(fd) = streams.awaited(descriptor) {
                        wait_for_room(fd);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[test]
    fn plain_output_passes_byte_for_byte_to_its_own_descriptor() {
        let (streams, out, err) = piped(Lines::Plain, None);
        assert_eq!(streams.write(0, 0, 1, b"a\0b\xff"), Ok(4));
        assert_eq!(streams.write(0, 0, 2, b"oops\n"), Ok(5));
        assert_eq!(streams.write(0, 0, 1, b"c"), Ok(1));
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
        assert_eq!(take_line(&mut line, &text), (MAX_LINE, true));
        line.clear();
        assert_eq!(take_line(&mut line, &text[MAX_LINE..]), (5, false));
        assert_eq!(take_line(&mut line, b"\n\n"), (1, true));
        assert_eq!(line, b"xxxxx\n");
    }

    #[test]
    fn a_line_of_exactly_the_limit_has_one_end() {
        let mut line = Vec::new();
        let mut text = vec![b'x'; MAX_LINE - 1];
        text.push(b'\n');
        assert_eq!(take_line(&mut line, &text), (MAX_LINE, true));
        assert_eq!(line, text);
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
    fn a_full_descriptor_is_told_and_not_waited_for() {
        for lines in [Lines::Plain, Lines::Prefixed] {
            let (streams, mut out, _err) = piped(lines, None);
            let text: Vec<u8> = (0..30_000)
                .flat_map(|n| format!("{n:09}\n").into_bytes())
                .collect();
            let taken = streams.write(0, 0, 1, &text).unwrap();
            assert!(taken > 0 && taken < text.len());
            assert_eq!(streams.write(0, 0, 1, &text[taken..]), Err(Errno::EAGAIN));
            // Nor does another process get between the parts of a line.
            assert_eq!(streams.write(0, 1, 1, b"other\n"), Err(Errno::EAGAIN));
            assert!(streams.awaited(1).is_some() && streams.awaited(2).is_none());
            out.read_exact(&mut [0; 4096]).unwrap();
            assert!(streams.awaited(1).is_none());
        }
    }

    #[test]
    fn a_slow_reader_gets_everything_and_lines_whole() {
        let line = |n: u32| format!("{}-{n}\n", "x".repeat(n as usize % 9000)).into_bytes();
        let (streams, out, _err) = piped(Lines::Prefixed, None);
        let writers: Vec<_> = (0..3)
            .map(|process| {
                let streams = Arc::clone(&streams);
                std::thread::spawn(move || {
                    let text: Vec<u8> = (0..60).flat_map(|n| line(n * 997 + process)).collect();
                    write_all(&streams, (0, process), 1, &text)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        drop(streams);
        let text = String::from_utf8(rest(out)).unwrap();
        for writer in writers {
            assert_eq!(writer.join().unwrap(), Ok(()));
        }
        for process in 0..3 {
            let who = format!("0.{process}| ");
            let written: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&who)).collect();
            let expected: Vec<String> = (0..60)
                .map(|n| {
                    String::from_utf8(line(n * 997 + process))
                        .unwrap()
                        .trim_end()
                        .to_owned()
                })
                .collect();
            assert_eq!(written, expected);
        }
        assert_eq!(text.lines().count(), 180);
    }

    #[test]
    fn the_end_of_the_output_is_given_up_when_the_run_is_over() {
        let deadline = Some(Instant::now() + Duration::from_millis(100));
        let (streams, _out, _err) = piped(Lines::Prefixed, deadline);
        while streams.write(0, 0, 1, &[b'x'; 5000]).is_ok() {}
        streams.finish();
        let (streams, _out, _err) = piped(Lines::Prefixed, None);
        while streams.write(0, 0, 1, &[b'x'; 5000]).is_ok() {}
        let other = Arc::clone(&streams);
        let finisher = std::thread::spawn(move || other.finish());
        std::thread::sleep(Duration::from_millis(20));
        streams.abandon();
        finisher.join().unwrap();
    }

    #[test]
    fn what_is_left_when_all_programs_have_ended_goes_out_in_order() {
        let (streams, out, _err) = piped(Lines::Prefixed, None);
        let mut long = vec![b'x'; MAX_LINE - 1];
        long.push(b'\n');
        // With its prefix it is longer than a pipe.
        assert_eq!(streams.write(0, 0, 1, &long), Ok(long.len() - 1));
        let reader = std::thread::spawn(move || rest(out));
        streams.finish();
        drop(streams);
        let expected = [b"0.0| ", &long[..]].concat();
        assert!(reader.join().unwrap() == expected);
    }
}
