//! Builds the guest images (the kernel, the programs of `guest/user`, the vDSO) with cargo, checks them and embeds
//! them.
//!
//! The inner cargo shares nothing with the outer one that could deadlock or leak in (cargo#17053): its own target
//! and build directory under OUT_DIR, its own profile (`guest`), none of the outer build's `CARGO*` and `RUST*`
//! variables. The result is `OUT_DIR/images.rs`, which `src/image/builtin.rs` includes.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "x86_64-unknown-none";

/// What the images are made of; each path must exist, or cargo would run this script every time.
const INPUTS: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "guest/abi/Cargo.toml",
    "guest/abi/src",
    "guest/futex/Cargo.toml",
    "guest/futex/src",
    "guest/litmus/Cargo.toml",
    "guest/litmus/src",
    "guest/paging/Cargo.toml",
    "guest/paging/src",
    "guest/kernel/Cargo.toml",
    "guest/kernel/build.rs",
    "guest/kernel/kernel.ld",
    "guest/kernel/src",
    "guest/user/Cargo.toml",
    "guest/user/build.rs",
    "guest/user/src",
    "guest/vdso/Cargo.toml",
    "guest/vdso/build.rs",
    "guest/vdso/vdso.ld",
    "guest/vdso/src",
];

/// Packages whose images are linked at fixed addresses (a static-PIE would die at its first pointer table), with frame
/// pointers for the epitaph's backtrace. Where each is linked, its own build script says.
const FIXED: Group = Group {
    packages: &["kernel", "user"],
    flags: &["-Crelocation-model=static", "-Cforce-frame-pointers=yes"],
    loadable: fixed,
};
/// The vDSO runs wherever it is mapped.
const SHARED: Group = Group {
    packages: &["vdso"],
    flags: &["-Crelocation-model=pic"],
    loadable: shared,
};

/// Packages that are compiled alike.
struct Group {
    packages: &'static [&'static str],
    /// For code generation.
    flags: &'static [&'static str],
    /// Checks what was linked, and says how much of it is needed, in bytes.
    loadable: fn(&Elf) -> Result<usize, String>,
}

/// An image: its name and its bytes.
type Image = (String, Vec<u8>);

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let mut root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    root.pop();
    println!("cargo::rerun-if-changed=build.rs");
    for input in INPUTS {
        let path = root.join(input);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let built = require_target(&root)
        .and_then(|()| build_images(&root, &out, &FIXED))
        .and_then(|mut images| {
            images.extend(build_images(&root, &out, &SHARED)?);
            embed(&images, &out)
        });
    if let Err(why) = built {
        println!("cargo::error={}", why.replace('\n', " "));
        std::process::exit(1);
    }
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}

/// A command that sees the environment of the person who builds, not that of the outer cargo.
fn scrubbed(program: impl Into<OsString>, root: &Path) -> Command {
    // rustup's own (RUSTUP_TOOLCHAIN among them: without it, it would look for a toolchain file beside each
    // dependency and might install what it says), and how to reach a registry, or that it must not be tried.
    const KEPT: &[&str] = &[
        "CARGO_HOME",
        "RUSTUP_",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
    ];
    const OUTER: &[&str] = &[
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
        "MAKEFLAGS",
        "MFLAGS",
    ];
    let mut command = Command::new(program.into());
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let kept = KEPT.iter().any(|prefix| text.starts_with(prefix));
        if (text.starts_with("CARGO") || text.starts_with("RUST") || OUTER.contains(&text)) && !kept {
            command.env_remove(&name);
        }
    }
    command.current_dir(root);
    command
}

/// What the compiler answers to `--print`.
fn compiler_says(root: &Path, args: &[&str]) -> Option<PathBuf> {
    let output = scrubbed(variable("RUSTC"), root)
        .arg("--print")
        .args(args)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// Makes sure that the target's `core` is installed.
fn require_target(root: &Path) -> Result<(), String> {
    let present = || {
        let libraries = compiler_says(root, &["target-libdir", "--target", TARGET]);
        libraries.is_some_and(|dir| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()))
    };
    if present() {
        return Ok(());
    }
    let added = scrubbed("rustup", root)
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .status();
    if added.is_ok_and(|status| status.success()) && present() {
        return Ok(());
    }
    Err(format!(
        "the guest kernel is built for {TARGET}, which is not installed here: run `rustup target add {TARGET}`"
    ))
}

