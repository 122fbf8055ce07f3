//! Time: the time-stamp counter, and its rate.
//!
//! All vCPUs of a group show the host's counter, so a value read in one guest can be compared with one read in
//! another. Its rate is measured against the monotonic clock over the life of a [`TscRate`].
// UNSAFETY: executes `rdtsc`.
#![expect(unsafe_code, reason = "the rdtsc instruction")]

use crate::sys;

/// The time-stamp counter, read after everything before it in the program has been done.
#[inline(always)]
pub fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: both instructions are there on every x86-64 CPU and touch only the registers named.
    unsafe {
        core::arch::asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags));
    }
    low | high << 32
}

/// Measures the counter's rate from its making to the moment it is asked.
#[derive(Clone, Copy, Debug)]
pub struct TscRate {
    began_ns: u64,
    began_tsc: u64,
}

impl TscRate {
    /// Begins to measure.
    #[must_use]
    pub fn begin() -> Self {
        TscRate {
            began_ns: sys::monotonic_ns(),
            began_tsc: tsc(),
        }
    }

    /// The rate so far, in kHz; at least 1.
    #[must_use]
    pub fn khz(&self) -> u64 {
        rate_khz(
            tsc().saturating_sub(self.began_tsc),
            sys::monotonic_ns().saturating_sub(self.began_ns),
        )
    }
}

fn rate_khz(ticks: u64, ns: u64) -> u64 {
    let khz = u128::from(ticks) * 1_000_000 / u128::from(ns.max(1));
    (khz as u64).max(1)
}

/// `ticks` of a counter that runs at `khz`, in nanoseconds.
#[must_use]
pub fn ticks_to_ns(ticks: u64, khz: u64) -> u64 {
    (u128::from(ticks) * 1_000_000 / u128::from(khz.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_ticks_per_millisecond() {
        assert_eq!(rate_khz(2_100_000_000, 1_000_000_000), 2_100_000);
        assert_eq!(rate_khz(5, 0), 5_000_000);
        assert_eq!(rate_khz(0, 1000), 1);
    }

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        assert_eq!(ticks_to_ns(210, 2_100_000), 100);
        assert_eq!(ticks_to_ns(u64::MAX / 1_000_000, 1_000_000), u64::MAX / 1_000_000);
    }

    #[test]
    fn the_measured_rate_is_stable() {
        let rate = TscRate::begin();
        sys::sleep(core::time::Duration::from_millis(20));
        let (first, second) = (rate.khz(), rate.khz());
        assert!(
            first.abs_diff(second) < first / 100,
            "{first} kHz, then {second} kHz"
        );
    }
}
