//! What is measured, where, and in which order.

use crate::cli::lab::{Host, Job, Pages};
use clap::ValueEnum;

/// The groups of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(in crate::cli) enum Group {
    // One cache line between two players.
    HandOff,
    // Bytes between two players, and read by one.
    Bandwidth,
    // What a segment's life costs.
    Life,
    // A segment by a splice, and by a memory slot.
    Splice,
    // Futexes between two players.
    Wake,
    // From a guest's start to its end.
    Start,
    // Many segments, many guests.
    Scale,
}

impl Group {
    pub(super) const ALL: [Group; 7] = [
        Group::HandOff,
        Group::Bandwidth,
        Group::Life,
        Group::Splice,
        Group::Wake,
        Group::Start,
        Group::Scale,
    ];

    /// As a heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::HandOff => "Hand-off: a cache line from one player to the other",
            Group::Bandwidth => "Bandwidth",
            Group::Life => "Life of a segment",
            Group::Splice => "Bringing a segment in and out while a vCPU runs",
            Group::Wake => "Wake-ups by futex",
            Group::Start => "Start: from the command's start to its end, for a program that says hello",
            Group::Scale => "Scale",
        }
    }
}

/// Where something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Linux: two processes, or one.
    Native,
    /// The same once more, to see how far two runs of the same thing lie apart.
    NativeAgain,
    /// Linux, two threads of a process.
    Threads,
    /// Two vCPUs of a guest, or one.
    OneGuest,
    /// Two guests; as many as there are, where it says so.
    Guests,
}

impl Place {
    /// As columns are headed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Native => "native",
            Place::NativeAgain => "native again",
            Place::Threads => "native threads",
            Place::OneGuest => "one guest",
            Place::Guests => "guests",
        }
    }
}

/// Who knows what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The program.
    Inside,
    /// Nobody in there: it is killed, and measured is how long that takes.
    Death,
}

/// One run of the program in each of its places, by turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Experiment {
    pub(super) group: Group,
    /// The program's first argument.
    pub(super) what: &'static str,
    /// What distinguishes it from others of the group, put before the names of its results.
    pub(super) label: &'static str,
    /// Bytes that a sample moves, if it is to be told as a bandwidth.
    pub(super) moves: Option<u64>,
    pub(super) told: Told,
    /// What the segment lies on.
    pub(super) pages: Pages,
    pub(super) places: &'static [Place],
    /// Players: two in a process or in two, or one.
    pub(super) players: usize,
    /// Samples of a run.
    pub(super) samples: u64,
    pub(super) size: u64,
    /// Runs in each place.
    pub(super) rounds: usize,
}

const PAIRS: &[Place] = &[Place::Native, Place::NativeAgain, Place::OneGuest, Place::Guests];
const WAKERS: &[Place] = &[
    Place::Native,
    Place::NativeAgain,
    Place::Threads,
    Place::OneGuest,
    Place::Guests,
];
const SINGLES: &[Place] = &[Place::Native, Place::NativeAgain, Place::OneGuest];

/// The same pages on both sides.
const SMALL_PAGES: &str = "4 KiB pages: ";
const LARGE_PAGES: &str = "2 MiB pages: ";

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// In less than a minute.
    Quick,
    /// As it should be.
    Full,
}

/// The experiments of these groups.
pub(super) fn experiments(groups: &[Group], extent: Extent) -> Vec<Experiment> {
    let full = extent == Extent::Full;
    let either = |quick: u64, all: u64| if full { all } else { quick };
    let rounds = either(3, 9) as usize;
    let base = Experiment {
        group: Group::HandOff,
        what: "hand-off",
        label: "",
        moves: None,
        told: Told::Inside,
        pages: Pages::Default,
        places: PAIRS,
        players: 2,
        samples: either(1000, 5000),
        size: 4096,
        rounds,
    };
    let pipe = Experiment {
        group: Group::Bandwidth,
        what: "pipe",
        samples: either(4, 20),
        size: 64 << 20,
        moves: Some(64 << 20),
        ..base.clone()
    };
    // Several times what caches hold.
    let swept = either(128 << 20, 1 << 30);
    let sweep = Experiment {
        what: "sweep",
        places: SINGLES,
        players: 1,
        samples: 9,
        size: swept,
        moves: Some(swept),
        rounds: either(3, 5) as usize,
        ..pipe.clone()
    };
    let sweep_small = Experiment {
        label: SMALL_PAGES,
        pages: Pages::Small,
        ..sweep.clone()
    };
    let sweep_large = Experiment {
        label: LARGE_PAGES,
        pages: Pages::Large { bytes: swept },
        ..sweep.clone()
    };
    let call = Experiment {
        group: Group::Life,
        what: "call",
        samples: 1000,
        size: 4096,
        moves: None,
        rounds,
        ..sweep.clone()
    };
    let life = |label, size: u64, samples, rounds| Experiment {
        what: "life",
        label,
        samples,
        size,
        rounds,
        ..call.clone()
    };
    let wake = Experiment {
        group: Group::Wake,
        what: "wake",
        places: WAKERS,
        samples: either(200, 2000),
        ..base.clone()
    };
    let many = Experiment {
        group: Group::Scale,
        what: "many",
        samples: either(1024, 4096),
        rounds: either(1, 5) as usize,
        ..call.clone()
    };
    let held = |label, segments, rounds| Experiment {
        what: "hold",
        label,
        told: Told::Death,
        samples: segments,
        rounds,
        ..many.clone()
    };
    let all = vec![
        base,
        pipe,
        sweep,
        sweep_small,
        sweep_large,
        call.clone(),
        life("4 KiB ", 4 << 10, either(50, 200), rounds),
        life("1 MiB ", 1 << 20, either(10, 50), rounds),
        life("64 MiB ", 64 << 20, either(1, 3), either(2, 7) as usize),
        life("1 GiB ", 1 << 30, 1, either(1, 5) as usize),
        wake,
        held("1 segment: ", 1, rounds),
        held("256 segments: ", 256, rounds),
        held("1024 segments: ", NATIVE_SEGMENTS, either(1, 5) as usize),
        many,
    ];
    all.into_iter()
        .filter(|experiment| groups.contains(&experiment.group))
        .collect()
}

