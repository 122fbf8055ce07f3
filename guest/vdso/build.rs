//! Has the linker make a shared object of the vDSO when it is built for bare metal.

fn main() {
    println!("cargo::rerun-if-changed=vdso.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = format!("-T{dir}/vdso.ld");
    for arg in [
        // To rustc this is a program; what it says (-pie) is taken back.
        "-no-pie",
        "-shared",
        "-soname=linux-vdso.so.1",
        "-Bsymbolic",
        // glibc looks symbols up by the GNU table, older musl by the other.
        "-hash-style=both",
        // Nothing the image would need changed or filled in, and nothing behind what is mapped.
        "-ztext",
        "-zdefs",
        "-zrodynamic",
        "-znosectionheader",
        script.as_str(),
    ] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
