//! Random sequences of System V calls by six actors give the same transcript on Linux, in one guest, and spread over two
//! and three guests.
//!
//! By hand: TOMBOLO_DIFFER_OPS=100000 TOMBOLO_DIFFER_SEED=17 cargo test -p tests --test differential. Each operation is
//! a function of the seed and its number, so shorter runs repeat the beginning of longer ones; TOMBOLO_DIFFER_NARROW=1
//! looks for the shortest that still differs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::{ProcessResult, Run, Toolchain};
use tombolo::config::GroupConfig;

/// Actors, in every shape.
const ACTORS: u32 = 6;
/// How many lines that differ are shown after the first.
const LATER: usize = 10;

/// `turn` 0 to 2: each has users of its own.
fn run(seed: u64, operations: u64, guests: u32, turn: u32) -> Run {
    // No other process's that runs tests now.
    let first_user = 100_000 + 10 * std::process::id() + 3 * turn;
    Run::with("differ.c", Toolchain::Musl)
        .args([seed.to_string(), operations.to_string(), first_user.to_string()])
        .guests(guests)
        .procs(ACTORS / guests)
        .vcpus(if guests < 3 { 2 } else { 1 })
        .timeout(Duration::from_secs(120 + operations / 5))
        .leaving_segments()
}

/// All actors' lines in the order of the operations.
fn transcript(processes: &BTreeMap<(u32, u32), ProcessResult>) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    for process in processes.values() {
        for line in String::from_utf8_lossy(&process.stdout).lines() {
            let number = line.split(' ').next().and_then(|word| word.parse().ok());
            lines.push((number.unwrap_or(u64::MAX), line.to_owned()));
        }
    }
    // Stable: an operation of several lines is one actor's.
    lines.sort_by_key(|(number, _)| *number);
    lines
}

