//! What system calls cost: the least one, and a segment's life.

use super::{Failure, Task, failed};
use crate::clock::tsc;
use crate::shared::Attached;
use crate::{say, sys};
use abi::ipc::IPC_CREAT;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// Calls of a sample.
const CALLS: u64 = 16;

/// The least system call.
pub(super) fn call(task: &Task) -> Result<(), Failure> {
    sys::run_on(task.cpus[0]).map_err(failed("sched_setaffinity"))?;
    let times = sys::map_words(task.count).map_err(failed("mmap"))?;
    for round in 0..task.count + task.count / 10 {
        let began = tsc();
        for _ in 0..CALLS {
            sys::least_call();
        }
        times[round % task.count] = tsc() - began;
    }
    task.tell("call", times, CALLS);
    Ok(())
}

/// The steps of a segment's life, in their order.
const STEPS: [&str; 9] = [
    "get",
    "attach",
    "touch",
    "whole",
    "attach-again",
    "touch-again",
    "detach",
    "detach-last",
    "remove",
];
/// Which of them is the whole.
const WHOLE: usize = 3;

/// Makes a segment of `SIZE` bytes, attaches it, writes to every page; attaches it a second time and does so again;
/// detaches both, removes it. `whole` is the time from shmget to the last page touched the first time;
/// `whole-first` is that of the first life, which is in no other figure.
pub(super) fn life(task: &Task) -> Result<(), Failure> {
    sys::run_on(task.cpus[0]).map_err(failed("sched_setaffinity"))?;
    let all = sys::map_words(task.count * STEPS.len()).map_err(failed("mmap"))?;
    // What comes first depends on whose pages a machine has free: of large segments it is told, but apart.
    let first = one_life(task.key, task.size)?;
    for round in 0..task.count {
        for (step, time) in one_life(task.key, task.size)?.into_iter().enumerate() {
            all[step * task.count + round] = time;
        }
    }
    for (step, name) in STEPS.iter().enumerate() {
        task.tell(name, &mut all[step * task.count..][..task.count], 1);
        if step == WHOLE && task.size > 1 << 20 {
            task.tell("whole-first", &mut [first[step]], 1);
        }
    }
    Ok(())
}

