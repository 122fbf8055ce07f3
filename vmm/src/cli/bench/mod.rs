//! `tombolo bench`: what sharing memory between guests costs, compared with native System V shared memory.
//!
//! The program is `guest/user`'s `bench` (what each measurement does is told there); [`plan`] is what is run where and how
//! often, [`figures`] what may be said of it, [`start`] what is measured from outside: whole commands and their memory,
//! [`splice`] what has a machine of its own.
//! [`show`] makes tables or JSON of it, [`html`] a page. What is not measured is said, too ([`NOT_MEASURED`]).

mod figures;
mod html;
mod machine;
mod plan;
mod show;
mod splice;
mod start;

pub(super) use plan::Group;

use super::args::{BenchArgs, Format};
use super::lab::{Lab, Pages};
use super::progress::Progress;
use super::table::Style;
use anyhow::{Context, Result, bail};
use figures::{Figure, Run};
use machine::Machine;
use plan::{Experiment, Extent, Place, Told};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;
use tombolo::broker::large_file;
use tombolo::clock::Clock;

/// What the list of measurements lacks, and why.
const NOT_MEASURED: &[&str] = &[
    "hand-off between a guest and a host process: a process of the host has no way to attach a guest's segment",
    "instructions of ring 0, which is where the software KVM's time goes: docs/costs.md counts them for each path",
];

const FIRST_LIFE: &str = "whole-first: the whole of a run's first life, which is in no other row: on pages that nobody had a moment ago";
const NO_LARGE_PAGES: &str = "not on pages of 2 MiB: segments have none here (it takes the right to mount)";

/// All there is to show.
struct Findings {
    machine: Machine,
    figures: Vec<Figure>,
    /// What is no time and no bandwidth, a sentence each.
    notes: Vec<(Group, String)>,
    seconds: f64,
}

