//! semctl and msgctl, where there are no semaphores and no message queues of System V.
//!
//! None can be made (semget and msgget are ENOSYS), so every identifier is unknown, and what the commands tell of all of
//! them is what Linux tells where there are none. ipcs and ipcrm ask that before they come to the shared memory.

use super::Call;
use abi::Errno;
use abi::ipc::{IPC_INFO, IPC_SET};
use zerocopy::{Immutable, IntoBytes};

/// Commands of semctl(2).
const SETVAL: i32 = 16;
const SEM_INFO: i32 = 19;
/// Command of msgctl(2).
const MSG_INFO: i32 = 12;
/// A semaphore's largest value.
const SEMVMX: i32 = 32767;
/// Bytes of `struct semid64_ds` and `struct msqid64_ds`.
const SEMID_BYTES: usize = 104;
const MSQID_BYTES: usize = 120;

/// `struct seminfo`: semmap, mni, mns, mnu, msl, opm, ume, usz, vmx, aem.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SemaphoreLimits([i32; 10]);

/// `struct msginfo`: msgpool, map, max, mnb, mni, ssz, tql, and seg, two bytes, with what pads it.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct QueueLimits([i32; 7], u16, u16);

/// semctl(2), in Linux's order of checks (ipc/sem.c).
pub fn semctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, _, command, argument, ..] = call.args;
    let (id, command) = (id as i32, command as i32);
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let limits = |usage, at_exit| {
        SemaphoreLimits([
            1_024_000_000,
            32000,
            1_024_000_000,
            1_024_000_000,
            32000,
            500,
            500,
            usage,
            SEMVMX,
            at_exit,
        ])
    };
    match command {
        // How much each undo takes, and how much it may add up to.
        IPC_INFO => call.write(argument, &limits(20, SEMVMX)),
        // How many there are, and in how many sets.
        SEM_INFO => call.write(argument, &limits(0, 0)),
        SETVAL if !(0..=SEMVMX).contains(&(argument as i32)) => Err(Errno::ERANGE),
        IPC_SET => unknown(call.read::<[u8; SEMID_BYTES]>(argument)),
        _ => Err(Errno::EINVAL),
    }?;
    Ok(0)
}

/// msgctl(2), in Linux's order of checks (ipc/msg.c).
pub fn msgctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, command, buffer, ..] = call.args;
    let (id, command) = (id as i32, command as i32);
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let limits = |pool, map, headers| QueueLimits([pool, map, 8192, 16384, 32000, 16, headers], u16::MAX, 0);
    match command {
        IPC_INFO => call.write(buffer, &limits(512_000, 16384, 16384)),
        // How many queues, messages and bytes there are.
        MSG_INFO => call.write(buffer, &limits(0, 0, 0)),
        IPC_SET => unknown(call.read::<[u8; MSQID_BYTES]>(buffer)),
        _ => Err(Errno::EINVAL),
    }?;
    Ok(0)
}

/// The structure is read first, then the identifier is looked up.
fn unknown<T>(structure: Result<T, Errno>) -> Result<(), Errno> {
    structure.and(Err(Errno::EINVAL))
}
