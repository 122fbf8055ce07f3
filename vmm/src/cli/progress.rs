//! A progress bar on stderr, if that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often it is drawn anew.
const EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: u64 = 24;

/// A bar that is wiped out when it is dropped.
pub(super) struct Progress {
    total: u64,
    began: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// A bar for so much work, in any unit.
    pub(super) fn new(total: u64) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Progress {
            total,
            began: Instant::now(),
            drawn: None,
            shown: std::io::stderr().is_terminal() && !dumb,
        }
    }

    /// `done` of the work is behind, and `what` is going on.
    pub(super) fn at(&mut self, done: u64, what: &str) {
        if !self.shown || self.drawn.is_some_and(|drawn| drawn.elapsed() < EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let text = draw(done.min(self.total), self.total, self.began.elapsed(), what);
        // A terminal that is gone needs no bar.
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K{text}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn draw(done: u64, total: u64, elapsed: Duration, what: &str) -> String {
    let share = done as f64 / total.max(1) as f64;
    let full = (share * WIDTH as f64) as usize;
    let bar = "#".repeat(full) + &"-".repeat(WIDTH as usize - full);
    let left = match share {
        // Too early to tell.
        ..0.02 => String::new(),
        share => {
            let seconds = elapsed.as_secs_f64() * (1.0 / share - 1.0);
            format!(", {}:{:02} left", seconds as u64 / 60, seconds as u64 % 60)
        }
    };
    format!("[{bar}] {:3.0} %{left}  {what}", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_far_and_how_long() {
        let minute = Duration::from_secs(60);
        assert_eq!(draw(0, 100, minute, "SB"), "[------------------------]   0 %  SB");
        assert_eq!(
            draw(50, 100, minute, "MP"),
            "[############------------]  50 %, 1:00 left  MP"
        );
        assert_eq!(
            draw(100, 100, minute, ""),
            "[########################] 100 %, 0:00 left  "
        );
        assert!(draw(0, 0, minute, "").starts_with("[---"));
    }
}
