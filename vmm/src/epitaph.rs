//! Reading what a dead kernel left behind, and making text from a guest fit to be shown.

use crate::hypercall::Service;
use crate::image::KernelImage;
use abi::epitaph::{Epitaph, REGISTER_NAMES};
use std::fmt::Write as _;

/// The message on one line, and the whole epitaph: message, registers, backtrace with the names of functions.
#[must_use]
pub(crate) fn read(service: &Service, vcpu: u32) -> (String, String) {
    match service.ram().read_value::<Epitaph>(service.area(vcpu).epitaph()) {
        Ok(epitaph) => describe(&epitaph, service.kernel(), vcpu),
        Err(_) => ("no epitaph".into(), String::new()),
    }
}

/// Everything in `epitaph` may be garbage: it comes from a kernel that is broken.
fn describe(epitaph: &Epitaph, kernel: &KernelImage, vcpu: u32) -> (String, String) {
    let message_len = (epitaph.message_len as usize).min(epitaph.message.len());
    let message = escape(&epitaph.message[..message_len]);
    let mut text = format!("vCPU {vcpu}: {}\n", message.replace('\n', "\n    "));
    if epitaph.pid != 0 {
        let _ = writeln!(text, "while it ran process {}", epitaph.pid);
    }
    if epitaph.has_registers == 1 {
        for (names, values) in REGISTER_NAMES.chunks(4).zip(epitaph.registers.chunks(4)) {
            for (name, value) in names.iter().zip(values) {
                let _ = write!(text, "  {name:>6} {value:016x}");
            }
            text.push('\n');
        }
    }
    let backtrace_len = (epitaph.backtrace_len as usize).min(epitaph.backtrace.len());
    for (depth, address) in epitaph.backtrace[..backtrace_len].iter().enumerate() {
        // A return address points behind its call, which may be the last instruction of its function.
        let (name, offset) = kernel
            .symbol(address.wrapping_sub(1))
            .unwrap_or_else(|| ("?".into(), 0));
        let _ = writeln!(text, "  {depth:>2}: {address:#018x} {name}+{offset:#x}");
    }
    (message.replace('\n', " "), text)
}

/// Text from a guest's kernel, so that it can't steer a terminal: everything but printable characters and line
/// feeds is written as an escape.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '"' | '\'' | '\\' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_send_control_sequences_to_the_terminal() {
        assert_eq!(
            escape(b"\x1b[2Jbell\x07 \"ok\" it's\n\xff"),
            "\\u{1b}[2Jbell\\u{7} \"ok\" it's\n\u{fffd}"
        );
        assert_eq!(
            escape("right-to-left \u{202e}".as_bytes()),
            "right-to-left \\u{202e}"
        );
    }
}
