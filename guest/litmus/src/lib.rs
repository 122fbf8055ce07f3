//! The classic litmus tests of x86, and what the x86-TSO memory model allows them to show.
//!
//! A [`Test`] is a handful of threads with a few instructions each on the words X, Y and Z, which are 0 before. Its
//! *outcome* is every register that was loaded, thread by thread, and then the final values it asks for. [`TESTS`] are
//! all of them; the text they are written in ([`all`], in `catalogue.rs`) is expanded twice, here to data and in
//! `guest/user` to machine instructions, so that what is run and what is reasoned about can't differ.
//!
//! [`model`] is the abstract machine of the x86-TSO paper: it tries every order there is. Nothing here says which
//! outcomes are allowed; the model finds out, and its tests compare that with what the literature says of each test.
#![no_std]
#![forbid(unsafe_code)]

mod catalogue;
pub mod model;

pub use catalogue::TESTS;

/// Most threads of a test.
pub const MAX_THREADS: usize = 4;
/// Most registers of a thread.
pub const MAX_REGISTERS: usize = 2;
/// Most values an outcome has.
pub const MAX_VALUES: usize = 6;
/// Every word and register is below this, so that an outcome fits a small number ([`encode`]).
pub const VALUES: u32 = 4;
/// How many numbers [`encode`] may return.
pub const CODES: usize = (VALUES as usize).pow(MAX_VALUES as u32);

/// A word that the threads of a test share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they have no other meaning than their names")]
pub enum Word {
    X,
    Y,
    Z,
}

/// How many [`Word`]s there are.
pub const WORDS: usize = 3;

/// An instruction. Registers are numbered within their thread; each is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `mov [word], value`
    Store(Word, u32),
    /// `mov register, [word]`
    Load(Word, usize),
    /// `mfence`
    Fence,
    /// `xchg [word], value`; what was there goes to the register.
    Exchange(Word, u32, usize),
    /// `lock xadd [word], value`; what was there goes to the register.
    Add(Word, u32, usize),
    /// `lock cmpxchg [word], new` if there is `old`; what was there goes to the register.
    CompareExchange(Word, u32, u32, usize),
}

impl Op {
    /// The register it writes.
    #[must_use]
    pub fn register(self) -> Option<usize> {
        match self {
            Op::Store(..) | Op::Fence => None,
            Op::Load(_, register)
            | Op::Exchange(_, _, register)
            | Op::Add(_, _, register)
            | Op::CompareExchange(_, _, _, register) => Some(register),
        }
    }

    /// Whether it may write to memory.
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Op::Load(..) | Op::Fence)
    }
}

/// A litmus test.
#[derive(Debug, PartialEq, Eq)]
pub struct Test {
    /// Its name in the literature.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub about: &'static str,
    /// The threads' instructions.
    pub threads: &'static [&'static [Op]],
    /// Words whose final values belong to the outcome.
    pub finals: &'static [Word],
}

/// An outcome's values: registers, thread by thread, then finals. Those behind the last are 0.
pub type Values = [u32; MAX_VALUES];

impl Test {
    /// The test of that name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<usize> {
        TESTS.iter().position(|test| test.name.as_bytes() == name)
    }

    /// How many registers a thread has.
    #[must_use]
    pub fn registers(&self, thread: usize) -> usize {
        let ops = self.threads.get(thread).copied().unwrap_or_default();
        ops.iter().filter(|op| op.register().is_some()).count()
    }

    /// How many values its outcome has.
    #[must_use]
    pub fn values(&self) -> usize {
        let registers: usize = (0..self.threads.len()).map(|thread| self.registers(thread)).sum();
        registers + self.finals.len()
    }

    /// Whether a thread only reads.
    #[must_use]
    pub fn observes(&self, thread: usize) -> bool {
        self.threads[thread].iter().all(|op| !op.writes())
    }
}

/// An outcome as a number below [`CODES`]; `None` if a value is none that a test could show.
#[must_use]
pub fn encode(values: &Values) -> Option<usize> {
    values.iter().rev().try_fold(0, |code, &value| {
        (value < VALUES).then(|| code * VALUES as usize + value as usize)
    })
}

/// The outcome that [`encode`] made a number of.
#[must_use]
pub fn decode(mut code: usize) -> Values {
    let mut values = Values::default();
    for value in &mut values {
        *value = (code % VALUES as usize) as u32;
        code /= VALUES as usize;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_outcome_are_one_to_one() {
        for code in 0..CODES {
            assert_eq!(encode(&decode(code)), Some(code));
        }
        assert_eq!(encode(&[0, 0, VALUES, 0, 0, 0]), None);
    }

    #[test]
    fn tests_keep_to_the_limits_and_write_each_register_once() {
        for test in TESTS {
            assert!(
                test.threads.len() <= MAX_THREADS && test.values() <= MAX_VALUES,
                "{}",
                test.name
            );
            for (thread, ops) in test.threads.iter().enumerate() {
                let registers = test.registers(thread);
                assert!(registers <= MAX_REGISTERS);
                for register in 0..registers {
                    assert_eq!(
                        ops.iter().filter(|op| op.register() == Some(register)).count(),
                        1,
                        "{}",
                        test.name
                    );
                }
            }
            assert_eq!(TESTS.iter().filter(|other| other.name == test.name).count(), 1);
        }
        assert_eq!(Test::named(b"SB"), Some(0));
        assert_eq!(Test::named(b"sb"), None);
    }
}