/// With a key, so that [`clear`] finds the segment should this process be killed.
fn one_life(key: i32, size: usize) -> Result<[u64; STEPS.len()], Failure> {
    let began = tsc();
    let id = sys::shmget(key, size as u64, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
    let get = tsc() - began;
    let (first, attach) = Attached::timed(id, size).map_err(failed("shmat"))?;
    let touched = touch(&first, size);
    let (second, attach_again) = Attached::timed(id, size).map_err(failed("shmat"))?;
    let touched_again = touch(&second, size);
    let began = tsc();
    second.detach().map_err(failed("shmdt"))?;
    let detached = tsc();
    first.detach().map_err(failed("shmdt"))?;
    let last = tsc();
    sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
    let removed = tsc();
    Ok([
        get,
        attach,
        touched,
        get + attach + touched,
        attach_again,
        touched_again,
        detached - began,
        last - detached,
        removed - last,
    ])
}

/// Writes to every page; how many ticks that took.
fn touch(segment: &Attached, size: usize) -> u64 {
    let began = tsc();
    for page in 0..size / 4096 {
        segment.store(page * 4096, 1, Ordering::Relaxed);
    }
    tsc() - began
}

/// Makes and attaches many segments of a page: what an attach costs, and a look for a key, when there are so many.
pub(super) fn many(task: &Task) -> Result<(), Failure> {
    /// How many are measured before each of the numbers that are told.
    const LAST: usize = 16;
    sys::run_on(task.cpus[0]).map_err(failed("sched_setaffinity"))?;
    let all = sys::map_words(2 * task.count).map_err(failed("mmap"))?;
    let (attaches, lookups) = all.split_at_mut(task.count);
    let ids = sys::map_words(task.count).map_err(failed("mmap"))?;
    let result = (0..task.count).try_for_each(|nth| {
        let key = task.key + nth as i32;
        ids[nth] = sys::shmget(key, 4096, IPC_CREAT | 0o600).map_err(failed("shmget"))? + 1;
        // It stays attached until the program ends.
        attaches[nth] = Attached::timed(ids[nth] - 1, 4096).map_err(failed("shmat"))?.1;
        let began = tsc();
        sys::shmget(key, 0, 0).map_err(failed("shmget"))?;
        lookups[nth] = tsc() - began;
        let now = nth + 1;
        if now >= LAST && now.is_power_of_two() && now.ilog2().is_multiple_of(2) {
            let from = now - LAST;
            task.tell(format_args!("attach-of-{now}"), &mut attaches[from..now], 1);
            task.tell(format_args!("lookup-of-{now}"), &mut lookups[from..now], 1);
        }
        Ok(())
    });
    // Whatever happened: nothing stays behind.
    for &id in ids.iter().filter(|&&id| id != 0) {
        let _ = sys::shm_remove(id - 1);
    }
    result
}

/// Holds `COUNT` segments of `SIZE` bytes, each attached and a word of it written, says so, and waits to be killed. Each goes
/// with its last attach.
pub(super) fn hold(task: &Task) -> Result<(), Failure> {
    for nth in 0..task.count {
        let key = task.key + nth as i32;
        let id = sys::shmget(key, task.size as u64, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
        let segment = Attached::new(id, task.size, 0).map_err(failed("shmat"));
        sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
        segment?.store(0, 1, Ordering::Relaxed);
    }
    say!("holds");
    loop {
        sys::sleep(Duration::from_secs(60));
    }
}

/// Removes what a process with number `SIZE` has left behind under `COUNT` keys: it was killed.
pub(super) fn clear(task: &Task) -> Result<(), Failure> {
    for nth in 0..task.count {
        let Ok(id) = sys::shmget(task.key + nth as i32, 0, 0) else {
            continue;
        };
        let maker = sys::shm_stat(id).map_err(failed("shmctl"))?.cpid;
        if u64::from(maker.unsigned_abs()) == task.size as u64 {
            sys::shm_remove(id).map_err(failed("shmctl IPC_RMID"))?;
        }
    }
    Ok(())
}

/// Attaches the segment that all of `COUNT` guests attach, and tells how long the attach took.
pub(super) fn meet(task: &Task) -> Result<(), Failure> {
    let id = sys::shmget(task.key, 4096, IPC_CREAT | 0o600).map_err(failed("shmget"))?;
    let (segment, time) = Attached::timed(id, 4096).map_err(failed("shmat"))?;
    // All hold their attach until all have one, and until all have seen that they are counted.
    gather(task, &segment, 0)?;
    let attaches = sys::shm_stat(id).map_err(failed("shmctl"))?.nattch;
    gather(task, &segment, 64)?;
    if attaches != task.count as u64 {
        return Err(Failure::Wrong("not all attaches are counted"));
    }
    task.tell("attach", &mut [time], 1);
    Ok(())
}

/// Sleeps until all have come here: a counter at `place`, and behind it the word that the last sets.
fn gather(task: &Task, segment: &Attached, place: usize) -> Result<(), Failure> {
    let all_here = segment.word32(place + 8);
    if segment.count(place) + 1 == task.count as u64 {
        all_here.store(1, Ordering::Release);
        sys::futex_wake(all_here, i32::MAX as u32).map_err(failed("futex"))?;
    }
    while all_here.load(Ordering::Acquire) == 0 {
        // EAGAIN and EINTR: look again.
        let _ = sys::futex_wait(all_here, 0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_all_its_steps_and_the_whole_is_its_parts() {
        let times = one_life(abi::ipc::IPC_PRIVATE, 8 * 4096).ok().unwrap();
        assert!(times.iter().all(|&time| time > 0));
        assert_eq!(STEPS[WHOLE], "whole");
        assert_eq!(times[WHOLE], times[0] + times[1] + times[2]);
    }
}
