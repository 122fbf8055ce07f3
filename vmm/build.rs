//! Builds the guest images (the kernel and the programs of `guest/user`) with cargo, checks them and embeds them.
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
    "guest/paging/Cargo.toml",
    "guest/paging/src",
    "guest/kernel/Cargo.toml",
    "guest/kernel/build.rs",
    "guest/kernel/kernel.ld",
    "guest/kernel/src",
    "guest/user/Cargo.toml",
    "guest/user/build.rs",
    "guest/user/src",
];

/// Code generation for all images: linked at fixed addresses (a static-PIE would die at its first pointer table),
/// frame pointers for the epitaph's backtrace. Where each is linked, its own build script says.
const FLAGS: &[&str] = &["-Crelocation-model=static", "-Cforce-frame-pointers=yes"];

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
        .and_then(|()| build_images(&root, &out))
        .and_then(|images| {
            for image in &images {
                check(image).map_err(|why| format!("{}: {why}", image.display()))?;
            }
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

/// Builds every program of the packages `kernel` and `user` and returns where they are.
fn build_images(root: &Path, out: &Path) -> Result<Vec<PathBuf>, String> {
    let target_dir = out.join("guest");
    let mut cargo = scrubbed(variable("CARGO"), root);
    // The compiler itself rather than rustup's stand-in for it: one and the same for every dependency.
    if let Some(rustc) = compiler_says(root, &["sysroot"]).map(|root| root.join("bin/rustc"))
        && rustc.is_file()
    {
        cargo.env("RUSTC", rustc);
    }
    let output = cargo
        .args([
            "build",
            "--locked",
            "-p",
            "kernel",
            "-p",
            "user",
            "--bins",
            "--profile",
            "guest",
        ])
        .args([
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
            "--target-dir",
        ])
        .arg(&target_dir)
        .env("CARGO_BUILD_BUILD_DIR", out.join("guest-build"))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
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
    Ok(images)
}

/// Checks that an image is linked at fixed addresses: ET_EXEC, nothing to relocate or to link dynamically.
fn check(image: &Path) -> Result<(), String> {
    const ET_EXEC: u64 = 2;
    const SHT_RELA: u64 = 4;
    const SHT_DYNAMIC: u64 = 6;
    const SHT_REL: u64 = 9;
    let bytes = fs::read(image).map_err(|error| error.to_string())?;
    let field = |offset: u64, len: usize| -> Result<u64, String> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|at| bytes.get(at..at.checked_add(len)?));
        let mut value = [0; 8];
        value[..len].copy_from_slice(bytes.ok_or("truncated ELF file")?);
        Ok(u64::from_le_bytes(value))
    };
    if field(0x10, 2)? != ET_EXEC {
        return Err("is not linked at a fixed address (ET_EXEC): the relocation model was lost".into());
    }
    let (sections, size, count) = (field(0x28, 8)?, field(0x3a, 2)?, field(0x3c, 2)?);
    for index in 0..count {
        let kind = field(sections + index * size + 4, 4)?;
        if [SHT_RELA, SHT_DYNAMIC, SHT_REL].contains(&kind) {
            return Err(format!(
                "section {index} has type {kind}: the image would need relocation"
            ));
        }
    }
    Ok(())
}

/// Copies the images to OUT_DIR and writes the Rust source that includes them.
fn embed(images: &[PathBuf], out: &Path) -> Result<(), String> {
    let mut kernel = None;
    let mut programs = String::new();
    for image in images {
        let name = image
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let copy = out.join(format!("{name}.elf"));
        fs::copy(image, &copy).map_err(|error| format!("{}: {error}", copy.display()))?;
        let include = format!("include_bytes!({:?})", copy.display().to_string());
        if name == "kernel" {
            kernel = Some(include);
        } else {
            let _ = writeln!(programs, "    ({name:?}, {include}),");
        }
    }
    let kernel = kernel.ok_or("cargo built no image named `kernel`")?;
    let source = format!(
        "/// The guest kernel, an ELF file.\npub static KERNEL: &[u8] = {kernel};\n\
         /// The programs of `guest/user` by name, ELF files.\npub static PROGRAMS: &[(&str, &[u8])] = &[\n{programs}];\n"
    );
    fs::write(out.join("images.rs"), source).map_err(|error| format!("images.rs: {error}"))
}