/// A line in parts: before and after the number that says how much of something is in memory, and that number.
fn parts(line: &str) -> Option<(&str, u64, &str)> {
    let (before, rest) = line.split_once(" resident ")?;
    let end = rest
        .find(|digit: char| !digit.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((before, rest[..end].parse().ok()?, &rest[end..]))
}

/// Whether a guest's line is Linux's but for less that is in memory. A host short of memory, or one that always looks for
/// some to spare (DAMON), takes back pages of segments that have been read and never written: they are zeros, and come
/// back when they are read again. Natively nothing has the time for that.
fn tells_less_resident(linux: &str, guest: &str) -> bool {
    match (parts(linux), parts(guest)) {
        (Some((before, there, after)), Some((also_before, here, also_after))) => {
            (before, after) == (also_before, also_after) && here < there
        }
        _ => false,
    }
}

/// What Linux says, twice: what else goes on on this machine must not have a part in it.
fn on_linux(seed: u64, operations: u64, guests: u32) -> Vec<(u64, String)> {
    let once = |turn| {
        let linux = run(seed, operations, guests, turn).natively();
        for (actor, process) in &linux {
            let complaints = String::from_utf8_lossy(&process.stderr);
            assert_eq!(
                process.status,
                Some(0),
                "actor {actor:?} on Linux, seed {seed}: {complaints}"
            );
        }
        transcript(&linux)
    };
    let (first, second) = (once(0), once(1));
    if first == second {
        return second;
    }
    let part = first.iter().zip(&second).find(|(one, two)| one != two);
    println!("seed {seed}: Linux says two things: {part:?}");
    let third = once(2);
    assert!(
        third == first || third == second,
        "seed {seed}: Linux says three things"
    );
    third
}

/// Where the transcripts of `operations` operations part, if they do.
fn difference(seed: u64, operations: u64, guests: u32) -> Option<(u64, String)> {
    let start = Instant::now();
    let expected = on_linux(seed, operations, guests);
    let natively = start.elapsed();
    assert!(
        expected.len() as u64 > operations,
        "an operation is told in a line or more"
    );
    let start = Instant::now();
    // How much is in memory is told by the page, and Linux's own segments have pages of 4 KiB (`shmem_enabled`).
    let small_pages = |group: &mut GroupConfig| group.limits.large_pages = false;
    let finished = run(seed, operations, guests, 0).go_with(small_pages, |_| {});
    println!(
        "seed {seed}, {operations} operations, {guests} guests: {:.1} s on Linux, {:.1} s in guests",
        natively.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    let got = transcript(&finished.processes);
    let mut taken_back = 0;
    let part = (0..expected.len().max(got.len())).find(|&i| {
        let (linux, guest) = (expected.get(i), got.get(i));
        match (linux, guest) {
            (Some((_, linux)), Some((_, guest))) if tells_less_resident(linux, guest) => {
                taken_back += 1;
                false
            }
            _ => linux != guest,
        }
    });
    println!(
        "of {} lines {taken_back} tell of less in memory than on Linux",
        got.len()
    );
    let Some(part) = part else {
        // Now and then a page that nobody has written; otherwise what is in memory is a fact like others.
        assert!(
            taken_back * 10 <= got.len(),
            "{taken_back} of {} lines tell of less in memory than on Linux",
            got.len()
        );
        finished.expect_all(0);
        return None;
    };
    let number = expected
        .get(part)
        .or(got.get(part))
        .map_or(0, |(number, _)| *number);
    let show = |lines: &[(u64, String)]| {
        let around = &lines[part.saturating_sub(12).min(lines.len())..(part + 3).min(lines.len())];
        around
            .iter()
            .map(|(_, line)| format!("    {line}\n"))
            .collect::<String>()
    };
    let complaints: String = finished
        .processes
        .iter()
        .filter(|(_, process)| process.status != Some(0) || !process.stderr.is_empty())
        .map(|(actor, process)| {
            format!(
                "actor {actor:?}, status {:?}: {}\n",
                process.status,
                String::from_utf8_lossy(&process.stderr)
            )
        })
        .collect();
    let none = &(0, String::from("(nothing)"));
    let line = |lines: &'_ [(u64, String)], at: usize| lines.get(at).unwrap_or(none).1.clone();
    let later: String = (part + 1..expected.len().max(got.len()))
        .filter(|&at| expected.get(at) != got.get(at))
        .take(LATER)
        .map(|at| format!("    {}\n    {}\n", line(&expected, at), line(&got, at)))
        .collect();
    let ends: Vec<_> = finished.outcome.guests.iter().map(|guest| &guest.end).collect();
    Some((
        number,
        format!(
            "Linux:\n{}guests:\n{}and then, on Linux and in guests:\n{later}{complaints}{ends:?}",
            show(&expected),
            show(&got)
        ),
    ))
}

/// The transcripts must be equal; otherwise what differs first is shown.
fn same(seed: u64, operations: u64, guests: u32) {
    let Some((number, mut report)) = difference(seed, operations, guests) else {
        return;
    };
    let mut differs = operations.min(number.saturating_add(1));
    if asked("TOMBOLO_DIFFER_NARROW").is_some() {
        (differs, report) = narrowed(seed, differs, guests).unwrap_or((differs, report));
    }
    panic!(
        "seed {seed}, {differs} of {operations} operations, {guests} guests: the transcripts differ\n{report}"
    );
}

/// A beginning that differs, one operation shorter does not, of `differs` operations, if that many do: the end of a
/// run tells what each segment has come to, also where no operation has asked.
fn narrowed(seed: u64, mut differs: u64, guests: u32) -> Option<(u64, String)> {
    let (_, mut report) = difference(seed, differs, guests)?;
    let mut equal = 0;
    while differs - equal > 1 {
        let middle = equal + (differs - equal) / 2;
        match difference(seed, middle, guests) {
            None => equal = middle,
            Some((_, shorter)) => (differs, report) = (middle, shorter),
        }
    }
    Some((differs, report))
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

/// `seed` for the tests of every day, or what the environment asks for.
fn over(seed: u64, operations: u64, guests: u32) {
    let operations = asked("TOMBOLO_DIFFER_OPS").unwrap_or(operations);
    let seed = asked("TOMBOLO_DIFFER_SEED").unwrap_or(seed);
    println!("seed {seed}, {operations} operations, {guests} guests");
    same(seed, operations, guests);
}

#[test]
fn six_processes_of_a_guest_do_what_six_processes_on_linux_do() {
    over(1, 7000, 1);
}

#[test]
fn processes_of_two_guests_do_what_six_processes_on_linux_do() {
    over(2, 7000, 2);
}

#[test]
fn processes_of_three_guests_do_what_six_processes_on_linux_do() {
    over(3, 7000, 3);
}
