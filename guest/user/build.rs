//! Places the programs at Linux's usual address when they are built for bare metal.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=--image-base=0x400000");
    }
}
