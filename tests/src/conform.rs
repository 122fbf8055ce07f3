//! A program's transcript on Linux and in a guest, line by line.

use crate::{Run, Toolchain};
use std::time::Duration;

/// Runs `source` on the host and in a guest; the transcripts must agree line by line and have at least `least` lines.
///
/// # Panics
/// If not.
pub fn conforms(source: &str, least: usize) {
    for toolchain in [Toolchain::Musl, Toolchain::Glibc] {
        let run = Run::with(source, toolchain).timeout(Duration::from_secs(300));
        let native = run.natively().remove(&(0, 0)).expect("one copy");
        let linux = String::from_utf8_lossy(&native.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&native.stderr).into_owned();
        assert_eq!(native.status, Some(0), "{source} on Linux: {complaints}");
        let guest = run.go();
        let there = String::from_utf8_lossy(&guest.processes[&(0, 0)].stdout).into_owned();
        let complaints = guest.stderr(0, 0);
        let (expected, got): (Vec<_>, Vec<_>) = (linux.lines().collect(), there.lines().collect());
        assert!(expected.len() >= least, "{source}: {} cases", expected.len());
        for (number, line) in expected.iter().enumerate() {
            let theirs = got.get(number).copied().unwrap_or("(nothing)");
            let before = &expected[number.saturating_sub(5)..number];
            assert_eq!(
                theirs,
                *line,
                "{source}, {toolchain:?}: line {} in a guest (left) and on Linux (right), after {before:#?}\n{complaints}",
                number + 1
            );
        }
        assert_eq!(
            got.len(),
            expected.len(),
            "{source}: more lines in a guest: {:?}",
            &got[expected.len()..]
        );
        guest.expect_all(0);
    }
}