/// Measures; the result is the command's exit status.
///
/// # Errors
/// What kept a program from running, or the result from being written.
pub(super) fn run(args: &BenchArgs) -> Result<u8> {
    let began = Instant::now();
    // Before minutes of measuring, not after them.
    let page = match &args.html {
        Some(path) => Some(File::create(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let lab = Lab::new("bench")?;
    let measured = measure(&lab, args);
    if let Some(signal) = lab.signal() {
        for pid in lab.last_native() {
            lab.tidy(&plan::clearing(pid));
        }
        return Ok((128 + signal) as u8);
    }
    let mut findings = measured?;
    findings.seconds = began.elapsed().as_secs_f64();
    if let Some(mut page) = page {
        page.write_all(html::page(&findings).as_bytes())
            .context("the page")?;
    }
    let text = match args.format {
        Format::Text => show::text(&findings, Style::of(&io::stdout())),
        Format::Json => show::json(&findings)?,
    };
    io::stdout().lock().write_all(text.as_bytes()).context("stdout")?;
    Ok(0)
}

fn measure(lab: &Lab, args: &BenchArgs) -> Result<Findings> {
    let groups = match args.groups.as_slice() {
        [] => Group::ALL.to_vec(),
        groups => groups.to_vec(),
    };
    let extent = if args.quick { Extent::Quick } else { Extent::Full };
    let mut experiments = plan::experiments(&groups, extent);
    let mut notes = Vec::new();
    if large_file(0).is_none() {
        let all = experiments.len();
        experiments.retain(|experiment| !matches!(experiment.pages, Pages::Large { .. }));
        if experiments.len() < all {
            notes.push((Group::Bandwidth, NO_LARGE_PAGES.to_owned()));
        }
    }
    let outside = start::outside(&groups, extent);
    let runs = |experiment: &Experiment| experiment.rounds * experiment.places.len();
    let total = experiments.iter().map(runs).sum::<usize>() + outside.len();
    let (mut progress, mut done) = (Progress::new(total as u64), 0);
    if groups.contains(&Group::Life) {
        notes.push((Group::Life, FIRST_LIFE.to_owned()));
    }
    let mut findings = Findings {
        machine: Machine::look(lab.cpus().len()),
        figures: Vec::new(),
        notes,
        seconds: 0.0,
    };
    let khz = Clock::read(0).tsc_khz;
    // Tells what kind of KVM this is, and warms up.
    let first = lab.run(&plan::hello(), |_, _| {})?;
    findings.machine.kvm = first.and_then(|outcome| outcome.kvm);
    for experiment in &experiments {
        let first = findings.figures.len();
        for round in 0..experiment.rounds {
            for turn in 0..experiment.places.len() {
                // Another one begins each round.
                let place = experiment.places[(turn + round) % experiment.places.len()];
                progress.at(
                    done,
                    &format!("{}{}, {}", experiment.label, experiment.what, place.name()),
                );
                one_run(lab, experiment, place, khz, &mut findings, first)
                    .with_context(|| format!("{}, {}", experiment.what, place.name()))?;
                done += 1;
            }
        }
    }
    if groups.contains(&Group::Splice) {
        progress.at(done, "splices and slots");
        splice::measure(extent, &mut findings)?;
    }
    if !outside.is_empty() {
        start::measure(lab, &outside, khz, &mut findings, |at, what| {
            progress.at(done + at, what)
        })?;
    }
    Ok(findings)
}

/// One run of an experiment in one place; its figures are those from number `first` on.
fn one_run(
    lab: &Lab,
    experiment: &Experiment,
    place: Place,
    khz: u64,
    findings: &mut Findings,
    first: usize,
) -> Result<()> {
    let job = experiment.job(place, lab.cpus(), khz);
    let name = |name: &str| format!("{}{name}", experiment.label);
    let mut samples: Vec<(String, Run)> = Vec::new();
    match experiment.told {
        Told::Inside => {
            let mut odd = None;
            lab.run(&job, |_, line| match figures::parse(line) {
                Some((said, run)) => samples.push((name(said), run)),
                None => odd = Some(line.to_owned()),
            })?;
            if let Some(odd) = odd {
                bail!("the program said `{odd}`");
            }
        }
        Told::Death => samples.push((name("death"), Run::once(lab.death(&job)?))),
    }
    for (name, run) in samples {
        let known = findings.figures[first..]
            .iter()
            .position(|figure| figure.name == name);
        let index = known.map_or(findings.figures.len(), |index| first + index);
        if known.is_none() {
            findings.figures.push(Figure {
                group: experiment.group,
                name,
                moves: experiment.moves,
                runs: BTreeMap::new(),
            });
        }
        findings.figures[index].runs.entry(place).or_default().push(run);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_over_all_pages_and_deaths_are_measured_natively_and_in_a_guest() {
        const SIZE: u64 = 4 << 20;
        let lab = Lab::new("bench").unwrap();
        let all = plan::experiments(&[Group::Bandwidth, Group::Scale], Extent::Quick);
        let wanted = |what| ["sweep", "hold"].contains(&what);
        for mut experiment in all.into_iter().filter(|experiment| wanted(experiment.what)) {
            match (experiment.told, experiment.pages) {
                (Told::Death, _) => experiment.samples = experiment.samples.min(2),
                (Told::Inside, Pages::Large { .. }) if large_file(SIZE).is_none() => continue,
                (Told::Inside, pages) => {
                    experiment.size = SIZE;
                    if let Pages::Large { .. } = pages {
                        experiment.pages = Pages::Large { bytes: SIZE };
                    }
                }
            }
            let mut findings = show::tests::findings();
            findings.figures.clear();
            for place in [Place::Native, Place::OneGuest] {
                one_run(&lab, &experiment, place, 1_000_000, &mut findings, 0).unwrap();
            }
            let [figure] = findings.figures.as_slice() else {
                panic!("{experiment:?}: {:?}", findings.figures);
            };
            let name = if experiment.told == Told::Death {
                "death"
            } else {
                "sweep"
            };
            assert_eq!(figure.name, format!("{}{name}", experiment.label));
            assert!(figure.ratio(Place::OneGuest).is_some());
        }
    }
}
