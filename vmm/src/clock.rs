//! The group's clock: how TSC ticks become nanoseconds, the same in every guest and close to the host's.
//!
//! Each of the host's clocks is read once; from there on they advance with the TSC alone. So guests agree with one
//! another to the last bit, and follow neither NTP's corrections of the host's clock nor its being set.
// UNSAFETY: reads the time-stamp counter.
#![expect(unsafe_code, reason = "RDTSC")]

use abi::clock::{ClockPage, IDS, id};
use rustix::time::{ClockId, DynamicClockId, clock_getres, clock_gettime_dynamic};

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
        let (tsc_base, monotonic) = sample(id::MONOTONIC);
        // What the clock said at `tsc_base`.
        let base = |clock| {
            let (tsc, ns) = sample(clock);
            let since = (u128::from(tsc.wrapping_sub(tsc_base)) * u128::from(mult)) >> 32;
            ns.wrapping_sub(since as u64)
        };
        let (realtime, raw) = (base(id::REALTIME), base(id::MONOTONIC_RAW));
        let mut base_ns = [0; IDS];
        for (clock, ns) in [
            (id::REALTIME, realtime),
            (id::REALTIME_COARSE, realtime),
            (id::TAI, apart(realtime, base(id::TAI))),
            (id::MONOTONIC, monotonic),
            (id::MONOTONIC_COARSE, monotonic),
            (id::BOOTTIME, apart(monotonic, base(id::BOOTTIME))),
            (id::MONOTONIC_RAW, raw),
        ] {
            base_ns[clock as usize] = ns;
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

/// What the host's clock with one of the numbers in [`abi::clock::id`] says, nanoseconds; 0 for another number.
#[must_use]
pub fn host_ns(clock: u64) -> u64 {
    let clock = match clock {
        id::REALTIME => DynamicClockId::Known(ClockId::Realtime),
        id::REALTIME_COARSE => DynamicClockId::Known(ClockId::RealtimeCoarse),
        id::TAI => DynamicClockId::Tai,
        id::MONOTONIC => DynamicClockId::Known(ClockId::Monotonic),
        id::MONOTONIC_COARSE => DynamicClockId::Known(ClockId::MonotonicCoarse),
        id::MONOTONIC_RAW => DynamicClockId::Known(ClockId::MonotonicRaw),
        id::BOOTTIME => DynamicClockId::Boottime,
        _ => return 0,
    };
    // All of these clocks are older than what else is needed of a host, so it has them.
    clock_gettime_dynamic(clock).map_or(0, |time| {
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec as u64)
    })
}

/// What a clock says, and the TSC at that moment: of a few readings the one that took the shortest.
fn sample(clock: u64) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..READINGS {
        let before = tsc();
        let ns = host_ns(clock);
        let took = tsc().wrapping_sub(before);
        if took < best.0 {
            best = (took, before.wrapping_add(took / 2), ns);
        }
    }
    (best.1, best.2)
}

/// `other`, whose distance from `clock` is whole microseconds: these clocks run at one rate a fixed time apart (0, or
/// some seconds), and the readings' error of a few nanoseconds should not put one behind the other.
fn apart(clock: u64, other: u64) -> u64 {
    let distance = other.wrapping_sub(clock) as i64;
    let whole = distance.wrapping_add(500).div_euclid(1000) * 1000;
    clock.wrapping_add(whole as u64)
}

fn measure_khz() -> u64 {
    let (tsc_start, start) = sample(id::MONOTONIC_RAW);
    std::thread::sleep(std::time::Duration::from_millis(10));
    let (tsc_end, end) = sample(id::MONOTONIC_RAW);
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
        let page = Clock::read(0).page();
        std::thread::sleep(Duration::from_millis(20));
        for clock in id::ALL {
            // Between two readings of the host's, but for a coarse clock's tick and the measured rate's error.
            let before = host_ns(clock);
            let ns = page.read(clock, tsc()).expect("a clock by the TSC");
            let after = host_ns(clock);
            assert!(
                before - 10_000_000 < ns && ns < after + 10_000_000,
                "{before}, {ns} by the page, {after}: clock {clock}"
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

    #[test]
    fn clocks_a_fixed_time_apart_stay_so() {
        assert_eq!(apart(5000, 4970), 5000);
        assert_eq!(apart(5000, 37_000_005_030), 37_000_005_000);
        let clock = Clock::read(0);
        let [boot, monotonic] = [id::BOOTTIME, id::MONOTONIC].map(|id| clock.base_ns[id as usize]);
        assert!(boot >= monotonic, "{boot} since boot, {monotonic}");
    }
}
