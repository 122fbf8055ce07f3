//! The result as one page that needs nothing else: a plot for each figure, in SVG, and the machine's description.
//!
//! A plot has a line for each place; each run is a dot at its median with a whisker to its 99th percentile, and the
//! median of the runs is a bar. The axis is logarithmic, because what is compared may differ a thousandfold.

use super::figures::{Figure, value};
use super::plan::{Group, Place};
use super::{Findings, NOT_MEASURED};
use std::fmt::Write;

const PLACES: [Place; 5] = [
    Place::Native,
    Place::NativeAgain,
    Place::Threads,
    Place::OneGuest,
    Place::Guests,
];

/// Pixels: from the left to the axis, the axis, from its end to the right, and a line's height.
const LEFT: f64 = 120.0;
const AXIS: f64 = 520.0;
const RIGHT: f64 = 130.0;
const LINE: f64 = 24.0;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:860px;margin:2em auto;padding:0 1em;color:#1b2733;background:#fff}\
h1{font-size:1.6em}h2{font-size:1.2em;margin:2em 0 .3em;border-bottom:1px solid #cdd5dc}h3{font-size:1em;margin:1.2em 0 .1em}\
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:#1b2733}\
.grid{stroke:#dde3e8}.dot{opacity:.55}.bar{stroke-width:3}.whisker{opacity:.3}\
.p0{fill:#40566b;stroke:#40566b}.p1{fill:#8a9aa8;stroke:#8a9aa8}.p2{fill:#6a7fb0;stroke:#6a7fb0}\
.p3{fill:#b3722a;stroke:#b3722a}.p4{fill:#a8324a;stroke:#a8324a}\
p,li{margin:.3em 0}.small{color:#5a6a78;font-size:.9em}";

/// The whole page.
pub(super) fn page(findings: &Findings) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tombolo bench</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>tombolo bench</h1>\n<p>{}</p>\n<p class=\"small\">A dot is the median of one run, its whisker reaches to that \
         run's 99th percentile, a bar is the median of all runs of a place; the axis is logarithmic. Native is measured \
         twice in every round: a difference smaller than between these two is none.</p>\n",
        escaped(&findings.machine.describe()).replace('\n', "<br>")
    );
    for group in Group::ALL {
        let figures: Vec<&Figure> = findings
            .figures
            .iter()
            .filter(|figure| figure.group == group)
            .collect();
        if figures.is_empty() {
            continue;
        }
        page += &format!("<h2>{}</h2>\n", escaped(group.title()));
        for figure in figures {
            page += &format!("<h3>{}</h3>\n{}\n", escaped(&figure.name), plot(figure));
        }
        for (_, note) in findings.notes.iter().filter(|(of, _)| *of == group) {
            page += &format!("<p>{}</p>\n", escaped(note));
        }
    }
    page += "<h2>Not measured</h2>\n<ul>\n";
    for what in NOT_MEASURED {
        page += &format!("<li>{}</li>\n", escaped(what));
    }
    page + "</ul>\n</body></html>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A logarithmic axis, in picoseconds.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    /// One that shows all runs, and at least a factor of four.
    fn of(figure: &Figure) -> Axis {
        let runs = || figure.runs.values().flatten();
        let least = runs().map(|run| run.median).min().unwrap_or(1).max(1) as f64;
        let most = runs()
            .map(|run| run.p99.max(run.median))
            .max()
            .unwrap_or(1)
            .max(1) as f64;
        let widen = (4.0 / (most / least)).max(1.0).sqrt();
        Axis {
            from: least / widen / 1.1,
            to: most * widen * 1.1,
        }
    }

    fn x(&self, picoseconds: f64) -> f64 {
        LEFT + AXIS * (picoseconds.max(1.0) / self.from).ln() / (self.to / self.from).ln()
    }

    /// Round values in between: 1, 2 and 5 times powers of ten, or only the powers where these would be too many.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.to / self.from).log10();
        let steps: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = self.from.log10().floor() as i32;
        let all = (first..=self.to.log10().ceil() as i32)
            .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|tick| (self.from..=self.to).contains(tick)).collect()
    }
}

fn plot(figure: &Figure) -> String {
    let places: Vec<(usize, Place)> = PLACES
        .into_iter()
        .enumerate()
        .filter(|(_, place)| figure.runs.contains_key(place))
        .collect();
    let axis = Axis::of(figure);
    let bottom = LINE * places.len() as f64 + 6.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
        LEFT + AXIS + RIGHT,
        bottom + 20.0,
        escaped(&figure.name).replace('"', "")
    );
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"4\" y2=\"{bottom:.0}\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            label(figure.moves, tick)
        );
    }
    for (nth, &(colour, place)) in places.iter().enumerate() {
        let y = LINE * nth as f64 + LINE / 2.0 + 4.0;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            place.name()
        );
        for run in &figure.runs[&place] {
            let (x, end) = (axis.x(run.median as f64), axis.x(run.p99 as f64));
            let _ = write!(
                svg,
                "<line class=\"whisker p{colour}\" x1=\"{x:.1}\" x2=\"{end:.1}\" y1=\"{y:.0}\" y2=\"{y:.0}\"/>\
                 <circle class=\"dot p{colour}\" cx=\"{x:.1}\" cy=\"{y:.0}\" r=\"3.5\"/>"
            );
        }
        if let Some(median) = figure.median(place) {
            let x = axis.x(median);
            let _ = write!(
                svg,
                "<line class=\"bar p{colour}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\"/>\
                 <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                y - 9.0,
                y + 9.0,
                LEFT + AXIS + 8.0,
                y + 4.0,
                value(figure.moves, median)
            );
        }
    }
    svg + "</svg>"
}

/// A tick's value, short.
fn label(moves: Option<u64>, picoseconds: f64) -> String {
    match moves {
        Some(_) => value(moves, picoseconds).replace(" GiB/s", ""),
        None => value(None, picoseconds).replace(".00", "").replace(".0", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::findings;
    use super::*;

    #[test]
    fn the_page_has_a_plot_with_all_runs_and_escapes_text() {
        let page = page(&findings());
        assert_eq!(
            (page.matches("<svg").count(), page.matches("</svg>").count()),
            (1, 1)
        );
        assert_eq!(page.matches("<circle").count(), 12);
        assert!(page.contains("a &lt;note&gt;") && !page.contains("a <note>"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
        for outside in ["http:", "https:", "<script", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn ticks_are_round_and_on_the_axis() {
        let axis = Axis {
            from: 90_000.0,
            to: 1_200_000.0,
        };
        assert_eq!(axis.ticks(), [100_000.0, 200_000.0, 500_000.0, 1_000_000.0]);
        assert!(axis.x(90_000.0) == LEFT && (axis.x(1_200_000.0) - LEFT - AXIS).abs() < 1e-6);
    }
}
