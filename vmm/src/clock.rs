//! The group's clock: how TSC ticks become nanoseconds, the same in every guest and close to the host's.
//!
//! Each of the host's clocks is read once; from there on they advance with the TSC alone. So guests agree with one
//! another to the last bit, and follow neither NTP's corrections of the host's clock nor its being set.
// UNSAFETY: reads the time-stamp counter.
#![expect(unsafe_code, reason = "RDTSC")]

use abi::clock::{ClockPage, IDS, id};
use rustix::time::{ClockId, DynamicClockId, clock_getres, clock_gettime_dynamic};

const REALTIME: DynamicClockId<'_> = DynamicClockId::Known(ClockId::Realtime);
const MONOTONIC: DynamicClockId<'_> = DynamicClockId::Known(ClockId::Monotonic);
const MONOTONIC_RAW: DynamicClockId<'_> = DynamicClockId::Known(ClockId::MonotonicRaw);

/// How often each clock is read to find the least disturbed reading.
const READINGS: usize = 8;

/// The values of an [`abi::clock::ClockPage`], taken once for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// TSC frequency, kHz.
    pub tsc_khz: u64,
    /// TSC at the moment the other values are of.
    pub tsc_base: u64,
    /// Nanoseconds a tick, times 2^32.
    pub mult: u64,
    /// What each clock said then, nanoseconds, by the numbers in [`abi::clock::id`].
    pub base_ns: [u64; IDS],
    /// The host's tick, nanoseconds.
    pub tick_ns: u64,
}

impl Clock {
    /// Reads the host's clocks. `tsc_khz` is KVM's figure; 0, where it has none, means to measure.
    #[must_use]
    pub fn read(tsc_khz: u64) -> Clock {
        let tsc_khz = if tsc_khz == 0 { measure_khz() } else { tsc_khz };
        let mult = ((1_000_000u128 << 32) / u128::from(tsc_khz)) as u64;
        let (tsc_base, _) = sample(MONOTONIC);
        let mut base_ns = [0; IDS];
        for (host, ids) in [
            (REALTIME, &[id::REALTIME, id::REALTIME_COARSE][..]),
            (MONOTONIC, &[id::MONOTONIC, id::MONOTONIC_COARSE]),
            (MONOTONIC_RAW, &[id::MONOTONIC_RAW]),
            (DynamicClockId::Boottime, &[id::BOOTTIME]),
            (DynamicClockId::Tai, &[id::TAI]),
        ] {
            let (tsc, ns) = sample(host);
            let since = (u128::from(tsc.wrapping_sub(tsc_base)) * u128::from(mult)) >> 32;
            for id in ids {
                base_ns[*id as usize] = ns.wrapping_sub(since as u64);
            }
        }
        Clock {
            tsc_khz,
            tsc_base,
            mult,
            base_ns,
            tick_ns: clock_getres(ClockId::MonotonicCoarse).tv_nsec as u64,
        }
    }

    /// The values as the page that guests compute with.
    #[must_use]
    pub fn page(&self) -> ClockPage {
        ClockPage {
            tsc_base: self.tsc_base.into(),
            mult: self.mult.into(),
            base_ns: self.base_ns.map(Into::into),
            tick_ns: self.tick_ns.into(),
        }
    }

    /// CLOCK_REALTIME in nanoseconds at TSC value `tsc`, as the guests compute it.
    #[must_use]
    pub fn realtime(&self, tsc: u64) -> u64 {
        self.page().realtime(tsc)
    }
}

/// The time-stamp counter, which guests see unchanged (offset 0).
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC has no effect but its result; every x86-64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What a clock says, and the TSC at that moment. Nothing is likely to have interrupted the reading.
fn sample(clock: DynamicClockId<'_>) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..READINGS {
        let before = tsc();
        let ns = nanoseconds(clock);
        let took = tsc().wrapping_sub(before);
        if took < best.0 {
            best = (took, before.wrapping_add(took / 2), ns);
        }
    }
    (best.1, best.2)
}

fn nanoseconds(clock: DynamicClockId<'_>) -> u64 {
    // All of these clocks are older than what else is needed of a host.
    clock_gettime_dynamic(clock).map_or(0, |time| {
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec as u64)
    })
}

fn measure_khz() -> u64 {
    let (tsc_start, start) = sample(MONOTONIC_RAW);
    std::thread::sleep(std::time::Duration::from_millis(10));
    let (tsc_end, end) = sample(MONOTONIC_RAW);
    let ticks = u128::from(tsc_end.wrapping_sub(tsc_start));
    let elapsed = u128::from(end.wrapping_sub(start).max(1));
    ((ticks * 1_000_000 / elapsed) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_guest_computes_the_hosts_time() {
        let clock = Clock::read(0);
        let page = clock.page();
        std::thread::sleep(Duration::from_millis(20));
        for (host, guest) in [
            (REALTIME, id::REALTIME),
            (ClockId::RealtimeCoarse.into(), id::REALTIME_COARSE),
            (MONOTONIC, id::MONOTONIC),
            (ClockId::MonotonicCoarse.into(), id::MONOTONIC_COARSE),
            (MONOTONIC_RAW, id::MONOTONIC_RAW),
            (DynamicClockId::Boottime, id::BOOTTIME),
            (DynamicClockId::Tai, id::TAI),
        ] {
            // Between two readings of the host's clock, give or take a coarse clock's tick and the measured rate's error.
            let before = nanoseconds(host);
            let ns = page.read(guest, tsc()).expect("a clock by the TSC");
            let after = nanoseconds(host);
            assert!(
                before - 10_000_000 < ns && ns < after + 10_000_000,
                "{before}, {ns} by the page, {after} for {host:?}"
            );
        }
    }

    #[test]
    fn what_is_no_clock_of_the_page_is_not_read() {
        let page = Clock::read(1_000_000).page();
        for other in [2, 3, 8, 9, 10, 12, u64::MAX] {
            assert_eq!((page.read(other, tsc()), page.resolution(other)), (None, None));
        }
        for known in id::ALL {
            assert!(page.read(known, tsc()).is_some() && page.resolution(known).is_some());
        }
    }
}
