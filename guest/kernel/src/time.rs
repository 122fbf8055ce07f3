//! The group's clock, as this kernel reads it: TSC ticks to nanoseconds and back, without a division.
//!
//! The VMM gives the factor one way ([`ClockPage::mult`]); the other way is worked out once at boot.

use crate::arch::given;
use crate::arch::machine::{tsc, tsc_ordered};
use abi::boot::BootInfo;
use abi::clock::ClockPage;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// TSC ticks a nanosecond, times 2^32.
static TICKS_PER_NS: AtomicU64 = AtomicU64::new(0);
static CLOCK: AtomicU64 = AtomicU64::new(0);
/// TSC value at which this guest began.
static BEGAN: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// Takes the clock's facts from `boot`.
pub fn init(boot: &BootInfo) {
    TICKS_PER_NS.store((boot.tsc_khz << 32) / 1_000_000, Relaxed);
    CLOCK.store(boot.clock, Relaxed);
    BEGAN.store(tsc(), Relaxed);
}

fn page() -> &'static ClockPage {
    given::clock_page(CLOCK.load(Relaxed))
}

/// How many TSC ticks `ns` nanoseconds take; saturates far beyond any run's length.
pub fn ticks(ns: u64) -> u64 {
    let ticks = (u128::from(ns) * u128::from(TICKS_PER_NS.load(Relaxed))) >> 32;
    if ticks >> 62 != 0 { 1 << 62 } else { ticks as u64 }
}

/// How many nanoseconds `ticks` TSC ticks take.
pub fn nanoseconds(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(page().mult.load(Relaxed))) >> 32) as u64
}

/// The clock with Linux's number `clock` now, nanoseconds; `None` if it is none that runs by the TSC.
pub fn read(clock: u64) -> Option<u64> {
    page().read(clock, tsc_ordered())
}

/// Its resolution, nanoseconds.
pub fn resolution(clock: u64) -> Option<u64> {
    page().resolution(clock)
}

/// CLOCK_MONOTONIC now, nanoseconds.
pub fn monotonic() -> u64 {
    page().monotonic(tsc_ordered())
}

/// CLOCK_REALTIME now, nanoseconds since 1970.
pub fn realtime() -> u64 {
    page().realtime(tsc_ordered())
}

/// CLOCK_REALTIME when this guest began, as the clock is set now.
pub fn began() -> u64 {
    let ago = tsc().wrapping_sub(BEGAN.load(Relaxed));
    realtime().wrapping_sub(nanoseconds(ago))
}

/// The TSC value `ns` nanoseconds from now.
pub fn deadline_in(ns: u64) -> u64 {
    tsc().saturating_add(ticks(ns))
}
