//! The result as tables or as JSON.

use super::figures::{Figure, Spread, value};
use super::plan::{Group, Place};
use super::{Findings, NOT_MEASURED};
use crate::cli::table::{Align, Style, Table};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Places that get a column, in their order.
const PLACES: [Place; 4] = [Place::Native, Place::Threads, Place::OneGuest, Place::Guests];
/// Places that are compared with native.
const COMPARED: [Place; 2] = [Place::OneGuest, Place::Guests];

/// Tables.
pub(super) fn text(findings: &Findings, style: Style) -> String {
    let mut text = findings.machine.describe() + "\n\n";
    for group in Group::ALL {
        let figures: Vec<&Figure> = findings
            .figures
            .iter()
            .filter(|figure| figure.group == group)
            .collect();
        if figures.is_empty() {
            continue;
        }
        text += &format!("{}\n{}", style.bold(group.title()), table(&figures).render(style));
        for (_, note) in findings.notes.iter().filter(|(of, _)| *of == group) {
            text += &format!("  {note}\n");
        }
        text.push('\n');
    }
    text += "median/p99: medians of the runs' medians and 99th percentiles. Ratios: median over the rounds. Spread: native\n\
             against native, least to most; a ratio within it is no difference. calls: in least system calls of that place.\n\n\
             Not measured:\n";
    for what in NOT_MEASURED {
        text += &format!("  {what}\n");
    }
    text + &format!("\nWall time: {:.0} s.\n", findings.seconds)
}

fn present(figures: &[&Figure], place: Place) -> bool {
    figures.iter().any(|figure| figure.runs.contains_key(&place))
}

/// What the least system call costs in a place, picoseconds.
fn least_call(figures: &[&Figure], place: Place) -> Option<f64> {
    figures.iter().find(|figure| figure.name == "call")?.median(place)
}

fn table(figures: &[&Figure]) -> Table {
    let places: Vec<Place> = PLACES
        .into_iter()
        .filter(|&place| present(figures, place))
        .collect();
    let compared: Vec<Place> = COMPARED
        .into_iter()
        .filter(|&place| present(figures, place))
        .collect();
    let calls = |place| least_call(figures, place);
    let mut columns = vec![(String::new(), Align::Left)];
    for place in &places {
        columns.push((place.name().into(), Align::Right));
        columns.push(("p99".into(), Align::Right));
        if calls(*place).is_some() {
            columns.push(("calls".into(), Align::Right));
        }
    }
    columns.extend(
        compared
            .iter()
            .map(|place| (format!("{}/native", place.name()), Align::Right)),
    );
    columns.push(("spread".into(), Align::Right));
    let mut table = Table::new(columns);
    let none = || "-".to_owned();
    for figure in figures {
        let mut cells = vec![figure.name.clone()];
        for &place in &places {
            let shown = |time: Option<f64>| time.map_or_else(none, |time| value(figure.moves, time));
            cells.extend([shown(figure.median(place)), shown(figure.p99(place))]);
            if let Some(call) = calls(place) {
                cells.push(
                    figure
                        .median(place)
                        .map_or_else(none, |time| multiple(time / call)),
                );
            }
        }
        cells.extend(compared.iter().map(|&place| {
            figure
                .ratio(place)
                .map_or_else(none, |ratio| multiple(ratio.median))
        }));
        cells.push(figure.spread().map_or_else(none, range));
        table.row(cells);
    }
    table
}

/// A ratio with as many digits as make sense.
fn multiple(ratio: f64) -> String {
    match ratio {
        ..10.0 => format!("{ratio:.2}"),
        ..100.0 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

fn range(spread: Spread) -> String {
    format!("{}–{}", multiple(spread.least), multiple(spread.most))
}

/// One JSON object.
///
/// # Errors
/// None that can be caused from outside.
pub(super) fn json(findings: &Findings) -> Result<String> {
    let figures: Vec<Value> = findings.figures.iter().map(figure).collect();
    let object = json!({
        "machine": findings.machine,
        "figures": figures,
        "notes": findings.notes.iter().map(|(_, note)| note).collect::<Vec<_>>(),
        "not_measured": NOT_MEASURED,
        "wall_seconds": findings.seconds,
    });
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

fn figure(figure: &Figure) -> Value {
    let spread = |spread: Option<Spread>| {
        spread.map(|spread| json!({ "least": spread.least, "median": spread.median, "most": spread.most }))
    };
    let places: BTreeMap<&str, Value> = (figure.runs.iter())
        .map(|(&place, runs)| {
            let runs: Vec<Value> = (runs.iter())
                .map(|run| {
                    json!({
                        "least_ps": run.least, "median_ps": run.median, "p99_ps": run.p99, "samples": run.samples,
                    })
                })
                .collect();
            let place_says = json!({
                "median_ps": figure.median(place),
                "p99_ps": figure.p99(place),
                "runs": runs,
                "against_native": spread(figure.ratio(place)),
            });
            (place.name(), place_says)
        })
        .collect();
    json!({
        "group": figure.group.title(),
        "name": figure.name,
        "bytes_a_sample": figure.moves,
        "places": places,
        "native_spread": spread(figure.spread()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::figures::tests::figure;
    use super::super::machine::Machine;
    use super::*;

    pub(in super::super) fn findings() -> Findings {
        Findings {
            machine: Machine::default(),
            figures: vec![figure(
                None,
                &[
                    (Place::Native, &[100, 100, 100]),
                    (Place::NativeAgain, &[95, 100, 120]),
                    (Place::OneGuest, &[110, 110, 110]),
                    (Place::Guests, &[1200, 1200, 1200]),
                ],
            )],
            notes: vec![(Group::HandOff, "a <note>".into())],
            seconds: 1.0,
        }
    }

    #[test]
    fn the_table_has_medians_ratios_and_the_spread() {
        let text = text(&findings(), Style::Plain);
        let row = "  hand-off  100 ns  200 ns     110 ns  220 ns  1.20 µs  2.40 µs              1.10           12.0  0.95–1.20\n";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("  a <note>\n") && text.contains("Not measured:"),
            "{text}"
        );
    }

    #[test]
    fn the_json_has_every_run() {
        let object: Value = serde_json::from_str(&json(&findings()).unwrap()).unwrap();
        let guests = &object["figures"][0]["places"]["guests"];
        assert_eq!(guests["runs"].as_array().unwrap().len(), 3);
        assert_eq!(guests["against_native"]["median"], 12.0);
        assert_eq!(object["figures"][0]["native_spread"]["most"], 1.2);
    }
}
