//! The program that `tombolo bench` runs; see `user::bench`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
user::entry!(user::bench::main);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none; the result runs on Linux too");
}
