//! Builds the programs of `tests/programs` with the compilers people use.
//!
//! A built program is kept under the target directory by the hash of everything it depends on, so only the
//! first run of the tests compiles. It appears by a rename, so that two test executables that build the same one at
//! once don't disturb each other.

use crate::turn::beside_others;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

/// How to build a static program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Toolchain {
    /// `cc -static`: glibc, linked at a fixed address.
    Glibc,
    /// `cc -static-pie`: glibc, relocates itself.
    GlibcPie,
    /// `musl-gcc -static`.
    Musl,
    /// `rustc -C target-feature=+crt-static`: Rust's std on glibc, a static PIE.
    Rust,
}

impl Toolchain {
    /// Those for C.
    pub const C: [Toolchain; 3] = [Toolchain::Glibc, Toolchain::GlibcPie, Toolchain::Musl];

    fn compiler(self) -> String {
        match self {
            Toolchain::Glibc | Toolchain::GlibcPie => env::var("CC").unwrap_or_else(|_| "cc".into()),
            Toolchain::Musl => "musl-gcc".into(),
            Toolchain::Rust => "rustc".into(),
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Toolchain::Glibc | Toolchain::Musl => &["-O1", "-w", "-static"],
            Toolchain::GlibcPie => &["-O1", "-w", "-static-pie"],
            Toolchain::Rust => &[
                "--edition=2024",
                "-O",
                "-Ctarget-feature=+crt-static",
                "--target=x86_64-unknown-linux-gnu",
                "--crate-name=program",
            ],
        }
    }

    /// What to install where the compiler is missing.
    fn package(self) -> &'static str {
        match self {
            Toolchain::Glibc | Toolchain::GlibcPie => "gcc and libc6-dev",
            Toolchain::Musl => "musl-tools",
            Toolchain::Rust => "rustup's toolchain",
        }
    }
}

/// The executable built from `tests/programs/<source>`.
///
/// # Panics
/// If there is no such source, no such compiler, or the program does not compile.
#[must_use]
pub fn program(source: &str, toolchain: Toolchain) -> PathBuf {
    beside_others(1, "the compiler", || find_or_build(source, toolchain))
}

fn find_or_build(source: &str, toolchain: Toolchain) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let path = programs.join(source);
    let mut hash = DefaultHasher::new();
    (toolchain, toolchain.compiler(), toolchain.flags()).hash(&mut hash);
    let headers =
        ["common.h", "conf.h", "fs.h", "futex.h", "posix.h", "sync.h"].map(|header| programs.join(header));
    for input in std::iter::once(&path).chain(&headers) {
        fs::read(input)
            .unwrap_or_else(|error| panic!("{}: {error}", input.display()))
            .hash(&mut hash);
    }
    let stem = path
        .file_stem()
        .expect("a program has a name")
        .to_string_lossy()
        .into_owned();
    let kept = target_dir().join("tmp").join("programs");
    let built = kept.join(format!("{stem}-{toolchain:?}-{:016x}", hash.finish()).to_lowercase());
    if !built.exists() {
        build(toolchain, &path, &kept, &built);
    }
    built
}

/// The guest kernel built from `tests/kernels/hostile.c` with these macros defined.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn hostile_kernel(macros: &[(&str, String)]) -> Vec<u8> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let built = scratch.path().join("kernel");
    beside_others(1, "the compiler", || {
        let mut command = Command::new(Toolchain::Glibc.compiler());
        command.args([
            "-O1",
            "-w",
            "-ffreestanding",
            "-fno-pic",
            "-no-pie",
            "-static",
            "-nostdlib",
            "-mcmodel=kernel",
        ]);
        command.args([
            "-mno-red-zone",
            "-mgeneral-regs-only",
            "-fcf-protection=none",
            "-fno-stack-protector",
        ]);
        command.args([
            "-fno-asynchronous-unwind-tables",
            "-Wl,--build-id=none",
            "-z",
            "max-page-size=4096",
            "-T",
        ]);
        command
            .arg(kernels.join("kernel.ld"))
            .arg(kernels.join("hostile.c"))
            .arg("-o")
            .arg(&built);
        command.args(macros.iter().map(|(name, value)| format!("-D{name}={value}")));
        let output = command.output().expect("cc starts: install gcc and libc6-dev");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
    fs::read(&built).expect("a kernel that was just built")
}

fn build(toolchain: Toolchain, source: &Path, kept: &Path, built: &Path) {
    fs::create_dir_all(kept).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
    let unfinished = built.with_extension(std::process::id().to_string());
    let compiler = toolchain.compiler();
    let output = Command::new(&compiler)
        .args(toolchain.flags())
        .arg(source)
        .arg("-o")
        .arg(&unfinished)
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "{compiler}: {error}: the tests need {} to build their programs",
            toolchain.package()
        )
    });
    assert!(
        output.status.success(),
        "{compiler} can't build {}: {}\n(the tests need {})",
        source.display(),
        String::from_utf8_lossy(&output.stderr),
        toolchain.package()
    );
    fs::rename(&unfinished, built).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
}

/// Cargo's target directory: this executable is `<target>/<profile>/deps/<name>`.
pub(crate) fn target_dir() -> PathBuf {
    let mut path = env::current_exe().expect("an executable has a path");
    for _ in 0..3 {
        path.pop();
    }
    path
}
