//! The x86-TSO abstract machine: every thread has a first-in first-out store buffer; a load takes the newest store to its
//! word from its own buffer, else memory; buffered stores reach memory one by one at any time; a fence waits until the
//! thread's buffer is empty, and so does a locked instruction, which then acts on memory in one step.
//!
//! (Sewell et al., x86-TSO, CACM 53(7), section 3. Its global lock needs no modelling where every locked instruction is
//! one step.) [`explore`] walks through all orders. The tests are so small that it need not remember where it has been.

use crate::{MAX_REGISTERS, MAX_THREADS, Op, Test, VALUES, Values, WORDS, Word};

/// What a memory model says of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order of the instructions themselves explains it (sequential consistency).
    Ordinary,
    /// Only store buffers explain it.
    Relaxed,
    /// x86-TSO does not allow it.
    Forbidden,
}

/// How stores reach memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// At once: sequential consistency.
    Sequential,
    /// By way of a buffer: x86-TSO.
    Buffered,
}

/// Most stores of one thread that can wait at one time.
const BUFFER: usize = 4;

#[derive(Clone, Copy, Default)]
struct Thread {
    next: usize,
    registers: [u32; MAX_REGISTERS],
    buffer: [Option<(Word, u32)>; BUFFER],
    buffered: usize,
}

#[derive(Clone, Copy)]
struct Machine {
    words: [u32; WORDS],
    threads: [Thread; MAX_THREADS],
}

/// What x86-TSO says of an outcome of `test`.
#[must_use]
pub fn verdict(test: &Test, outcome: &Values) -> Verdict {
    let shows = |memory| {
        let mut found = false;
        explore(test, memory, &mut |values| found |= values == outcome);
        found
    };
    if shows(Memory::Sequential) {
        Verdict::Ordinary
    } else if shows(Memory::Buffered) {
        Verdict::Relaxed
    } else {
        Verdict::Forbidden
    }
}

/// Whether every value of an outcome is one that was stored to that word, or 0 where a load may have come first. What is
/// not even that is memory gone wrong rather than out of order.
#[must_use]
pub fn conceivable(test: &Test, outcome: &Values) -> bool {
    let reads = test.threads.iter().flat_map(|ops| {
        (0..MAX_REGISTERS).filter_map(|register| {
            let op = ops.iter().find(|op| op.register() == Some(register))?;
            word(*op).map(|word| (word, true))
        })
    });
    let finals = test.finals.iter().map(|&word| (word, false));
    let mut values = outcome.iter();
    let named = reads.chain(finals).all(|(word, before)| {
        let value = *values.next().unwrap_or(&VALUES);
        stored(test, word, value) || (before && value == 0)
    });
    named && values.all(|&rest| rest == 0)
}

fn word(op: Op) -> Option<Word> {
    match op {
        Op::Fence => None,
        Op::Store(word, _)
        | Op::Load(word, _)
        | Op::Exchange(word, ..)
        | Op::Add(word, ..)
        | Op::CompareExchange(word, ..) => Some(word),
    }
}

fn stored(test: &Test, at: Word, value: u32) -> bool {
    let mut added = 0;
    let mut ops = test.threads.iter().copied().flatten();
    ops.any(|&op| match op {
        Op::Store(word, new) | Op::Exchange(word, new, _) | Op::CompareExchange(word, _, new, _) => {
            word == at && new == value
        }
        Op::Add(word, more, _) => {
            added += more * u32::from(word == at);
            word == at && added == value
        }
        Op::Load(..) | Op::Fence => false,
    })
}

/// Calls `found` with the outcome of every order; most come more than once.
fn explore(test: &Test, memory: Memory, found: &mut dyn FnMut(&Values)) {
    let start = Machine {
        words: [0; WORDS],
        threads: [Thread::default(); MAX_THREADS],
    };
    start.explore(test, memory, found);
}

impl Machine {
    fn explore(&self, test: &Test, memory: Memory, found: &mut dyn FnMut(&Values)) {
        let mut moved = false;
        for thread in 0..test.threads.len() {
            if let Some(next) = self.drained(thread) {
                moved = true;
                next.explore(test, memory, found);
            }
            if let Some(&op) = test.threads[thread].get(self.threads[thread].next)
                && let Some(next) = self.executed(thread, op, memory)
            {
                moved = true;
                next.explore(test, memory, found);
            }
        }
        if !moved {
            found(&self.outcome(test));
        }
    }

    /// After the oldest store of a thread's buffer has reached memory.
    fn drained(&self, thread: usize) -> Option<Machine> {
        let mut next = *self;
        let buffer = &mut next.threads[thread];
        let (word, value) = buffer.buffer[0].filter(|_| buffer.buffered > 0)?;
        buffer.buffer.rotate_left(1);
        buffer.buffered -= 1;
        next.words[word as usize] = value;
        Some(next)
    }

