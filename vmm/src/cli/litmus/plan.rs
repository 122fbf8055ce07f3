//! What is played, on which side, and how.

use crate::cli::lab::{Host, Job, Pages};
use litmus::{Op, TESTS, Test, Word};

/// Between whom a test is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// Threads of a process on Linux.
    Native,
    /// Threads of a process on vCPUs of one guest.
    OneGuest,
    /// Guests, one thread in each.
    Guests,
}

impl Side {
    pub(super) const ALL: [Side; 3] = [Side::Native, Side::OneGuest, Side::Guests];

    /// As columns are headed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Native => "native",
            Side::OneGuest => "one guest",
            Side::Guests => "guests",
        }
    }
}

/// By which way the threads reach the segment, and what else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// One attach for all threads of a process.
    Plain,
    /// An attach at an address of its own for each thread of a process.
    TwoAddresses,
    /// A read-only attach for threads that only read.
    ReadOnly,
    /// Words on either side of a 2 MiB boundary.
    Boundary,
    /// A guest more attaches and detaches other segments all the time.
    Churn,
}

impl Case {
    /// What follows a test's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Case::Plain => "",
            Case::TwoAddresses => "attached at an address for each thread",
            Case::ReadOnly => "observer attached read-only",
            Case::Boundary => "across a 2 MiB boundary",
            Case::Churn => "while another guest attaches and detaches",
        }
    }
}

/// What is played besides all tests in the plain case.
const MIXED: &[(Case, &[&str])] = &[
    (
        Case::TwoAddresses,
        &["SB", "SB+mfences", "MP", "2+2W", "CoRR", "XADD"],
    ),
    (Case::ReadOnly, &["MP", "CoRR", "CoWW", "IRIW"]),
    (Case::Boundary, &["SB", "SB+mfences", "MP", "S", "2+2W"]),
    (Case::Churn, &["SB", "SB+mfences", "MP", "LB", "2+2W"]),
];

/// How much shorter a test runs for which there are not enough CPUs.
const SHORTER: u64 = 10;

/// A test in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) test: &'static Test,
    pub(super) case: Case,
}

/// Everything, or what concerns the tests that were asked for.
pub(super) fn rows(only: &[&Test]) -> Vec<Row> {
    let plain = TESTS.iter().map(|test| Row {
        test,
        case: Case::Plain,
    });
    let mixed = MIXED.iter().flat_map(|&(case, names)| {
        let chosen = TESTS.iter().filter(|test| names.contains(&test.name));
        chosen.map(move |test| Row { test, case })
    });
    plain
        .chain(mixed)
        .filter(|row| only.is_empty() || only.contains(&row.test))
        .collect()
}

impl Row {
    /// Where it is played.
    pub(super) fn sides(&self) -> &'static [Side] {
        match self.case {
            Case::Plain | Case::ReadOnly | Case::Boundary => &Side::ALL,
            // A guest with one thread has no second address.
            Case::TwoAddresses => &[Side::Native, Side::OneGuest],
            Case::Churn => &[Side::Guests],
        }
    }

    /// The test's name and the case's.
    pub(super) fn name(&self) -> String {
        match self.case {
            Case::Plain => self.test.name.into(),
            case => format!("{} {}", self.test.name, case.name()),
        }
    }

    /// How many CPUs it takes for all to run at the same time.
    pub(super) fn needs(&self) -> usize {
        self.test.threads.len() + usize::from(self.case == Case::Churn)
    }

    /// How many rounds, if a test with enough CPUs has `iterations`.
    pub(super) fn rounds(&self, iterations: u64, cpus: usize) -> u64 {
        if self.needs() > cpus {
            (iterations / SHORTER).max(1)
        } else {
            iterations
        }
    }

    /// The job that plays it.
    pub(super) fn job(&self, side: Side, rounds: u64, cpus: &[usize]) -> Job {
        let threads = self.test.threads.len();
        let on = |cpu: &dyn Fn(usize) -> usize| {
            let list: Vec<String> = (0..threads).map(|thread| cpu(thread).to_string()).collect();
            list.join(",")
        };
        let arguments = |who: String, on: String| {
            let pace = if threads <= cpus.len() { "in-step" } else { "apart" };
            let case = match self.case {
                Case::Plain | Case::Churn => "plain",
                Case::TwoAddresses => "two-addresses",
                Case::ReadOnly => "read-only",
                Case::Boundary => "boundary",
            };
            vec![
                self.test.name.into(),
                rounds.to_string(),
                who,
                on,
                pace.into(),
                case.into(),
            ]
        };
        match side {
            Side::Native => Job {
                pages: Pages::Default,
                host: Host::Native,
                copies: vec![arguments("all".into(), on(&|thread| cpus[thread % cpus.len()]))],
            },
            Side::OneGuest => Job {
                pages: Pages::Default,
                host: Host::Guests {
                    vcpus: threads as u32,
                },
                copies: vec![arguments("all".into(), on(&|thread| thread))],
            },
            Side::Guests => Job {
                pages: Pages::Default,
                host: Host::Guests { vcpus: 1 },
                copies: (0..self.needs())
                    .map(|who| arguments(who.to_string(), on(&|_| 0)))
                    .collect(),
            },
        }
    }
}

