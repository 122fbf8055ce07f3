//! What boot and the hot paths cost: instructions that ring 0 executes, as KVM counts them where it emulates them. They
//! are the same every run, so a path that grows shows here and not only in a benchmark.
//!
//! `costs.c` marks the moments between which to count by writing a byte; the log of hypercalls has the count at each.
//! docs/costs.md has what was measured; a path may grow by a tenth.

use std::collections::BTreeMap;
use tests::{Command, Toolchain, program};

/// The table that is checked, and kept by hand: what this test prints.
const RECORDED: &str = include_str!("../../docs/costs.md");

/// Hypercalls in their order, and how many instructions had been executed at each. Empty where KVM does not count.
fn hypercalls(operation: &str) -> Vec<(String, u64)> {
    let result = Command::wrapped(&["env", "RUST_LOG=tombolo::hypercall=trace"])
        .arg("run")
        .arg(program("costs.c", Toolchain::Musl))
        .arg(operation)
        .run();
    result.expect(0);
    let field = |line: &str, before: &str, after: char| {
        let (_, rest) = line.split_once(before)?;
        Some(rest.split(after).next()?.to_owned())
    };
    let log = result.err();
    let served = log.lines().filter_map(|line| {
        let call = field(line, "call=", ' ')?;
        let count = field(line, "so_far=Some(", ')')?.parse().ok()?;
        Some((call, count))
    });
    served.collect()
}

/// Instructions from each mark to the next.
fn between_marks(operation: &str) -> Vec<u64> {
    let marks: Vec<u64> = hypercalls(operation)
        .into_iter()
        .filter_map(|(call, count)| (call == "Write").then_some(count))
        .collect();
    marks.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Every path's name and count; `None` where they can't be counted.
fn measure_once() -> Option<BTreeMap<&'static str, u64>> {
    let whole = hypercalls("nothing");
    let at = |call: &str| {
        whole
            .iter()
            .find(|(name, _)| name == call)
            .map(|&(_, count)| count)
    };
    let (ready, start) = (at("Ready")?, at("ProcessStart")?);
    let mut counts = BTreeMap::from([
        ("boot", ready),
        ("load", start - ready),
        ("run", whole.last()?.1 - start),
    ]);
    let mark = *between_marks("nothing").first()?;
    counts.insert("write", mark);
    let mut count = |operation: &str, names: &[&'static str]| {
        let figures = between_marks(operation);
        // The first mark comes before what prepares an operation.
        let figures = &figures[figures.len() - names.len()..];
        for (name, figure) in names.iter().zip(figures) {
            counts.insert(name, figure - mark);
        }
    };
    count("empty", &["empty"]);
    count("shmget", &["shmget"]);
    count(
        "shmat-4k",
        &[
            "shmat 4 KiB, first",
            "shmat 4 KiB, second",
            "shmdt 4 KiB, second",
            "shmat 4 KiB",
            "shmdt 4 KiB",
            "shmdt 4 KiB, last",
        ],
    );
    count(
        "shmat-1m",
        &[
            "shmat 1 MiB, first",
            "shmat 1 MiB, second",
            "shmdt 1 MiB, second",
            "shmat 1 MiB",
            "shmdt 1 MiB",
            "shmdt 1 MiB, last",
        ],
    );
    count(
        "shmat-64m",
        &[
            "shmat 64 MiB, first",
            "shmat 64 MiB, second",
            "shmdt 64 MiB, second",
            "shmat 64 MiB",
            "shmdt 64 MiB",
            "shmdt 64 MiB, last",
        ],
    );
    count(
        "shmat-1g",
        &[
            "shmat 1 GiB, first",
            "shmat 1 GiB, second",
            "shmdt 1 GiB, second",
            "shmat 1 GiB",
            "shmdt 1 GiB",
            "shmdt 1 GiB, last",
        ],
    );
    count("fault", &["page fault"]);
    count("futex-no-wait", &["futex wait, no wait"]);
    count("futex-wake-nobody", &["futex wake, nobody"]);
    for (operation, name) in [
        ("futex-round", "two waits, two wakes"),
        ("switch", "two switches"),
        ("thread", "thread"),
        ("fork", "fork"),
    ] {
        let figures = between_marks(operation);
        let least = figures.iter().skip(1).min().expect("several rounds");
        counts.insert(name, least - mark);
    }
    Some(counts)
}

/// The least of three runs: what else goes on on the machine lets a timer come in between now and then, which only adds.
fn measure() -> Option<BTreeMap<&'static str, u64>> {
    let mut least = measure_once()?;
    for _ in 0..2 {
        for (name, count) in measure_once()? {
            least.entry(name).and_modify(|least| *least = count.min(*least));
        }
    }
    Some(least)
}

/// The rows of the table: name and count.
fn recorded() -> BTreeMap<&'static str, u64> {
    let rows = RECORDED.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let name = cells.next()?;
        let count = cells.next()?.trim_end_matches(" |").parse().ok()?;
        Some((name, count))
    });
    rows.collect()
}

#[test]
fn no_hot_path_has_grown_by_more_than_a_tenth() {
    let Some(counts) = measure() else {
        println!("not measurable here: this KVM does not emulate ring 0");
        return;
    };
    let recorded = recorded();
    println!("measured now, recorded:");
    for (name, count) in &counts {
        println!("| {name} | {count} | {:?}", recorded.get(name));
    }
    assert!(counts.keys().eq(recorded.keys()), "docs/costs.md has other rows");
    for (name, count) in counts {
        let most = recorded[name] * 11 / 10;
        assert!(
            count <= most,
            "{name}: {count} instructions, {} in docs/costs.md",
            recorded[name]
        );
    }
}

#[test]
fn an_attach_costs_the_same_whatever_the_segments_size() {
    let Some(counts) = measure() else {
        println!("not measurable here: this KVM does not emulate ring 0");
        return;
    };
    for what in ["shmat", "shmdt"] {
        let cost = |size: &str| counts[format!("{what} {size}").as_str()];
        assert!(cost("1 GiB") <= 2 * cost("4 KiB"), "{what}: {counts:#?}");
        assert!(cost("1 MiB") <= 2 * cost("4 KiB"), "{what}: {counts:#?}");
    }
    assert!(
        counts["shmat 1 GiB, first"] <= 4 * counts["shmat 4 KiB"],
        "{counts:#?}"
    );
    assert!(
        counts["shmdt 1 GiB, last"] <= 4 * counts["shmdt 4 KiB"],
        "{counts:#?}"
    );
}
