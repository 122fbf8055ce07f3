//! The result as tables or as JSON.

use super::judge::{self, outcomes, seen};
use super::plan::{Side, listing};
use super::{Finding, Findings};
use crate::cli::table::{Align, Style, Table};
use anyhow::Result;
use litmus::model::Verdict;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn says(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ordinary => "allowed",
        Verdict::Relaxed => "allowed, by buffers",
        Verdict::Forbidden => "forbidden",
    }
}

/// Tables.
pub(super) fn text(findings: &Findings, problems: &[String], style: Style) -> String {
    let mut text = String::from(
        "How often each outcome was seen: between threads of a process on Linux (native), between threads on vCPUs\n\
         of one guest, between guests with a thread each; and what x86-TSO says of it.\n\n",
    );
    for finding in &findings.all {
        text += &section(finding, findings.cpus, style);
        text.push('\n');
    }
    text += &match problems {
        [] => style
            .good("Nothing was seen that x86-TSO forbids, and store buffers were seen where they must be."),
        _ => style.bad(&problems.join("\n")),
    };
    let kvm = findings.kvm.map_or("unknown".into(), |kind| kind.to_string());
    text + &format!(
        "\n\nKVM: {kvm}. {} CPUs. Wall time: {:.0} s.\n",
        findings.cpus,
        findings.wall.as_secs_f64()
    )
}

fn section(finding: &Finding, cpus: usize, style: Style) -> String {
    let row = &finding.row;
    let threads = row.test.threads.iter().enumerate();
    let listed: Vec<String> = threads
        .map(|(thread, ops)| format!("{thread}: {}", listing(ops)))
        .collect();
    let mut text = format!(
        "{}: {}\n  {}\n",
        style.bold(&row.name()),
        row.test.about,
        listed.join("   ")
    );
    let sides = || {
        Side::ALL
            .into_iter()
            .filter(|side| finding.played.contains_key(side))
    };
    let columns = [("outcome", Align::Left)]
        .into_iter()
        .chain(sides().map(|side| (side.name(), Align::Right)))
        .chain([("x86-TSO", Align::Left)]);
    let mut table = Table::new(columns);
    for outcome in outcomes(finding) {
        let counts = sides().map(|side| {
            let count = finding.played[&side]
                .counts
                .get(&outcome.code)
                .copied()
                .unwrap_or(0);
            grouped(count)
        });
        table.row(
            [outcome.name]
                .into_iter()
                .chain(counts)
                .chain([says(outcome.verdict).into()]),
        );
    }
    text += &table.render(style);
    text + &format!("  {}\n", verdict(finding, cpus, style))
}

/// One line: good or not, and what else is to be known.
fn verdict(finding: &Finding, cpus: usize, style: Style) -> String {
    let sides = || finding.played.keys().copied();
    let forbidden: u64 = sides().map(|side| seen(finding, side, Verdict::Forbidden)).sum();
    let mut text = match forbidden {
        0 => format!("{}: nothing forbidden", style.good("ok")),
        count => format!("{}: seen {count} times", style.bad("FORBIDDEN")),
    };
    let (needs, threads) = (finding.row.needs(), finding.row.test.threads.len());
    if needs > cpus {
        let what = if needs > threads { "guests" } else { "threads" };
        text += &format!("; shorter: {needs} {what} on {cpus} CPUs");
    }
    for churned in finding.played.values().filter_map(|played| played.churned) {
        text += &format!("; {} segments came and went meanwhile", grouped(churned));
    }
    text
}

/// A number with blanks between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// One JSON object.
///
/// # Errors
/// None that can be caused from outside.
pub(super) fn json(findings: &Findings, problems: &[String]) -> Result<String> {
    let tests: Vec<Value> = findings
        .all
        .iter()
        .map(|finding| test(finding, findings.cpus))
        .collect();
    let object = json!({
        "kvm": findings.kvm,
        "cpus": findings.cpus,
        "iterations": findings.iterations,
        "wall_ns": findings.wall.as_nanos() as u64,
        "tests": tests,
        "problems": problems,
    });
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

fn test(finding: &Finding, cpus: usize) -> Value {
    let row = &finding.row;
    let outcomes: Vec<Value> = judge::outcomes(finding)
        .into_iter()
        .map(|outcome| {
            let counts: BTreeMap<&str, u64> = (finding.played.iter())
                .map(|(side, played)| {
                    (
                        side.name(),
                        played.counts.get(&outcome.code).copied().unwrap_or(0),
                    )
                })
                .collect();
            let verdict = match outcome.verdict {
                Verdict::Ordinary => "allowed",
                Verdict::Relaxed => "relaxed",
                Verdict::Forbidden => "forbidden",
            };
            json!({ "outcome": outcome.name, "x86_tso": verdict, "seen": counts })
        })
        .collect();
    let runs: BTreeMap<&str, Value> = (finding.played.iter())
        .map(|(side, played)| {
            let run = json!({
                "rounds": played.rounds,
                "took_ns": played.took.as_nanos() as u64,
                "segments_meanwhile": played.churned,
            });
            (side.name(), run)
        })
        .collect();
    json!({
        "test": row.test.name,
        "case": row.case.name(),
        "about": row.test.about,
        "threads": row.test.threads.iter().map(|ops| listing(ops)).collect::<Vec<_>>(),
        "cpus_needed": row.needs(),
        "enough_cpus": row.needs() <= cpus,
        "runs": runs,
        "outcomes": outcomes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::findings;
    use super::*;

    #[test]
    fn the_table_has_every_outcome_its_counts_and_what_tso_says() {
        let run = findings("SB", &[([0; 6], 1234567), ([1, 1, 0, 0, 0, 0], 1)]);
        let text = text(&run, &[], Style::Plain);
        let row = "  0:r0=0 1:r0=0  1 234 567  1 234 567  1 234 567  allowed, by buffers\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("  0: x=1; r0=y   1: y=1; r0=x\n"), "{text}");
        assert!(
            text.contains("  0:r0=1 1:r0=0          0          0          0  allowed\n"),
            "{text}"
        );
        assert!(text.contains("  ok: nothing forbidden\n"), "{text}");
    }

    #[test]
    fn what_is_forbidden_or_shorter_is_said() {
        let run = findings("IRIW", &[([1, 0, 1, 0, 0, 0], 2)]);
        let text = text(&run, &["wrong".into()], Style::Plain);
        assert!(
            text.contains("  FORBIDDEN: seen 6 times; shorter: 4 threads on 2 CPUs\n"),
            "{text}"
        );
        assert!(text.contains("\nwrong\n"), "{text}");
    }

    #[test]
    fn the_json_has_the_same() {
        let run = findings("MP", &[([1, 1, 0, 0, 0, 0], 10)]);
        let object: Value = serde_json::from_str(&json(&run, &[]).unwrap()).unwrap();
        let test = &object["tests"][0];
        assert_eq!(
            (&test["test"], &test["runs"]["native"]["rounds"]),
            (&json!("MP"), &json!(10))
        );
        let outcomes = test["outcomes"].as_array().unwrap();
        let forbidden: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome["x86_tso"] == "forbidden")
            .collect();
        assert_eq!(forbidden.len(), 1);
        assert_eq!(forbidden[0]["outcome"], "1:r0=1 1:r1=0");
        assert_eq!(object["problems"], json!([]));
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1000)),
            ("0".into(), "999".into(), "1 000".into())
        );
    }
}
