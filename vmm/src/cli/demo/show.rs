//! The demo's result as tables or as JSON.

use super::board::Saw;
use super::check::Check;
use super::{GUESTS, HANDOFFS, MEMBERS, PROCESSES, Shown, name};
use crate::cli::table::{Align, Style, Table};
use anyhow::Result;
use serde_json::{Value, json};
use tombolo::broker::SegmentState;

/// Tables.
pub(super) fn text(shown: &Shown, checks: &[Check], style: Style) -> String {
    let mut text = format!(
        "{GUESTS} virtual machines with {PROCESSES} vCPUs each, a program on every vCPU, one System V segment.\n\
         Programs are named guest.process.\n\n"
    );
    let mut section = |title: &str, table: Table| {
        text += &format!("{}\n{}\n", style.bold(title), table.render(style));
    };
    section(
        &format!(
            "Who saw whose write after how many nanoseconds (median of {} hand-offs)",
            handoffs(shown)
        ),
        latencies(shown),
    );
    section(
        "The segment while all were attached, as ipcs -m would show it",
        segments(shown),
    );
    section("Start-up, milliseconds from the start", start(shown));
    text += &format!("{}\n", style.bold("Verified"));
    for check in checks {
        text += &match &check.wrong {
            None => format!("  {}      {}\n", style.good("ok"), check.claim),
            Some(wrong) => format!("  {}  {}: {wrong}\n", style.bad("NOT SO"), check.claim),
        };
    }
    text + &format!(
        "\nKVM: {}. Wall time: {:.0} ms.\n",
        kvm(shown),
        shown.wall.as_secs_f64() * 1000.0
    )
}

/// One JSON object.
///
/// # Errors
/// None that can be caused from outside.
pub(super) fn json(shown: &Shown, checks: &[Check]) -> Result<String> {
    let handoffs: Vec<Value> = pairs()
        .filter_map(|(writer, reader)| {
            let saw = saw(shown, writer, reader)?;
            Some(json!({
                "writer": name(writer), "reader": name(reader), "handoffs": saw.handoffs,
                "least_ns": saw.least, "median_ns": saw.median, "ninth_decile_ns": saw.ninth_decile,
            }))
        })
        .collect();
    let start: Vec<_> = shown.outcome.guests.iter().map(|guest| &guest.start).collect();
    let checks: Vec<_> = checks
        .iter()
        .map(|check| json!({ "claim": check.claim, "so": check.wrong.is_none(), "wrong": check.wrong }))
        .collect();
    let object = json!({
        "kvm": shown.outcome.kvm,
        "handoffs": handoffs,
        "segments_while_attached": shown.segments,
        "start": start,
        "wall_ns": shown.wall.as_nanos() as u64,
        "checks": checks,
    });
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    (0..MEMBERS)
        .flat_map(|writer| (0..MEMBERS).map(move |reader| (writer, reader)))
        .filter(|(writer, reader)| writer != reader)
}

fn saw(shown: &Shown, writer: u32, reader: u32) -> Option<Saw> {
    shown.members.get(reader as usize)?.saw.get(&writer).copied()
}

/// How many hand-offs the pairs had: a pair whose vCPUs had to share a CPU of the host is slow, and stops early.
fn handoffs(shown: &Shown) -> String {
    let counts = pairs().map(|(writer, reader)| saw(shown, writer, reader).map_or(0, |saw| saw.handoffs));
    match counts.min() {
        Some(fewest) if fewest < HANDOFFS => format!("{fewest} to {HANDOFFS}"),
        _ => HANDOFFS.to_string(),
    }
}

fn latencies(shown: &Shown) -> Table {
    let columns = (0..MEMBERS).map(|writer| (format!("{} wrote", name(writer)), Align::Right));
    let mut table = Table::new([(String::new(), Align::Left)].into_iter().chain(columns));
    for reader in 0..MEMBERS {
        let cells = (0..MEMBERS).map(|writer| match saw(shown, writer, reader) {
            Some(saw) => saw.median.to_string(),
            None => "-".into(),
        });
        table.row([format!("{} saw", name(reader))].into_iter().chain(cells));
    }
    table
}

