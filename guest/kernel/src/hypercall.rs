//! Asking the host: fills a slot of this vCPU's request page, writes its number to the port, reads the answer.
//!
//! Requests are made under the kernel lock and never nest, so every vCPU needs one slot only; the last one
//! is for the kernel's log, which may speak while another request is being prepared. Only the fields a call
//! uses are written: the host ignores the others, and each store costs on the software KVM.
// UNSAFETY: the request page is memory the host changes while an instruction runs.
#![expect(
    unsafe_code,
    reason = "memory shared with the host, by volatile accesses only"
)]

use crate::arch::cpu::{Cpu, area};
use crate::arch::machine;
use abi::Errno;
use abi::hypercall::{
    BulkEntry, Call, HypercallPage, MAX_BULK, MAX_GROUPS, PAYLOAD_LEN, PORT_EXIT, PORT_HYPERCALL, Request,
    SLOTS,
};
use abi::memory::VCPU_HYPERCALL;
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requester {
    /// Group-wide process id, 0 for the kernel itself.
    pub pid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
}

/// The slot for ordinary requests.
const SLOT: usize = 0;
/// The slot for the log.
const LOG_SLOT: usize = SLOTS - 1;

fn slot(index: usize) -> *mut Request {
    let page = (area(Cpu::current().index.get()) + VCPU_HYPERCALL) as *mut HypercallPage;
    // SAFETY: computes an address within the page, which the VMM maps for every vCPU.
    unsafe { (&raw mut (*page).slots).cast::<Request>().add(index) }
}

fn send(index: usize, call: Call, who: Requester, args: &[u64]) -> Result<u64, Errno> {
    let request = slot(index);
    // SAFETY: the request lies in this vCPU's page, used by this vCPU only; volatile because the host reads
    // and writes it during `out`.
    unsafe {
        (&raw mut (*request).call).write_volatile(call as u32);
        (&raw mut (*request).pid).write_volatile(who.pid);
        (&raw mut (*request).euid).write_volatile(who.euid);
        (&raw mut (*request).egid).write_volatile(who.egid);
        let to = (&raw mut (*request).args).cast::<u64>();
        for (i, &arg) in args.iter().enumerate().take(6) {
            to.add(i).write_volatile(arg);
        }
        machine::out32(PORT_HYPERCALL, index as u32);
        Errno::check((&raw const (*request).result).read_volatile())
    }
}

/// Makes a request.
///
/// # Errors
/// What the host answers.
pub fn call(call: Call, who: Requester, args: &[u64]) -> Result<u64, Errno> {
    send(SLOT, call, who, args)
}

/// Says which supplementary groups the process has whose requests follow, for the calls that check permissions.
pub fn set_groups(groups: &[u32]) {
    let request = slot(SLOT);
    // SAFETY: as in `send`; at most as many as there is room for.
    unsafe {
        let count = groups.len().min(MAX_GROUPS);
        (&raw mut (*request).group_count).write_volatile(count as u32);
        let to = (&raw mut (*request).groups).cast::<u32>();
        for (i, &group) in groups.iter().enumerate().take(count) {
            to.add(i).write_volatile(group);
        }
    }
}

/// [`Request::out`] of the last request.
pub fn out() -> [u64; 2] {
    // SAFETY: as in `send`.
    unsafe { (&raw const (*slot(SLOT)).out).read_volatile() }
}

/// Puts a structure into the next request's payload.
pub fn set_payload<T: IntoBytes + Immutable>(value: &T) {
    const { assert!(size_of::<T>() <= PAYLOAD_LEN) };
    // SAFETY: as in `send`; the assertion keeps the copy inside the payload.
    unsafe {
        let to = (&raw mut (*slot(SLOT)).payload).cast::<u8>();
        core::ptr::copy_nonoverlapping(value.as_bytes().as_ptr(), to, size_of::<T>());
    }
}

/// The structure in the last answer's payload.
pub fn payload<T: FromBytes>() -> T {
    const { assert!(size_of::<T>() <= PAYLOAD_LEN) };
    // SAFETY: as in `send`; every bit pattern is a `T`.
    unsafe { (&raw const (*slot(SLOT)).payload).cast::<T>().read_unaligned() }
}

/// Puts piece number `index`, below [`MAX_BULK`], into the next request's payload.
fn set_piece(index: usize, piece: BulkEntry) {
    debug_assert!(index < MAX_BULK);
    // SAFETY: as in `send`; a payload has room for that many.
    unsafe {
        let to = (&raw mut (*slot(SLOT)).payload).cast::<u64>().add(index * 3);
        to.write_volatile(piece.to);
        to.add(1).write_volatile(piece.from);
        to.add(2).write_volatile(piece.len);
    }
}

const _: () = assert!(size_of::<BulkEntry>() == 24 && offset_of!(Request, payload) % 8 == 0);

/// Has the host copy ([`Call::Copy`]) or clear ([`Call::Zero`]) RAM, [`MAX_BULK`] pieces a request. Only RAM the
/// kernel owns is named, so the host can't refuse.
pub fn bulk(which: Call, entries: impl Iterator<Item = BulkEntry>) {
    let mut count = 0;
    let flush = |count: usize| {
        if let Err(error) = call(which, Requester::default(), &[count as u64]) {
            panic!("the host refuses to {which:?} {count} pieces of RAM: {error}");
        }
    };
    for entry in entries {
        set_piece(count, entry);
        count += 1;
        if count == MAX_BULK {
            flush(count);
            count = 0;
        }
    }
    if count > 0 {
        flush(count);
    }
}

/// Lets the host run something else: this vCPU waits for another one, which may be waiting for the very CPU that
/// this one spins on.
pub fn yield_now() {
    let _ = send(SLOT, Call::Yield, Requester::default(), &[]);
}

/// Gives the host a line for its log. `gpa` and `len` name it in RAM.
pub fn log(level: u64, gpa: u64, len: u64) {
    // A log that can't be written must not stop anything.
    let _ = send(LOG_SLOT, Call::Log, Requester::default(), &[level, gpa, len]);
}

/// Tells the host that this guest is done, and how ([`abi::hypercall::EXIT_DONE`] …).
pub fn exit(how: u32) -> ! {
    machine::out32(PORT_EXIT, how);
    machine::halt_forever()
}
