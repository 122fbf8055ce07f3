//! Lines of output: formatted into a buffer on the stack and written with one `write` each, so that a line is
//! never torn.

use crate::sys;
use core::fmt::{self, Write};

/// Longest line, in bytes; what is beyond is cut off.
pub const MAX_LINE: usize = 512;

/// A line in the making.
pub struct Line {
    bytes: [u8; MAX_LINE],
    len: usize,
}

impl Line {
    /// The line that `arguments` make, its newline at the end.
    #[must_use]
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = Line {
            bytes: [0; MAX_LINE],
            len: 0,
        };
        // Cutting off is not an error here, and nothing that is printed fails by itself.
        let _ = line.write_fmt(arguments);
        line.bytes[line.len] = b'\n';
        line.len += 1;
        line
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes it to a descriptor; a descriptor that takes nothing more is not told again.
    pub fn write_to(&self, descriptor: i32) {
        let mut rest = self.bytes();
        while !rest.is_empty() {
            match sys::write(descriptor, rest) {
                Ok(taken) if taken > 0 => rest = &rest[taken.min(rest.len())..],
                _ => return,
            }
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte stays free for the newline.
        let take = text.len().min(MAX_LINE - 1 - self.len);
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// A line on stdout.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::print::Line::format(format_args!($($argument)*)).write_to(1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_one_newline() {
        assert_eq!(
            Line::format(format_args!("saw {} {}", 1, "x")).bytes(),
            b"saw 1 x\n"
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_still_ends() {
        let long = "y".repeat(2 * MAX_LINE);
        let line = Line::format(format_args!("{long}"));
        assert_eq!(line.bytes().len(), MAX_LINE);
        assert_eq!(line.bytes().last(), Some(&b'\n'));
    }
}