/// Builds every program of a group, and checks them.
fn build_images(root: &Path, out: &Path, group: &Group) -> Result<Vec<Image>, String> {
    let target_dir = out.join("guest");
    let mut cargo = scrubbed(variable("CARGO"), root);
    // The compiler itself rather than rustup's stand-in for it: one and the same for every dependency.
    if let Some(rustc) = compiler_says(root, &["sysroot"]).map(|root| root.join("bin/rustc"))
        && rustc.is_file()
    {
        cargo.env("RUSTC", rustc);
    }
    let output = cargo
        .args(["build", "--locked", "--bins", "--profile", "guest"])
        .args(group.packages.iter().flat_map(|package| ["-p", package]))
        .args([
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
            "--target-dir",
        ])
        .arg(&target_dir)
        .env("CARGO_BUILD_BUILD_DIR", out.join("guest-build"))
        .env("CARGO_ENCODED_RUSTFLAGS", group.flags.join("\x1f"))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo for the guest images: {error}"))?;
    if !output.status.success() {
        return Err("the guest images did not build: see the errors above".into());
    }
    // One JSON object a line; the only key needed is the path of what was linked.
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut images: Vec<PathBuf> = messages
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\"")?.1.split_once('"'))
        .map(|(path, _)| PathBuf::from(path))
        .filter(|path| path.starts_with(&target_dir))
        .collect();
    images.sort();
    let checked = images.into_iter().map(|image| {
        let name = image
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut elf = Elf(fs::read(&image).map_err(|error| format!("{name}: {error}"))?);
        let len = (group.loadable)(&elf).map_err(|why| format!("{}: {why}", image.display()))?;
        elf.0.truncate(len);
        Ok((name, elf.0))
    });
    checked.collect()
}

/// An ELF file, and numbers in it.
struct Elf(Vec<u8>);

impl Elf {
    fn field(&self, offset: u64, len: usize) -> Result<u64, String> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|at| self.0.get(at..at.checked_add(len)?));
        let mut value = [0; 8];
        value[..len].copy_from_slice(bytes.ok_or("truncated ELF file")?);
        Ok(u64::from_le_bytes(value))
    }
}

/// Checks that an image is linked at fixed addresses: ET_EXEC, nothing to relocate or to link dynamically. All of it is
/// needed: the kernel's symbols name the addresses in its epitaph.
fn fixed(elf: &Elf) -> Result<usize, String> {
    const ET_EXEC: u64 = 2;
    const SHT_RELA: u64 = 4;
    const SHT_DYNAMIC: u64 = 6;
    const SHT_REL: u64 = 9;
    if elf.field(0x10, 2)? != ET_EXEC {
        return Err("is not linked at a fixed address (ET_EXEC): the relocation model was lost".into());
    }
    let (sections, size, count) = (elf.field(0x28, 8)?, elf.field(0x3a, 2)?, elf.field(0x3c, 2)?);
    for index in 0..count {
        let kind = elf.field(sections + index * size + 4, 4)?;
        if [SHT_RELA, SHT_DYNAMIC, SHT_REL].contains(&kind) {
            return Err(format!(
                "section {index} has type {kind}: the image would need relocation"
            ));
        }
    }
    Ok(elf.0.len())
}

/// Checks that the start of an image can be mapped as it is: ET_DYN, and its first segment is the file's first bytes, in
/// whole pages, readable and executable. No more than that is needed. (The tests look closer.)
fn shared(elf: &Elf) -> Result<usize, String> {
    const ET_DYN: u64 = 3;
    const PT_LOAD: u64 = 1;
    const PF_RX: u64 = 5;
    const PAGE: u64 = 4096;
    let segment = elf.field(0x20, 8)?;
    let kind = [elf.field(segment, 4)?, elf.field(segment + 4, 4)?];
    let (offset, address) = (elf.field(segment + 8, 8)?, elf.field(segment + 16, 8)?);
    let (in_file, in_memory) = (elf.field(segment + 32, 8)?, elf.field(segment + 40, 8)?);
    let whole = (offset, address, in_file) == (0, 0, in_memory) && in_file % PAGE == 0;
    if elf.field(0x10, 2)? != ET_DYN || kind != [PT_LOAD, PF_RX] || !whole || elf.0.len() < in_file as usize {
        return Err("is not one segment of whole pages to be read and executed".into());
    }
    Ok(in_file as usize)
}

/// Writes the images to OUT_DIR, and the Rust source that includes them.
fn embed(images: &[Image], out: &Path) -> Result<(), String> {
    let (mut kernel, mut vdso) = (None, None);
    let mut programs = String::new();
    for (name, bytes) in images {
        let copy = out.join(format!("{name}.elf"));
        fs::write(&copy, bytes).map_err(|error| format!("{}: {error}", copy.display()))?;
        let include = format!("include_bytes!({:?})", copy.display().to_string());
        match name.as_str() {
            "kernel" => kernel = Some(include),
            "vdso" => vdso = Some(include),
            _ => {
                let _ = writeln!(programs, "    ({name:?}, {include}),");
            }
        }
    }
    let kernel = kernel.ok_or("cargo built no image named `kernel`")?;
    let vdso = vdso.ok_or("cargo built no image named `vdso`")?;
    let source = format!(
        "/// The guest kernel, an ELF file.\npub static KERNEL: &[u8] = {kernel};\n\
         /// The vDSO, an ELF file of whole pages, to be mapped as it is.\npub static VDSO: &[u8] = {vdso};\n\
         /// The programs of `guest/user` by name, ELF files.\npub static PROGRAMS: &[(&str, &[u8])] = &[\n{programs}];\n"
    );
    fs::write(out.join("images.rs"), source).map_err(|error| format!("images.rs: {error}"))
}
