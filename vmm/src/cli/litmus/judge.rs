//! What the counts mean: which outcomes there are, what x86-TSO says of each, and what is wrong.

use super::plan::{Case, Row, Side};
use super::{Finding, Findings};
use litmus::model::{self, Verdict};
use litmus::{CODES, Test, Values, decode};

/// The test whose relaxed outcome must be seen.
const SENSITIVE: &str = "SB";

/// An outcome of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// `litmus::encode`'s number of it.
    pub(super) code: usize,
    /// As people write it: `0:r0=1 1:r0=0 x=2`.
    pub(super) name: String,
    /// What x86-TSO says of it.
    pub(super) verdict: Verdict,
}

/// Every outcome that could be thought of, and those that were seen all the same.
pub(super) fn outcomes(finding: &Finding) -> Vec<Outcome> {
    let test = finding.row.test;
    let seen = |code: &usize| {
        finding
            .played
            .values()
            .any(|played| played.counts.contains_key(code))
    };
    (0..CODES)
        .filter(|code| model::conceivable(test, &decode(*code)) || seen(code))
        .map(|code| Outcome {
            code,
            name: name(test, &decode(code)),
            verdict: model::verdict(test, &decode(code)),
        })
        .collect()
}

fn name(test: &Test, values: &Values) -> String {
    let registers = (0..test.threads.len())
        .flat_map(|thread| (0..test.registers(thread)).map(move |register| format!("{thread}:r{register}")));
    let finals = test.finals.iter().map(|word| format!("{word:?}").to_lowercase());
    let named = registers.chain(finals).zip(values);
    named
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// How often outcomes with this verdict were seen on a side.
pub(super) fn seen(finding: &Finding, side: Side, verdict: Verdict) -> u64 {
    let Some(played) = finding.played.get(&side) else {
        return 0;
    };
    let of_verdict = outcomes(finding)
        .into_iter()
        .filter(|outcome| outcome.verdict == verdict);
    of_verdict
        .filter_map(|outcome| played.counts.get(&outcome.code))
        .sum()
}

/// Whether the relaxed outcome must have been seen there.
fn must_be_sensitive(row: &Row, cpus: usize) -> bool {
    row.test.name == SENSITIVE && row.case == Case::Plain && row.needs() <= cpus.max(2)
}

/// What is wrong, a line each; nothing if all is well.
pub(super) fn problems(findings: &Findings) -> Vec<String> {
    let mut problems = Vec::new();
    for finding in &findings.all {
        let row = &finding.row;
        for (side, played) in &finding.played {
            let place = format!("{}, {}", row.name(), side.name());
            for outcome in outcomes(finding) {
                let count = played.counts.get(&outcome.code).copied().unwrap_or(0);
                if outcome.verdict == Verdict::Forbidden && count > 0 {
                    problems.push(format!(
                        "{place}: {} was seen {count} times; x86-TSO forbids it",
                        outcome.name
                    ));
                }
            }
            let counted: u64 = played.counts.values().sum();
            if counted != played.rounds {
                problems.push(format!("{place}: {counted} outcomes of {} rounds", played.rounds));
            }
            if must_be_sensitive(row, findings.cpus) && seen(finding, *side, Verdict::Relaxed) == 0 {
                problems.push(format!(
                    "{place}: not sensitive enough: in {} rounds no store buffer was seen (are two CPUs free?)",
                    played.rounds
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Played;
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// A run of one test in which every side saw the outcomes given.
    pub(in super::super) fn findings(name: &str, counts: &[(Values, u64)]) -> Findings {
        let row = super::super::plan::rows(&[])
            .into_iter()
            .find(|row| row.test.name == name)
            .unwrap();
        let played = Played {
            rounds: counts.iter().map(|(_, count)| count).sum(),
            counts: counts
                .iter()
                .map(|(values, count)| (litmus::encode(values).unwrap(), *count))
                .collect(),
            churned: None,
            took: Duration::from_secs(1),
        };
        let played = row
            .sides()
            .iter()
            .map(|&side| (side, played.clone()))
            .collect::<BTreeMap<_, _>>();
        Findings {
            all: vec![Finding { row, played }],
            cpus: 2,
            iterations: 1000,
            kvm: None,
            wall: Duration::from_secs(3),
        }
    }

    const BOTH: Values = [0; 6];
    const NONE: Values = [1, 1, 0, 0, 0, 0];

    #[test]
    fn sb_has_four_outcomes_one_of_them_by_buffers() {
        let run = findings("SB", &[(BOTH, 5), (NONE, 5)]);
        let all = outcomes(&run.all[0]);
        assert_eq!(all.len(), 4);
        assert_eq!(
            (all[0].name.as_str(), all[0].verdict),
            ("0:r0=0 1:r0=0", Verdict::Relaxed)
        );
        assert_eq!(seen(&run.all[0], Side::Guests, Verdict::Relaxed), 5);
        assert!(problems(&run).is_empty());
    }

    #[test]
    fn a_run_without_the_relaxed_outcome_is_not_sensitive_enough() {
        let wrong = problems(&findings("SB", &[(NONE, 1000)]));
        assert_eq!(wrong.len(), 3);
        assert!(
            wrong[0].contains("native: not sensitive enough: in 1000 rounds"),
            "{}",
            wrong[0]
        );
    }

    #[test]
    fn a_forbidden_outcome_is_named() {
        let wrong = problems(&findings("SB+mfences", &[(BOTH, 1), (NONE, 999)]));
        assert_eq!(wrong.len(), 3);
        assert_eq!(
            wrong[1],
            "SB+mfences, one guest: 0:r0=0 1:r0=0 was seen 1 times; x86-TSO forbids it"
        );
    }

    #[test]
    fn what_is_not_even_conceivable_is_shown_and_forbidden() {
        let odd = [3, 0, 0, 0, 0, 0];
        let run = findings("MP", &[(odd, 1)]);
        assert_eq!(outcomes(&run.all[0]).len(), 5);
        assert_eq!(problems(&run).len(), 3);
    }

    #[test]
    fn every_round_has_an_outcome() {
        let mut run = findings("MP", &[(NONE, 10)]);
        for played in run.all[0].played.values_mut() {
            played.rounds = 11;
        }
        assert!(problems(&run)[0].contains("10 outcomes of 11 rounds"));
    }
}
