//! One clock for a whole group: nanoseconds computed from the TSC by the same formula everywhere.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The page that tells the host and every guest of a group how to turn TSC ticks into time.
///
/// Written by the VMM before the guest starts, read by kernels (and, mapped read-only, by programs).
/// `ns = base_ns + ((tsc - tsc_base) * mult >> 32)`; the TSC is the host's own, offset 0.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ClockPage {
    /// TSC at the moment the bases were read.
    pub tsc_base: AtomicU64,
    /// Nanoseconds a tick, times 2^32.
    pub mult: AtomicU64,
    /// CLOCK_MONOTONIC at `tsc_base`, nanoseconds.
    pub monotonic_ns: AtomicU64,
    /// CLOCK_REALTIME at `tsc_base`, nanoseconds since 1970.
    pub realtime_ns: AtomicU64,
}

impl ClockPage {
    fn since_base(&self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc_base.load(Relaxed));
        // A TSC read just before the base was taken on another CPU is "no time ago", not centuries.
        if ticks >> 63 != 0 {
            return 0;
        }
        ((u128::from(ticks) * u128::from(self.mult.load(Relaxed))) >> 32) as u64
    }

    /// CLOCK_MONOTONIC in nanoseconds at TSC value `tsc`.
    #[must_use]
    pub fn monotonic(&self, tsc: u64) -> u64 {
        self.monotonic_ns.load(Relaxed).wrapping_add(self.since_base(tsc))
    }

    /// CLOCK_REALTIME in nanoseconds since 1970 at TSC value `tsc`.
    #[must_use]
    pub fn realtime(&self, tsc: u64) -> u64 {
        self.realtime_ns.load(Relaxed).wrapping_add(self.since_base(tsc))
    }
}