    /// After a thread's next instruction; `None` while it has to wait.
    fn executed(&self, thread: usize, op: Op, memory: Memory) -> Option<Machine> {
        let mut next = *self;
        let Machine { words, threads } = &mut next;
        let this = &mut threads[thread];
        this.next += 1;
        let empty = this.buffered == 0;
        match op {
            Op::Store(word, value) if memory == Memory::Sequential => words[word as usize] = value,
            Op::Store(word, value) => {
                *this.buffer.get_mut(this.buffered)? = Some((word, value));
                this.buffered += 1;
            }
            Op::Load(word, register) => {
                let own = this.buffer[..this.buffered].iter().rev().flatten();
                let newest = own.clone().find(|(stored, _)| *stored == word);
                this.registers[register] = newest.map_or(words[word as usize], |&(_, value)| value);
            }
            Op::Fence => return empty.then_some(next),
            Op::Exchange(word, value, register) => {
                this.registers[register] = core::mem::replace(&mut words[word as usize], value);
                return empty.then_some(next);
            }
            Op::Add(word, value, register) => {
                this.registers[register] = words[word as usize];
                words[word as usize] += value;
                return empty.then_some(next);
            }
            Op::CompareExchange(word, old, new, register) => {
                this.registers[register] = words[word as usize];
                if words[word as usize] == old {
                    words[word as usize] = new;
                }
                return empty.then_some(next);
            }
        }
        Some(next)
    }

    fn outcome(&self, test: &Test) -> Values {
        let mut values = Values::default();
        let registers = self
            .threads
            .iter()
            .enumerate()
            .flat_map(|(thread, state)| state.registers.iter().copied().take(test.registers(thread)));
        let finals = test.finals.iter().map(|&word| self.words[word as usize]);
        for (place, value) in values.iter_mut().zip(registers.chain(finals)) {
            *place = value;
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CODES, TESTS, decode};

    fn says(name: &str, values: &[u32]) -> Verdict {
        let test = &TESTS[Test::named(name.as_bytes()).unwrap()];
        assert_eq!(test.values(), values.len(), "{name}");
        let mut outcome = Values::default();
        outcome[..values.len()].copy_from_slice(values);
        verdict(test, &outcome)
    }

    /// What the x86-TSO paper, the manuals and the herd tools say of the outcome each test is about.
    #[test]
    fn the_model_agrees_with_the_literature() {
        use Verdict::{Forbidden, Relaxed};
        for (name, values, expected) in [
            ("SB", &[0, 0][..], Relaxed),
            ("SB+mfences", &[0, 0], Forbidden),
            ("SB+mfence+po", &[0, 0], Relaxed),
            ("SB+xchgs", &[0, 0, 0, 0], Forbidden),
            ("SB+xadds", &[0, 0, 1, 0], Forbidden),
            ("SB+xadds", &[1, 0, 0, 0], Forbidden),
            ("MP", &[1, 0], Forbidden),
            ("MP+xchg", &[0, 1, 0], Forbidden),
            ("LB", &[1, 1], Forbidden),
            ("S", &[1, 2], Forbidden),
            ("R", &[0, 2], Relaxed),
            ("2+2W", &[1, 1], Forbidden),
            ("CoRR", &[1, 0], Forbidden),
            ("CoWW", &[2, 1, 2], Forbidden),
            ("CoWW", &[0, 0, 1], Forbidden),
            ("n5", &[2, 1], Forbidden),
            ("n6", &[1, 0, 1], Relaxed),
            ("iwp2.4.a", &[1, 0, 1, 0], Relaxed),
            ("XADD", &[0, 0, 2], Forbidden),
            ("XADD", &[0, 0, 1], Forbidden),
            ("CMPXCHG", &[0, 0, 1], Forbidden),
            ("CMPXCHG", &[0, 0, 2], Forbidden),
            ("WRC", &[1, 1, 0], Forbidden),
            ("IRIW", &[1, 0, 1, 0], Forbidden),
        ] {
            assert_eq!(says(name, values), expected, "{name} {values:?}");
        }
    }

    #[test]
    fn each_test_can_end_in_an_ordinary_way_and_only_named_ones_show_buffers() {
        let relaxed = ["SB", "SB+mfence+po", "R", "n6", "iwp2.4.a"];
        for test in TESTS {
            let all = || {
                (0..CODES)
                    .map(decode)
                    .filter(|outcome| conceivable(test, outcome))
            };
            let count = |wanted| all().filter(|outcome| verdict(test, outcome) == wanted).count();
            assert!(count(Verdict::Ordinary) > 0, "{}", test.name);
            assert_eq!(
                count(Verdict::Relaxed) > 0,
                relaxed.contains(&test.name),
                "{}",
                test.name
            );
            assert!(
                count(Verdict::Forbidden) > 0 || relaxed.contains(&test.name),
                "{}",
                test.name
            );
        }
    }

    #[test]
    fn whatever_the_machine_shows_is_conceivable() {
        for test in TESTS {
            explore(test, Memory::Buffered, &mut |values| {
                assert!(conceivable(test, values), "{} {values:?}", test.name);
            });
        }
    }
}
