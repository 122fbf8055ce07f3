//! The group's clock: how TSC ticks become nanoseconds, the same in every guest and close to the host's.
// UNSAFETY: reads the time-stamp counter.
#![expect(unsafe_code, reason = "RDTSC")]

use abi::clock::ClockPage;
use rustix::time::{ClockId, clock_gettime};

/// The values of an [`abi::clock::ClockPage`], taken once for a group.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// TSC frequency, kHz.
    pub tsc_khz: u64,
    /// TSC at the moment the other values were read.
    pub tsc_base: u64,
    /// Nanoseconds a tick, times 2^32.
    pub mult: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: u64,
    /// CLOCK_REALTIME, nanoseconds since 1970.
    pub realtime_ns: u64,
}

impl Clock {
    /// Reads the host's clocks. `tsc_khz` is KVM's figure; 0, where it has none, means to measure.
    #[must_use]
    pub fn read(tsc_khz: u64) -> Clock {
        let tsc_khz = if tsc_khz == 0 { measure_khz() } else { tsc_khz };
        // The least disturbed of a few readings: nothing interrupted it between the two TSC values.
        let mut best = (u64::MAX, 0, 0, 0);
        for _ in 0..8 {
            let before = tsc();
            let monotonic = nanoseconds(ClockId::Monotonic);
            let realtime = nanoseconds(ClockId::Realtime);
            let took = tsc().wrapping_sub(before);
            if took < best.0 {
                best = (took, before.wrapping_add(took / 2), monotonic, realtime);
            }
        }
        let (_, tsc_base, monotonic_ns, realtime_ns) = best;
        let mult = ((1_000_000u128 << 32) / u128::from(tsc_khz)) as u64;
        Clock {
            tsc_khz,
            tsc_base,
            mult,
            monotonic_ns,
            realtime_ns,
        }
    }

    /// The values as the page that guests compute with.
    #[must_use]
    pub fn page(&self) -> ClockPage {
        ClockPage {
            tsc_base: self.tsc_base.into(),
            mult: self.mult.into(),
            monotonic_ns: self.monotonic_ns.into(),
            realtime_ns: self.realtime_ns.into(),
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

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

fn measure_khz() -> u64 {
    let (tsc_start, start) = (tsc(), nanoseconds(ClockId::MonotonicRaw));
    std::thread::sleep(std::time::Duration::from_millis(10));
    let ticks = u128::from(tsc().wrapping_sub(tsc_start));
    let elapsed = u128::from(nanoseconds(ClockId::MonotonicRaw).wrapping_sub(start).max(1));
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
        for (id, guest) in [
            (ClockId::Monotonic, page.monotonic(tsc())),
            (ClockId::Realtime, page.realtime(tsc())),
        ] {
            assert!(
                guest.abs_diff(nanoseconds(id)) < 5_000_000,
                "{guest} ns by the page for {id:?}"
            );
        }
    }
}