/// A thread's instructions as people write them: `x=1; r0=y`.
pub(super) fn listing(ops: &[Op]) -> String {
    let word = |word: Word| match word {
        Word::X => "x",
        Word::Y => "y",
        Word::Z => "z",
    };
    let one = |op: &Op| match *op {
        Op::Store(at, value) => format!("{}={value}", word(at)),
        Op::Load(at, register) => format!("r{register}={}", word(at)),
        Op::Fence => "mfence".into(),
        Op::Exchange(at, value, register) => format!("r{register}=xchg({},{value})", word(at)),
        Op::Add(at, value, register) => format!("r{register}=xadd({},{value})", word(at)),
        Op::CompareExchange(at, old, new, register) => {
            format!("r{register}=cmpxchg({},{old},{new})", word(at))
        }
    };
    ops.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str) -> &'static Test {
        TESTS.iter().find(|test| test.name == name).unwrap()
    }

    #[test]
    fn every_test_is_played_and_every_mixed_case_names_tests_there_are() {
        let mixed: usize = MIXED.iter().map(|(_, names)| names.len()).sum();
        assert_eq!(rows(&[]).len(), TESTS.len() + mixed);
        let only = rows(&[test("LB")]);
        assert_eq!(only.len(), 2);
        assert!(only.iter().all(|row| row.test.name == "LB"));
    }

    #[test]
    fn an_observer_is_one_that_only_reads() {
        for (case, names) in MIXED {
            let all = names.iter().map(|name| test(name));
            let observed = |test: &'static Test| (0..test.threads.len()).any(|thread| test.observes(thread));
            assert!(*case != Case::ReadOnly || all.clone().all(observed));
        }
    }

    #[test]
    fn what_lacks_cpus_runs_shorter_and_apart() {
        let row = |name, case| Row {
            test: test(name),
            case,
        };
        assert_eq!(row("SB", Case::Plain).rounds(1000, 2), 1000);
        assert_eq!(row("SB", Case::Churn).rounds(1000, 2), 100);
        assert_eq!(row("IRIW", Case::Plain).rounds(1000, 4), 1000);
        assert_eq!(row("IRIW", Case::Plain).rounds(5, 2), 1);
        let job = row("IRIW", Case::Plain).job(Side::Native, 7, &[4, 6]);
        assert_eq!(job.copies, [["IRIW", "7", "all", "4,6,4,6", "apart", "plain"]]);
        let job = row("MP", Case::Churn).job(Side::Guests, 7, &[4, 6]);
        assert_eq!(job.copies[2], ["MP", "7", "2", "0,0", "in-step", "plain"]);
        let job = row("MP", Case::ReadOnly).job(Side::OneGuest, 7, &[4, 6]);
        assert_eq!((job.host, job.copies.len()), (Host::Guests { vcpus: 2 }, 1));
    }

    #[test]
    fn threads_are_listed_as_people_write_them() {
        assert_eq!(listing(test("SB+mfences").threads[0]), "x=1; mfence; r0=y");
        assert_eq!(listing(test("CMPXCHG").threads[1]), "r0=cmpxchg(x,0,2)");
    }
}
