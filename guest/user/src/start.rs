//! From `_start` to a program's `main`: the stack as the kernel left it holds the argument count, the arguments,
//! a null, the environment, a null (x86-64 System V ABI, figure 3.9).
// UNSAFETY: the program's entry, and reading the start of its stack.
#![expect(unsafe_code, reason = "the entry point and the initial stack")]

use core::ffi::{CStr, c_char};

/// A program's arguments and environment.
#[derive(Clone, Copy)]
pub struct Start {
    /// The initial stack pointer, or null for a program without arguments and environment.
    stack: *const u64,
}

/// Defines `_start`, which calls `$main: fn(Start) -> i32` and exits with its result.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn _start() -> ! {
            // The stack is 16-byte aligned here and the call pushes eight bytes, as the ABI wants it.
            core::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "call {run}", "ud2", run = sym run)
        }

        extern "C" fn run(stack: *const u64) -> ! {
            // SAFETY: `_start` passes the initial stack pointer.
            let start = unsafe { $crate::start::Start::from_stack(stack) };
            $crate::sys::exit($main(start))
        }
    };
}

impl Start {
    /// What lies on a new program's stack.
    ///
    /// # Safety
    /// `stack` is the initial stack pointer, and what lies there never changes.
    #[must_use]
    pub unsafe fn from_stack(stack: *const u64) -> Self {
        Start { stack }
    }

    fn arguments(&self) -> usize {
        // SAFETY: `from_stack`'s promise; the first word is the count.
        unsafe { self.stack.read() as usize }
    }

    /// The string at `index` among all the pointers after the count.
    fn string(&self, index: usize) -> Option<&'static [u8]> {
        // SAFETY: the callers stop at the null pointer that ends the arguments or the environment.
        let pointer = unsafe { self.stack.add(1 + index).read() } as *const c_char;
        // SAFETY: each pointer there leads to a string that ends with NUL and stays as long as the program.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
    }

    /// Argument `index`; 0 is the program's own name.
    #[must_use]
    pub fn argument(&self, index: usize) -> Option<&'static [u8]> {
        if index < self.arguments() {
            self.string(index)
        } else {
            None
        }
    }

    /// The value of an environment variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&'static [u8]> {
        let mut index = self.arguments() + 1;
        while let Some(entry) = self.string(index) {
            if let Some(value) = value_of(entry, name) {
                return Some(value);
            }
            index += 1;
        }
        None
    }

    /// An environment variable that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.variable(name).and_then(parse_number)
    }
}

fn value_of<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// A decimal number, or one with `0x` before it.
#[must_use]
pub fn parse_number(text: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(text).ok()?;
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::print::Line::format(format_args!("{info}")).write_to(2);
    crate::sys::exit(101)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn start(strings: &[&[&CStr]]) -> Vec<u64> {
        let mut stack = vec![strings[0].len() as u64];
        for list in strings {
            stack.extend(list.iter().map(|text| text.as_ptr() as u64));
            stack.push(0);
        }
        stack
    }

    #[test]
    fn arguments_and_variables_are_found_where_linux_puts_them() {
        let stack = start(&[
            &[c"demo", c"7"],
            &[c"TOMBOLO_GUESTS=3", c"TOMBOLO_GUEST=0x1", c"EMPTY="],
        ]);
        // SAFETY: built as the kernel builds it, above, and not changed below.
        let start = unsafe { Start::from_stack(stack.as_ptr()) };
        assert_eq!(start.argument(0), Some(&b"demo"[..]));
        assert_eq!(start.argument(1), Some(&b"7"[..]));
        assert_eq!(start.argument(2), None);
        assert_eq!(start.number("TOMBOLO_GUEST"), Some(1));
        assert_eq!(start.number("TOMBOLO_GUESTS"), Some(3));
        assert_eq!(start.variable("EMPTY"), Some(&b""[..]));
        assert_eq!(start.variable("EMPT"), None);
        assert_eq!(start.number("EMPTY"), None);
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_fit_32_bits() {
        assert_eq!(parse_number(b"2000"), Some(2000));
        assert_eq!(parse_number(b"0x544f4d42"), Some(0x544f_4d42));
        for bad in [&b""[..], b"-1", b"0x", b"4294967296", b"\xff", b"1 "] {
            assert_eq!(parse_number(bad), None, "{bad:?}");
        }
    }
}
