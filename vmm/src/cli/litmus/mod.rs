//! `tombolo litmus`: the classic x86 litmus tests between threads of a process, between vCPUs of a guest, and between
//! guests.
//!
//! The program is `guest/user`'s `litmus` (its module essay tells how a test is played), the tests and the model that
//! says what x86-TSO allows are the crate `litmus`. [`plan`] is what is played where, [`judge`] what it means, [`show`]
//! makes tables or JSON of it.

mod judge;
mod plan;
mod show;

use super::args::{Format, LitmusArgs};
use super::lab::Lab;
use super::progress::Progress;
use super::table::Style;
use super::tell;
use anyhow::{Context, Result, bail};
use plan::{Row, Side};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tombolo::outcome::KvmKind;

/// One test on one side, played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Played {
    /// How many rounds.
    rounds: u64,
    /// How often each outcome was seen, by `litmus::encode`'s number.
    counts: BTreeMap<usize, u64>,
    /// How often the third guest made, attached, detached and removed a segment meanwhile.
    churned: Option<u64>,
    /// How long it took, guests' start included.
    took: Duration,
}

/// A line of the result: a test in a case, on all of its sides.
#[derive(Debug)]
struct Finding {
    row: Row,
    played: BTreeMap<Side, Played>,
}

/// All there is to show.
#[derive(Debug)]
struct Findings {
    all: Vec<Finding>,
    cpus: usize,
    iterations: u64,
    kvm: Option<KvmKind>,
    wall: Duration,
}

/// Plays all tests; the result is the command's exit status.
///
/// # Errors
/// What kept a program from running, or the result from being written.
pub(super) fn run(args: &LitmusArgs) -> Result<u8> {
    let began = Instant::now();
    let lab = Lab::new("litmus")?;
    let rows = plan::rows(&args.tests);
    let played = play_all(&lab, &rows, args.iterations);
    if let Some(signal) = lab.signal() {
        return Ok((128 + signal) as u8);
    }
    let (all, kvm) = played?;
    let findings = Findings {
        all,
        cpus: lab.cpus().len(),
        iterations: args.iterations,
        kvm,
        wall: began.elapsed(),
    };
    let problems = judge::problems(&findings);
    let text = match args.format {
        Format::Text => show::text(&findings, &problems, Style::of(&io::stdout())),
        Format::Json => show::json(&findings, &problems)?,
    };
    io::stdout().lock().write_all(text.as_bytes()).context("stdout")?;
    for problem in &problems {
        tell(problem);
    }
    Ok(u8::from(!problems.is_empty()))
}

fn play_all(lab: &Lab, rows: &[Row], iterations: u64) -> Result<(Vec<Finding>, Option<KvmKind>)> {
    let cpus = lab.cpus().len();
    let runs = || {
        rows.iter()
            .flat_map(|row| row.sides().iter().map(move |&side| (row, side)))
    };
    let mut progress = Progress::new(runs().map(|(row, _)| row.rounds(iterations, cpus)).sum());
    let (mut done, mut kvm) = (0, None);
    let mut all: Vec<Finding> = Vec::new();
    for row in rows {
        let mut played = BTreeMap::new();
        for &side in row.sides() {
            let rounds = row.rounds(iterations, cpus);
            let name = format!("{}, {}", row.name(), side.name());
            progress.at(done, &name);
            let (result, kind) = play(lab, row, side, rounds, |at| progress.at(done + at, &name))
                .with_context(|| name.clone())?;
            kvm = kvm.or(kind);
            played.insert(side, result);
            done += rounds;
        }
        all.push(Finding { row: *row, played });
    }
    Ok((all, kvm))
}

fn play(
    lab: &Lab,
    row: &Row,
    side: Side,
    rounds: u64,
    mut at: impl FnMut(u64),
) -> Result<(Played, Option<KvmKind>)> {
    let began = Instant::now();
    let mut played = Played::default();
    let mut odd = None;
    let outcome = lab.run(&row.job(side, rounds, lab.cpus()), |_, line| {
        if take(&mut played, &mut at, line).is_none() {
            odd.get_or_insert_with(|| line.to_owned());
        }
    })?;
    if let Some(odd) = odd {
        bail!("the program said `{odd}`");
    }
    if played.rounds != rounds {
        bail!("{} rounds were played, not {rounds}", played.rounds);
    }
    played.took = began.elapsed();
    Ok((played, outcome.and_then(|outcome| outcome.kvm)))
}

/// Takes a line in; `None` if it makes no sense.
fn take(played: &mut Played, at: &mut impl FnMut(u64), line: &str) -> Option<()> {
    let mut words = line.split(' ');
    let what = words.next()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    match what {
        "at" => at(number()?),
        "outcome" => {
            let code = usize::try_from(number()?)
                .ok()
                .filter(|&code| code < litmus::CODES)?;
            *played.counts.entry(code).or_default() += number()?;
        }
        "played" => played.rounds = number()?,
        "churned" => played.churned = Some(number()?),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_taken_in_and_nothing_else() {
        let (mut played, mut last) = (Played::default(), 0);
        for line in ["at 500", "outcome 0 3", "outcome 5 7", "played 10", "churned 40"] {
            assert!(take(&mut played, &mut |at| last = at, line).is_some(), "{line}");
        }
        assert_eq!((last, played.rounds, played.churned), (500, 10, Some(40)));
        assert_eq!(played.counts, BTreeMap::from([(0, 3), (5, 7)]));
        for line in [
            "",
            "outcome",
            "outcome 4096 1",
            "outcome x 1",
            "played -1",
            "won 1",
        ] {
            assert!(take(&mut played, &mut |_| {}, line).is_none(), "{line}");
        }
    }
}