fn segments(shown: &Shown) -> Table {
    use Align::{Left, Right};
    let fixed = [
        ("key", Left),
        ("shmid", Right),
        ("owner", Left),
        ("perms", Left),
        ("bytes", Right),
        ("nattch", Right),
    ];
    let guests = (0..GUESTS).map(|guest| (format!("guest {guest}"), Right));
    let status = [("status".to_owned(), Left)];
    let mut table = Table::new(
        fixed
            .into_iter()
            .map(|(name, align)| (name.to_owned(), align))
            .chain(guests)
            .chain(status),
    );
    for segment in &shown.segments {
        table.row(segment_cells(segment));
    }
    table
}

fn segment_cells(segment: &SegmentState) -> Vec<String> {
    let owner = if segment.uid == 0 {
        "root".into()
    } else {
        segment.uid.to_string()
    };
    let mut cells = vec![
        format!("{:#010x}", segment.key),
        segment.id.to_string(),
        owner,
        format!("{:o}", segment.mode & 0o777),
        segment.size.to_string(),
        segment.nattch.to_string(),
    ];
    cells.extend((0..GUESTS).map(|guest| segment.nattch_per_guest.get(&guest).unwrap_or(&0).to_string()));
    cells.push(if segment.removed {
        "dest".into()
    } else {
        String::new()
    });
    cells
}

fn start(shown: &Shown) -> Table {
    let columns = [
        "VM made",
        "loaded",
        "vCPUs run",
        "kernel up",
        "first program",
        "gone",
    ];
    let mut table = Table::new(
        [(String::new(), Align::Left)]
            .into_iter()
            .chain(columns.map(|name| (name.to_owned(), Align::Right))),
    );
    for guest in &shown.outcome.guests {
        let times = &guest.start;
        let cells = [
            times.vm_created_ns,
            times.loaded_ns,
            times.entered_ns,
            times.kernel_ready_ns,
            times.first_program_ns,
            times.gone_ns,
        ];
        let cells = cells.map(|time| time.map_or("-".into(), |ns| format!("{:.2}", ns as f64 / 1e6)));
        table.row([format!("guest {}", guest.guest)].into_iter().chain(cells));
    }
    table
}

fn kvm(shown: &Shown) -> String {
    let unknown = || "unknown: no guest came so far as to tell".into();
    shown.outcome.kvm.map_or_else(unknown, |kind| kind.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn the_text_has_every_pair_the_segment_and_each_verdict() {
        let shown = check::tests::good();
        let mut checks = check::all(&shown);
        let text = super::text(&shown, &checks, Style::Plain);
        assert!(text.contains("median of 2000 hand-offs"), "{text}");
        assert!(
            text.contains("  0.0 saw          -        120        120        120\n"),
            "{text}"
        );
        assert!(
            text.contains("  0x746f6d62      3  root   600    69632       4        2        2\n"),
            "{text}"
        );
        assert!(!text.contains("NOT SO") && !text.contains('\x1b'));
        checks[0].wrong = Some("1.0: did not attach".into());
        assert!(super::text(&shown, &checks, Style::Plain).contains("NOT SO"));
    }

    #[test]
    fn a_pair_that_stopped_early_is_admitted() {
        let mut shown = check::tests::good();
        shown.members[2].saw.extend([(
            1,
            Saw {
                handoffs: 37,
                ..Saw::default()
            },
        )]);
        let text = super::text(&shown, &[], Style::Plain);
        assert!(text.contains("(median of 37 to 2000 hand-offs)"), "{text}");
    }

    #[test]
    fn the_json_has_twelve_pairs_and_all_checks() {
        let shown = check::tests::good();
        let object: Value = serde_json::from_str(&json(&shown, &check::all(&shown)).unwrap()).unwrap();
        assert_eq!(object["handoffs"].as_array().map(Vec::len), Some(12));
        assert_eq!(object["handoffs"][0]["median_ns"], 120);
        assert_eq!(object["segments_while_attached"][0]["nattch_per_guest"]["1"], 2);
        assert!(
            object["checks"]
                .as_array()
                .unwrap()
                .iter()
                .all(|check| check["so"] == true)
        );
    }
}
