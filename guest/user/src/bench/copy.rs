//! Moving bytes: one fixed loop for stores and one for loads, 64 bytes a turn in eight general registers' worth, so that no
//! library chooses one way here and another there.
// UNSAFETY: the loops are assembly, over memory whose bounds have been checked.
#![expect(unsafe_code, reason = "copy loops that no compiler turns into something else")]

use super::pair::until;
use super::{Failure, Task, failed};
use crate::clock::tsc;
use crate::shared::Attached;
use crate::sys;
use abi::ipc::IPC_CREAT;
use core::arch::asm;
use core::sync::atomic::Ordering;

/// Where data begin in the segment.
const DATA: usize = 4096;
/// How many chunks have been written.
const WRITTEN: usize = 1024;
/// How many have been read.
const READ: usize = 2048;
/// Bytes a producer writes before it says so.
const CHUNK: usize = 64 << 10;

/// Copies `from` to `to`; the length is a multiple of 64 bytes.
fn copy(to: *mut u8, from: &[u64]) {
    // SAFETY: callers pass a range of `from`'s size (`Attached::range`); rax is the only register changed besides.
    unsafe {
        asm!(
            "2:",
            "mov {t}, [{from}]", "mov [{to}], {t}",
            "mov {t}, [{from} + 8]", "mov [{to} + 8], {t}",
            "mov {t}, [{from} + 16]", "mov [{to} + 16], {t}",
            "mov {t}, [{from} + 24]", "mov [{to} + 24], {t}",
            "mov {t}, [{from} + 32]", "mov [{to} + 32], {t}",
            "mov {t}, [{from} + 40]", "mov [{to} + 40], {t}",
            "mov {t}, [{from} + 48]", "mov [{to} + 48], {t}",
            "mov {t}, [{from} + 56]", "mov [{to} + 56], {t}",
            "add {from}, 64", "add {to}, 64", "sub {n}, 1", "jnz 2b",
            t = out(reg) _, from = inout(reg) from.as_ptr() => _, to = inout(reg) to => _,
            n = inout(reg) (from.len() / 8) => _,
            options(nostack),
        );
    }
}

/// Adds up `len` bytes, a multiple of 64, as 64-bit words.
fn sum(from: *const u8, len: usize) -> u64 {
    let total;
    // SAFETY: callers pass a range of that size; only loads.
    unsafe {
        asm!(
            "2:",
            "add {s}, [{from}]", "add {s}, [{from} + 8]", "add {s}, [{from} + 16]", "add {s}, [{from} + 24]",
            "add {s}, [{from} + 32]", "add {s}, [{from} + 40]", "add {s}, [{from} + 48]", "add {s}, [{from} + 56]",
            "add {from}, 64", "sub {n}, 1", "jnz 2b",
            s = inout(reg) 0u64 => total, from = inout(reg) from => _, n = inout(reg) (len / 64) => _,
            options(nostack, readonly),
        );
    }
    total
}

/// A producer copies `SIZE` bytes into the segment, a consumer reads them as they come. A sample is the time for all.
pub(super) fn pipe(task: &Task) -> Result<(), Failure> {
    task.both(DATA + task.size, play_pipe)
}

fn play_pipe(task: &Task, segment: &Attached, me: usize) -> Result<(), Failure> {
    let chunks = task.size / CHUNK;
    let source = sys::map_words(CHUNK / 8).map_err(failed("mmap"))?;
    let times = sys::map_words(task.count).map_err(failed("mmap"))?;
    for (index, word) in source.iter_mut().enumerate() {
        *word = index as u64;
    }
    let expected: u64 = source.iter().sum();
    for pass in 0..=task.count {
        let began = tsc();
        for chunk in 0..chunks {
            let (number, offset) = ((pass * chunks + chunk) as u64, DATA + chunk * CHUNK);
            if me == 0 {
                copy(segment.range(offset, CHUNK), source);
                segment.store(WRITTEN, number + 1, Ordering::Release);
            } else {
                until(|| segment.load(WRITTEN, Ordering::Acquire) > number)?;
                if sum(segment.range(offset, CHUNK), CHUNK) != expected {
                    return Err(Failure::Wrong("what is read is not what was written"));
                }
            }
        }
        if me == 1 {
            segment.store(READ, pass as u64 + 1, Ordering::Release);
        } else {
            until(|| segment.load(READ, Ordering::Acquire) > pass as u64)?;
        }
        // The first pass touches the pages.
        if let Some(time) = pass.checked_sub(1).and_then(|pass| times.get_mut(pass)) {
            *time = tsc() - began;
        }
    }
    if me == 0 {
        task.tell("pipe", times, 1);
    }
    Ok(())
}

/// One process reads a segment of `SIZE` bytes from end to end. A sample is the time for all.
pub(super) fn sweep(task: &Task) -> Result<(), Failure> {
    read_through(task, &own_segment(task)?)
}

/// The same on pages of 4 KiB, whatever the system would choose; in a guest that is up to who starts it.
pub(super) fn sweep_small(task: &Task) -> Result<(), Failure> {
    let segment = own_segment(task)?;
    segment.want_small_pages();
    read_through(task, &segment)
}

/// The same in the file that is descriptor 0, on whatever pages it has.
pub(super) fn sweep_file(task: &Task) -> Result<(), Failure> {
    read_through(task, &Attached::file(0, task.size).map_err(failed("mmap"))?)
}

fn own_segment(task: &Task) -> Result<Attached, Failure> {
    let id = sys::shmget(task.key, task.size as u64, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
    let segment = Attached::new(id, task.size, 0).map_err(failed("shmat"))?;
    sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
    Ok(segment)
}

fn read_through(task: &Task, segment: &Attached) -> Result<(), Failure> {
    sys::run_on(task.cpus[0]).map_err(failed("sched_setaffinity"))?;
    for page in 0..task.size / 4096 {
        segment.store(page * 4096, 1, Ordering::Relaxed);
    }
    let times = sys::map_words(task.count).map_err(failed("mmap"))?;
    for time in times.iter_mut() {
        let began = tsc();
        let total = sum(segment.range(0, task.size), task.size);
        *time = tsc() - began;
        if total != (task.size / 4096) as u64 {
            return Err(Failure::Wrong("what is read is not what was written"));
        }
    }
    task.tell("sweep", times, 1);
    Ok(())
}
