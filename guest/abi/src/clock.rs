//! One clock for a whole group: nanoseconds computed from the TSC by the same formula everywhere.
//!
//! The VMM writes a [`ClockPage`] before the guest starts; the kernel reads it, and so do programs, to whom it is
//! mapped read-only beside the vDSO. Nobody writes it afterwards.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// Linux's numbers of the clocks (clock_gettime(2)).
pub mod id {
    /// Wall time, since 1970.
    pub const REALTIME: u64 = 0;
    /// Time since some moment; never set.
    pub const MONOTONIC: u64 = 1;
    /// As [`MONOTONIC`], without the host's NTP.
    pub const MONOTONIC_RAW: u64 = 4;
    /// [`REALTIME`], exact to [`ClockPage::tick_ns`](super::ClockPage::tick_ns) at least.
    pub const REALTIME_COARSE: u64 = 5;
    /// [`MONOTONIC`], exact to [`ClockPage::tick_ns`](super::ClockPage::tick_ns) at least.
    pub const MONOTONIC_COARSE: u64 = 6;
    /// Time since the host started, also while it slept.
    pub const BOOTTIME: u64 = 7;
    /// Atomic time, since 1970.
    pub const TAI: u64 = 11;

    /// All of these.
    pub const ALL: [u64; 7] = [
        REALTIME,
        MONOTONIC,
        MONOTONIC_RAW,
        REALTIME_COARSE,
        MONOTONIC_COARSE,
        BOOTTIME,
        TAI,
    ];
}

/// How many numbers there are below the greatest in [`id`], and it.
pub const IDS: usize = id::TAI as usize + 1;

/// The page that tells the host and every guest of a group how to turn TSC ticks into time:
/// `ns = base_ns[clock] + ((tsc - tsc_base) * mult >> 32)`. The TSC is the host's own, offset 0.
#[derive(Debug, Default, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ClockPage {
    /// TSC at the moment the bases were read.
    pub tsc_base: AtomicU64,
    /// Nanoseconds a tick, times 2^32.
    pub mult: AtomicU64,
    /// Each clock's value at `tsc_base`, nanoseconds, by the numbers in [`id`]; 0 where there is no such clock.
    pub base_ns: [AtomicU64; IDS],
    /// What Linux tells as the resolution of the coarse clocks: nanoseconds between two of the host's ticks. (Here
    /// they are as exact as the others.)
    pub tick_ns: AtomicU64,
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

    fn base(&self, clock: u64) -> Option<u64> {
        let base = self.base_ns.get(usize::try_from(clock).ok()?)?.load(Relaxed);
        (base != 0).then_some(base)
    }

    /// The clock with Linux's number `clock` in nanoseconds at TSC value `tsc`; `None` if it is none of [`id`].
    #[inline]
    #[must_use]
    pub fn read(&self, clock: u64, tsc: u64) -> Option<u64> {
        Some(self.base(clock)?.wrapping_add(self.since_base(tsc)))
    }

    /// The resolution of a clock in nanoseconds, as clock_getres(2) has it; `None` if it is none of [`id`].
    #[inline]
    #[must_use]
    pub fn resolution(&self, clock: u64) -> Option<u64> {
        self.base(clock)?;
        let coarse = matches!(clock, id::REALTIME_COARSE | id::MONOTONIC_COARSE);
        Some(if coarse { self.tick_ns.load(Relaxed) } else { 1 })
    }

    /// CLOCK_MONOTONIC in nanoseconds at TSC value `tsc`.
    #[must_use]
    pub fn monotonic(&self, tsc: u64) -> u64 {
        self.read(id::MONOTONIC, tsc).unwrap_or_default()
    }

    /// CLOCK_REALTIME in nanoseconds since 1970 at TSC value `tsc`.
    #[must_use]
    pub fn realtime(&self, tsc: u64) -> u64 {
        self.read(id::REALTIME, tsc).unwrap_or_default()
    }
}
