//! Stale translations: dropping them here, and on every other vCPU that may hold them (TLB shootdown).
//!
//! An address space knows the vCPUs that have it loaded; only those are asked. The one who asks holds the
//! kernel lock and waits, so a request is a single flag for each vCPU: drop everything. A vCPU answers it
//! from ring 3 by an interrupt, from the kernel while it waits for the lock. A vCPU that idles or runs
//! another program has loaded other page tables, which dropped everything already.
// UNSAFETY: reloads the page-table root.
#![expect(unsafe_code, reason = "reloads CR3")]

use super::cpu::Cpu;
use super::lock::Patience;
use super::{apic, machine};
use core::sync::atomic::Ordering;
use paging::{Flush, GuestVirt, PAGE_SIZE};

/// From how many pages on the whole TLB is dropped instead of page after page: about what one CR3 load and
/// the misses after it cost.
const MOST_SINGLE_FLUSHES: u64 = 8;

/// Answers another vCPU's flush request, if there is one.
#[inline]
pub fn answer(cpu: &Cpu) {
    if cpu.flush_wanted.load(Ordering::Relaxed) {
        flush_all_here();
        cpu.flush_wanted.store(false, Ordering::Release);
    }
}

fn flush_all_here() {
    // SAFETY: loads the root that is loaded; no mapping is global.
    unsafe { machine::load_page_table(machine::page_table()) }
}

/// Drops what `flush` names on all vCPUs in `loaded` (a bit each), and returns when none can hold it any more.
pub fn flush(cpu: &Cpu, loaded: u32, flush: &Flush) {
    if !flush.needs_flush() {
        return;
    }
    let others = loaded & !cpu.bit();
    ask(others);
    if loaded & cpu.bit() != 0 {
        flush_range_here(flush.start(), flush.pages());
    }
    wait_for(others);
}

/// Has the vCPUs in `vcpus` but this one drop everything, and returns when they have: until then each of them has come
/// into the kernel, which is a barrier for the program that it runs.
pub fn flush_others(cpu: &Cpu, vcpus: u32) {
    let others = vcpus & !cpu.bit();
    ask(others);
    wait_for(others);
}

fn ask(mut others: u32) {
    while others != 0 {
        let index = others.trailing_zeros();
        others &= others - 1;
        Cpu::of(index).flush_wanted.store(true, Ordering::Release);
        apic::send_flush(index);
    }
}

fn wait_for(mut others: u32) {
    while others != 0 {
        let index = others.trailing_zeros();
        others &= others - 1;
        let mut patience = Patience::new();
        while Cpu::of(index).flush_wanted.load(Ordering::Acquire) {
            patience.spin();
        }
    }
}

fn flush_range_here(start: GuestVirt, pages: u64) {
    if pages > MOST_SINGLE_FLUSHES {
        return flush_all_here();
    }
    for page in 0..pages {
        machine::flush_page(start.get() + page * PAGE_SIZE);
    }
}
