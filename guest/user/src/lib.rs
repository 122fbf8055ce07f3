//! What the small programs that ship inside the command are made of.
//!
//! They are built for `x86_64-unknown-none` and are nevertheless plain static Linux programs: `_start`, raw
//! `syscall`s, no library. The same file runs natively on Linux, which is how one checks that a guest treats
//! it as Linux does. On the host this crate is an ordinary library, so that its pure parts have unit tests.
//!
//! [`start`] is the way from `_start` to a program's `main` and to its arguments and environment; [`sys`] has the
//! system calls, [`thread`] threads, [`shared`] the accesses to an attached segment, [`clock`] time, [`print`] lines of
//! output. [`demo`] is the demo's program, [`litmus`] that of `tombolo litmus`, [`mod@bench`] that of `tombolo bench`; their
//! `main`s are in `src/bin/`.
#![cfg_attr(not(test), no_std)]

pub mod bench;
pub mod clock;
pub mod demo;
pub mod litmus;
pub mod print;
pub mod shared;
pub mod start;
pub mod sys;
pub mod thread;
