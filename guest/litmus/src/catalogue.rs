//! The tests, written once. The names are those of the x86-TSO paper (Sewell, Sarkar, Owens, Zappa Nardelli, Myreen:
//! x86-TSO, CACM 53(7), 2010), of Intel's and AMD's manuals, and of the herd tools.

use crate::{Op, Test, Word};

/// Passes all tests to the macro `$with`. A test is: name, what it is about, each thread's instructions in brackets, the
/// words whose final values count. An instruction is `(store WORD value)`, `(load WORD register)`, `(fence)`, `(xchg
/// WORD value register)`, `(xadd WORD value register)` or `(cmpxchg WORD old new register)`.
#[macro_export]
macro_rules! all {
    ($with:ident) => {
        $with! {
            "SB", "stores wait in buffers while loads pass them: the one thing x86 lets be seen",
                [(store X 1) (load Y 0)]
                [(store Y 1) (load X 0)]
                finals();
            "SB+mfences", "a fence empties the buffer",
                [(store X 1) (fence) (load Y 0)]
                [(store Y 1) (fence) (load X 0)]
                finals();
            "SB+mfence+po", "one fence is not enough",
                [(store X 1) (fence) (load Y 0)]
                [(store Y 1) (load X 0)]
                finals();
            "SB+xchgs", "an exchange is a store with a fence",
                [(xchg X 1 0) (load Y 1)]
                [(xchg Y 1 0) (load X 1)]
                finals();
            "SB+xadds", "a locked addition to another word is a fence too",
                [(store X 1) (xadd Z 1 0) (load Y 1)]
                [(store Y 1) (xadd Z 1 0) (load X 1)]
                finals();
            "MP", "message passing: who sees the flag sees the data",
                [(store X 1) (store Y 1)]
                [(load Y 0) (load X 1)]
                finals();
            "MP+xchg", "message passing by an exchange",
                [(store X 1) (xchg Y 1 0)]
                [(load Y 0) (load X 1)]
                finals();
            "LB", "a load is not delayed beyond a later store",
                [(load X 0) (store Y 1)]
                [(load Y 0) (store X 1)]
                finals();
            "S", "a store is not seen before an earlier one, nor made before an earlier load",
                [(store X 2) (store Y 1)]
                [(load Y 0) (store X 1)]
                finals(X);
            "R", "a store and a later load against two stores: a buffer shows",
                [(store X 1) (store Y 1)]
                [(store Y 2) (load X 0)]
                finals(Y);
            "2+2W", "two stores each, in opposite order",
                [(store X 1) (store Y 2)]
                [(store Y 1) (store X 2)]
                finals(X Y);
            "CoRR", "a word does not go back",
                [(store X 1)]
                [(load X 0) (load X 1)]
                finals();
            "CoWW", "two stores of one thread to a word stay in order",
                [(store X 1) (store X 2)]
                [(load X 0) (load X 1)]
                finals(X);
            "n5", "each sees its own store first; they can't both come last",
                [(store X 1) (load X 0)]
                [(store X 2) (load X 0)]
                finals();
            "n6", "one's own store is read from the buffer before others see it",
                [(store X 1) (load X 0) (load Y 1)]
                [(store Y 2) (store X 2)]
                finals(X);
            "iwp2.4.a", "store forwarding: each sees its own store and not yet the other's",
                [(store X 1) (load X 0) (load Y 1)]
                [(store Y 1) (load Y 0) (load X 1)]
                finals();
            "XADD", "locked additions: none is lost",
                [(xadd X 1 0)]
                [(xadd X 1 0)]
                finals(X);
            "CMPXCHG", "locked compare-and-exchange: one wins",
                [(cmpxchg X 0 1 0)]
                [(cmpxchg X 0 2 0)]
                finals(X);
            "WRC", "write to read causality: what one has seen and passes on",
                [(store X 1)]
                [(load X 0) (store Y 1)]
                [(load Y 0) (load X 1)]
                finals();
            "IRIW", "independent reads of independent writes: all agree on an order",
                [(store X 1)]
                [(store Y 1)]
                [(load X 0) (load Y 1)]
                [(load Y 0) (load X 1)]
                finals();
        }
    };
}

macro_rules! op {
    (store $word:ident $value:literal) => {
        Op::Store(Word::$word, $value)
    };
    (load $word:ident $register:literal) => {
        Op::Load(Word::$word, $register)
    };
    (fence) => {
        Op::Fence
    };
    (xchg $word:ident $value:literal $register:literal) => {
        Op::Exchange(Word::$word, $value, $register)
    };
    (xadd $word:ident $value:literal $register:literal) => {
        Op::Add(Word::$word, $value, $register)
    };
    (cmpxchg $word:ident $old:literal $new:literal $register:literal) => {
        Op::CompareExchange(Word::$word, $old, $new, $register)
    };
}

macro_rules! describe {
    ($($name:literal, $about:literal, $([$(($($op:tt)+))+])+ finals($($final:ident)*);)+) => {
        /// All tests.
        pub const TESTS: &[Test] = &[$(Test {
            name: $name,
            about: $about,
            threads: &[$(&[$(op!($($op)+)),+]),+],
            finals: &[$(Word::$final),*],
        }),+];
    };
}

all!(describe);
