//! The tests' threads as machine instructions: [`BODIES`] is the text of `litmus::all` expanded to code.
//!
//! Each instruction is an assembly block of its own with an unknown effect on memory, so the compiler neither reorders
//! nor merges nor drops any; between two it may only move registers.
// UNSAFETY: the instructions that are tested are assembly.
#![expect(unsafe_code, reason = "loads and stores that the compiler must not touch")]

use core::arch::asm;
use core::sync::atomic::AtomicU32;

/// The words of one round as a thread sees them.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a> {
    pub(super) x: &'a AtomicU32,
    pub(super) y: &'a AtomicU32,
    pub(super) z: &'a AtomicU32,
}

/// One thread of a test: plays one round and returns its registers.
pub(super) type Body = fn(Cell<'_>) -> [u32; 2];

#[inline(always)]
fn store(word: &AtomicU32, value: u32) {
    // SAFETY: writes to an aligned word that may be written at any time.
    unsafe {
        asm!("mov dword ptr [{}], {:e}", in(reg) word.as_ptr(), in(reg) value, options(nostack, preserves_flags))
    }
}

#[inline(always)]
fn load(word: &AtomicU32) -> u32 {
    let value;
    // SAFETY: reads an aligned word.
    unsafe {
        asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) word.as_ptr(), options(nostack, preserves_flags));
    }
    value
}

#[inline(always)]
fn fence() {
    // SAFETY: changes nothing.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) }
}

#[inline(always)]
fn exchange(word: &AtomicU32, mut value: u32) -> u32 {
    // SAFETY: as `store`. (xchg with memory is locked.)
    unsafe {
        asm!("xchg dword ptr [{}], {:e}", in(reg) word.as_ptr(), inout(reg) value, options(nostack, preserves_flags));
    }
    value
}

#[inline(always)]
fn add(word: &AtomicU32, mut value: u32) -> u32 {
    // SAFETY: as `store`.
    unsafe {
        asm!("lock xadd dword ptr [{}], {:e}", in(reg) word.as_ptr(), inout(reg) value, options(nostack))
    }
    value
}

#[inline(always)]
fn compare_exchange(word: &AtomicU32, old: u32, new: u32) -> u32 {
    let mut found = old;
    // SAFETY: as `store`.
    unsafe {
        asm!("lock cmpxchg dword ptr [{}], {:e}", in(reg) word.as_ptr(), in(reg) new, inout("eax") found, options(nostack));
    }
    found
}

macro_rules! word {
    ($cell:ident X) => {
        $cell.x
    };
    ($cell:ident Y) => {
        $cell.y
    };
    ($cell:ident Z) => {
        $cell.z
    };
}

macro_rules! step {
    ($cell:ident $registers:ident store $word:ident $value:literal) => {
        store(word!($cell $word), $value)
    };
    ($cell:ident $registers:ident load $word:ident $register:literal) => {
        $registers[$register] = load(word!($cell $word))
    };
    ($cell:ident $registers:ident fence) => {
        fence()
    };
    ($cell:ident $registers:ident xchg $word:ident $value:literal $register:literal) => {
        $registers[$register] = exchange(word!($cell $word), $value)
    };
    ($cell:ident $registers:ident xadd $word:ident $value:literal $register:literal) => {
        $registers[$register] = add(word!($cell $word), $value)
    };
    ($cell:ident $registers:ident cmpxchg $word:ident $old:literal $new:literal $register:literal) => {
        $registers[$register] = compare_exchange(word!($cell $word), $old, $new)
    };
}

macro_rules! bodies {
    ($($name:literal, $about:literal, $([$(($($op:tt)+))+])+ finals($($final:ident)*);)+) => {
        /// The threads of each of `litmus::TESTS`, in its order.
        pub(super) static BODIES: &[&[Body]] = &[$(&[$({
            #[expect(clippy::allow_attributes, reason = "only threads without a register don't need it")]
            fn body(cell: Cell<'_>) -> [u32; 2] {
                #[allow(unused_mut, reason = "threads without a register")]
                let mut registers = [0; 2];
                $(step!(cell registers $($op)+);)+
                registers
            }
            body
        }),+]),+];
    };
}

litmus::all!(bodies);

#[cfg(test)]
mod tests {
    use super::*;
    use litmus::{MAX_VALUES, TESTS, Values, model};

    /// One thread after the other is an order like any other, so the model must know its outcome, whichever goes first.
    #[test]
    fn the_code_does_what_the_data_says() {
        for (test, bodies) in TESTS.iter().zip(BODIES) {
            assert_eq!(test.threads.len(), bodies.len());
            for first in 0..bodies.len() {
                let words: [AtomicU32; 3] = Default::default();
                let cell = Cell {
                    x: &words[0],
                    y: &words[1],
                    z: &words[2],
                };
                let mut registers = [[0; 2]; 4];
                for turn in 0..bodies.len() {
                    let thread = (first + turn) % bodies.len();
                    registers[thread] = bodies[thread](cell);
                }
                let read = (0..bodies.len())
                    .flat_map(|thread| registers[thread].into_iter().take(test.registers(thread)));
                let finals = test
                    .finals
                    .iter()
                    .map(|&word| words[word as usize].load(core::sync::atomic::Ordering::Relaxed));
                let mut values: Values = [0; MAX_VALUES];
                values
                    .iter_mut()
                    .zip(read.chain(finals))
                    .for_each(|(place, value)| *place = value);
                assert_eq!(
                    model::verdict(test, &values),
                    model::Verdict::Ordinary,
                    "{} {values:?}",
                    test.name
                );
            }
        }
    }
}
