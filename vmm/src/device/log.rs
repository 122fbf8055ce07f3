//! The guest kernel's log: its text goes to `tracing` under the target "guest", escaped and bounded.

use crate::epitaph::escape;
use abi::Errno;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Longest message; the rest is cut off.
const MOST_BYTES: usize = 2048;
/// Messages a guest may send at once.
const BURST: f64 = 2000.0;
/// Messages a second that it earns.
const RATE: f64 = 500.0;

/// One guest's log.
#[derive(Debug)]
pub struct GuestLog {
    guest: u32,
    allowance: Mutex<Allowance>,
}

#[derive(Debug)]
struct Allowance {
    messages: f64,
    at: Instant,
    dropped: u64,
}

impl GuestLog {
    /// The log of guest number `guest`.
    #[must_use]
    pub fn new(guest: u32) -> GuestLog {
        let allowance = Allowance {
            messages: BURST,
            at: Instant::now(),
            dropped: 0,
        };
        GuestLog {
            guest,
            allowance: Mutex::new(allowance),
        }
    }

    /// Takes a message of level 1 (error) to 5 (trace). What comes too fast is dropped and counted.
    ///
    /// # Errors
    /// EINVAL for another level, EAGAIN for a message that was dropped.
    pub fn take(&self, level: u32, text: &[u8]) -> Result<(), Errno> {
        if !(1..=5).contains(&level) {
            return Err(Errno::EINVAL);
        }
        let dropped = self.admit().ok_or(Errno::EAGAIN)?;
        let guest = self.guest;
        if dropped > 0 {
            tracing::warn!(target: "guest", guest, "{dropped} messages came too fast and were dropped");
        }
        let text = escape(&text[..text.len().min(MOST_BYTES)]);
        let text = text.trim_end();
        match level {
            1 => tracing::error!(target: "guest", guest, "{text}"),
            2 => tracing::warn!(target: "guest", guest, "{text}"),
            3 => tracing::info!(target: "guest", guest, "{text}"),
            4 => tracing::debug!(target: "guest", guest, "{text}"),
            _ => tracing::trace!(target: "guest", guest, "{text}"),
        }
        Ok(())
    }

    /// Whether one more message may pass; then how many were dropped before it.
    fn admit(&self) -> Option<u64> {
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(allowance.at).as_secs_f64() * RATE;
        allowance.at = now;
        allowance.messages = (allowance.messages + earned).min(BURST);
        if allowance.messages < 1.0 {
            allowance.dropped += 1;
            return None;
        }
        allowance.messages -= 1.0;
        Some(std::mem::take(&mut allowance.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_messages_is_cut_off() {
        let log = GuestLog::new(0);
        let taken = (0..10_000).filter(|_| log.take(5, b"again").is_ok()).count();
        assert!((2000..9000).contains(&taken), "{taken} messages passed");
        assert_eq!(log.take(0, b""), Err(Errno::EINVAL));
    }
}