/// The key that players in several processes meet by.
fn key() -> u32 {
    // Natively it must be nobody else's; in guests it may be anything.
    0x6200_0000 | std::process::id() & 0x00ff_ffff
}

/// A guest that says hello.
pub(super) fn hello() -> Job {
    Job {
        host: Host::Guests { vcpus: 1 },
        pages: Pages::Default,
        copies: vec![["hello", "all", "0,0", "0", "1", "1"].map(String::from).to_vec()],
    }
}

/// Most segments that are made natively at one time.
const NATIVE_SEGMENTS: u64 = 1024;

/// Arguments of the copy that removes what process `pid` has left under our keys.
pub(super) fn clearing(pid: u32) -> Vec<String> {
    let count = NATIVE_SEGMENTS.to_string();
    [
        "clear",
        "all",
        "0,0",
        &key().to_string(),
        "1",
        &count,
        &pid.to_string(),
    ]
    .map(String::from)
    .to_vec()
}

impl Experiment {
    /// The job for one run.
    pub(super) fn job(&self, place: Place, cpus: &[usize], khz: u64) -> Job {
        let native = [cpus[0], cpus[1 % cpus.len()]];
        let samples = match (self.what, place) {
            // Not all that the host has (kernel.shmmni, 4096): others want some, too.
            ("many", Place::Native | Place::NativeAgain) => self.samples.min(NATIVE_SEGMENTS),
            _ => self.samples,
        };
        // A guest's segment has these pages anyway.
        let what = match (self.pages, place) {
            (Pages::Small, _) => "sweep-small",
            (Pages::Large { .. }, Place::Native | Place::NativeAgain) => "sweep-file",
            _ => self.what,
        };
        let arguments = |who: &str, on: [usize; 2]| {
            vec![
                what.to_owned(),
                who.to_owned(),
                format!("{},{}", on[0], on[1]),
                key().to_string(),
                khz.to_string(),
                samples.to_string(),
                self.size.to_string(),
            ]
        };
        let apart = |on| vec![arguments("0", on), arguments("1", on)];
        let (host, copies) = match (place, self.players) {
            (Place::Native | Place::NativeAgain, 2) => (Host::Native, apart(native)),
            (Place::Native | Place::NativeAgain | Place::Threads, _) => {
                (Host::Native, vec![arguments("all", native)])
            }
            (Place::OneGuest, players) => {
                let vcpus = players as u32;
                (Host::Guests { vcpus }, vec![arguments("all", [0, 1])])
            }
            (Place::Guests, _) => (Host::Guests { vcpus: 1 }, apart([0, 0])),
        };
        Job {
            host,
            pages: self.pages,
            copies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_has_native_twice_to_compare_with() {
        for extent in [Extent::Quick, Extent::Full] {
            for experiment in experiments(&Group::ALL, extent) {
                for place in [Place::Native, Place::NativeAgain] {
                    assert!(experiment.places.contains(&place));
                }
                assert!(experiment.rounds > 0 && experiment.samples > 0);
            }
        }
    }

    #[test]
    fn a_sweep_over_the_same_pages_on_both_sides_is_told_apart() {
        let all = experiments(&[Group::Bandwidth], Extent::Quick);
        let sweeps: Vec<_> = all
            .iter()
            .filter(|experiment| experiment.what == "sweep")
            .collect();
        let said = |place| -> Vec<_> {
            let job = |sweep: &&Experiment| sweep.job(place, &[0], 1).copies[0][0].clone();
            sweeps.iter().map(job).collect()
        };
        assert_eq!(said(Place::Native), ["sweep", "sweep-small", "sweep-file"]);
        assert_eq!(said(Place::OneGuest), ["sweep", "sweep-small", "sweep"]);
        assert_eq!(
            sweeps[2].pages,
            Pages::Large {
                bytes: sweeps[2].size
            }
        );
    }

    #[test]
    fn players_are_processes_natively_threads_in_a_guest_and_guests() {
        let hand_off = &experiments(&[Group::HandOff], Extent::Quick)[0];
        assert_eq!(hand_off.job(Place::Native, &[3, 5], 1).copies.len(), 2);
        let one = hand_off.job(Place::OneGuest, &[3, 5], 1);
        assert_eq!(
            (one.host, one.copies[0][1].as_str()),
            (Host::Guests { vcpus: 2 }, "all")
        );
        let two = hand_off.job(Place::Guests, &[3, 5], 1);
        assert_eq!(
            (two.copies[1][1].as_str(), two.copies[1][2].as_str()),
            ("1", "0,0")
        );
        let life = &experiments(&[Group::Life], Extent::Quick)[0];
        assert_eq!(life.job(Place::Native, &[3], 1).copies[0][2], "3,3");
    }
}
