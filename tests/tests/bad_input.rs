//! Whatever one gives the library or the command: a clear error, and nothing left behind.

use abi::boot::{HEADER_MAGIC, KernelHeader};
use abi::{MAX_GUESTS, MAX_TASKS, MAX_VCPUS};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tests::{Command, Run, Toolchain, alone, program};
use tombolo::config::MIN_MEMORY;
use tombolo::error::VmmError;
use tombolo::image::{KERNEL, Program};

// Offsets in an ELF file's header and in a program header (elf(5)).
const E_TYPE: usize = 16;
const E_MACHINE: usize = 18;
const E_ENTRY: usize = 24;
const E_PHOFF: usize = 32;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;
const HEADERS: usize = 64;
const P_OFFSET: usize = 8;
const P_VADDR: usize = 16;
const P_FILESZ: usize = 32;
const P_MEMSZ: usize = 40;

fn hello() -> Vec<u8> {
    fs::read(program("hello.c", Toolchain::Musl)).expect("a program that was just built")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The message about a file that must be refused; it names the file.
fn refused(bytes: &[u8]) -> String {
    match Program::from_bytes("/the/file", bytes) {
        Ok(_) => panic!("it was taken"),
        Err(error) => {
            assert_eq!(error.exit_status(), 126);
            let text = error.to_string();
            assert!(text.starts_with("/the/file: "), "{text}");
            assert!(!text.contains('\n'), "{text}");
            text
        }
    }
}

/// Offsets of hello's PT_LOAD headers.
fn loads(bytes: &[u8]) -> Vec<usize> {
    let count = u16::from_le_bytes([bytes[E_PHNUM], bytes[E_PHNUM + 1]]) as usize;
    (0..count)
        .map(|i| HEADERS + i * 56)
        .filter(|&at| bytes[at] == 1)
        .collect()
}

#[test]
fn files_that_are_no_programs_are_refused() {
    assert!(refused(b"").contains("ELF") || refused(b"").contains("empty"));
    assert!(refused(b"\x7fELF").contains("ELF"));
    assert!(refused(b"hello\n").contains("ELF"));
    assert!(refused(b"#!/bin/sh\necho\n").contains("script"));
    assert!(refused(&[0; 10_000]).contains("ELF"));
    let bytes = hello();
    for (at, value) in [
        (4, 1),
        (5, 2),
        (6, 0),
        (E_MACHINE, 3),
        (E_MACHINE, 0xb7),
        (E_TYPE, 1),
        (E_TYPE, 4),
        (E_TYPE, 9),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        let _ = refused(&bytes);
    }
}

#[test]
fn a_dynamically_linked_program_is_refused_with_the_way_to_link_it() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let path = scratch.path().join("dynamic");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/hello.c");
    let status = alone(|| {
        std::process::Command::new("cc")
            .arg("-o")
            .arg(&path)
            .arg(source)
            .status()
    });
    assert!(status.expect("cc: install gcc").success());
    let text = match Program::load(&path) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    assert!(
        text.contains("dynamically linked") && text.contains("-static"),
        "{text}"
    );
}

#[test]
fn a_program_cut_off_anywhere_in_what_is_loaded_is_refused() {
    let bytes = hello();
    let end = loads(&bytes)
        .iter()
        .map(|&at| field(&bytes, at + P_OFFSET) + field(&bytes, at + P_FILESZ))
        .max();
    let end = end.expect("hello has segments") as usize;
    for len in (0..64).chain((64..end).step_by(97)).chain(end - 3..end) {
        let _ = refused(&bytes[..len]);
    }
    // Sections are nobody's business here.
    assert!(Program::from_bytes("/the/file", &bytes[..end]).is_ok());
}

fn field(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn hostile_headers_are_refused() {
    let bytes = hello();
    let load = loads(&bytes)[0];
    let second = loads(&bytes)[1];
    let hostile: &[(&str, usize, u64)] = &[
        ("headers beyond the file", E_PHOFF, 1 << 40),
        ("headers that wrap", E_PHOFF, u64::MAX - 10),
        ("an entry outside", E_ENTRY, 0x10_0000_0000),
        ("an entry in the kernel", E_ENTRY, 0xffff_ffff_8020_0000),
        ("a segment beyond the file", load + P_OFFSET, 1 << 40),
        ("an offset that wraps", load + P_OFFSET, u64::MAX - 0xfff),
        ("a file size beyond the file", load + P_FILESZ, 1 << 40),
        ("a file size that wraps", load + P_FILESZ, u64::MAX),
        ("less memory than file", load + P_MEMSZ, 1),
        ("memory that wraps", load + P_MEMSZ, u64::MAX),
        ("a huge segment", load + P_MEMSZ, 1 << 46),
        ("a segment in the kernel", load + P_VADDR, 0xffff_ffff_8020_0000),
        ("a segment at the end", load + P_VADDR, 0x7fff_ffff_f000),
        ("a segment at 0", load + P_VADDR, 0),
        ("a segment that is not canonical", load + P_VADDR, 1 << 63),
        ("a segment that is not congruent", load + P_VADDR, 0x40_0123),
        (
            "overlapping segments",
            second + P_VADDR,
            field(&bytes, load + P_VADDR),
        ),
    ];
    for (what, at, value) in hostile {
        let mut bytes = bytes.clone();
        put(&mut bytes, *at, &value.to_le_bytes());
        assert!(
            Program::from_bytes("/the/file", bytes).is_err(),
            "{what} was taken"
        );
    }
    for (what, at, value) in [
        ("no headers", E_PHNUM, 0u16),
        ("more headers than there is file", E_PHNUM, 0xffff),
        ("headers of another size", E_PHENTSIZE, 32),
    ] {
        let mut bytes = bytes.clone();
        put(&mut bytes, at, &value.to_le_bytes());
        assert!(
            Program::from_bytes("/the/file", bytes).is_err(),
            "{what} were taken"
        );
    }
}

#[test]
fn any_changed_header_is_refused_or_harms_its_own_guest_only() {
    let good = hello();
    let mut random = 1u64;
    let mut run = 0;
    for round in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..1 + round % 3 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let headers = HEADERS + 56 * usize::from(good[E_PHNUM]);
            let at = 4 + (random >> 33) as usize % (headers - 4);
            bytes[at] ^= (random >> 24) as u8;
        }
        // Booting all that pass would take too long; a sample must do.
        if let Ok(program) = Program::from_bytes("/changed/hello", bytes)
            && round % 40 == 0
        {
            let program = Arc::new(program);
            let outcome = Run::with("hello.c", Toolchain::Musl)
                .guest(0, move |guest| guest.processes[0].program = Arc::clone(&program))
                .timeout(std::time::Duration::from_secs(5))
                .go();
            assert!(
                matches!(
                    outcome.end(0),
                    tombolo::outcome::GuestEnd::Done | tombolo::outcome::GuestEnd::Stopped
                ),
                "{outcome:?}"
            );
            run += 1;
        }
    }
    assert!(run > 0);
}

#[test]
fn configurations_that_cannot_be_run_are_refused_with_the_limit() {
    let hello = || Run::with("hello.c", Toolchain::Musl);
    let refused: Vec<(&str, Run, String)> = vec![
        ("no guests", hello().guests(0), MAX_GUESTS.to_string()),
        (
            "too many guests",
            hello().guests(MAX_GUESTS as u32 + 1),
            MAX_GUESTS.to_string(),
        ),
        ("no vCPUs", hello().vcpus(0), MAX_VCPUS.to_string()),
        (
            "too many vCPUs",
            hello().vcpus(MAX_VCPUS as u32 + 1),
            MAX_VCPUS.to_string(),
        ),
        (
            "absurdly many vCPUs",
            hello().vcpus(u32::MAX),
            MAX_VCPUS.to_string(),
        ),
        ("no processes", hello().procs(0), MAX_TASKS.to_string()),
        (
            "too many processes",
            hello().procs(MAX_TASKS as u32 + 1),
            MAX_TASKS.to_string(),
        ),
        ("no memory", hello().memory(0), (MIN_MEMORY >> 20).to_string()),
        (
            "too little memory",
            hello().memory(MIN_MEMORY - 1),
            (MIN_MEMORY >> 20).to_string(),
        ),
        ("absurdly much memory", hello().memory(u64::MAX), "GiB".into()),
    ];
    for (what, run, limit) in refused {
        let error = run.refusal();
        assert!(matches!(error, VmmError::Config(_)), "{what}: {error}");
        assert!(error.to_string().contains(&limit), "{what}: {error}");
        assert_eq!(error.exit_status(), 125);
    }
}

#[test]
fn a_guest_too_small_for_its_program_is_refused() {
    // The program's file alone is larger than the guest's memory.
    let mut bytes = hello();
    bytes.resize(MIN_MEMORY as usize + 1, 0);
    let large = Arc::new(Program::from_bytes("/large", bytes).expect("bytes at the end do no harm"));
    let run = Run::with("hello.c", Toolchain::Musl).memory(MIN_MEMORY);
    let error = run
        .guest(0, move |guest| guest.processes[0].program = Arc::clone(&large))
        .refusal();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_kernel_of_another_abi_version_is_refused() {
    let mut kernel = KERNEL.to_vec();
    let magic = HEADER_MAGIC.to_le_bytes();
    let at = kernel
        .windows(8)
        .position(|bytes| bytes == magic)
        .expect("the header is in the image");
    let version = at + std::mem::offset_of!(KernelHeader, abi_version);
    put(&mut kernel, version, &(abi::ABI_VERSION + 1).to_le_bytes());
    let run = Run::with("hello.c", Toolchain::Musl);
    let error = run.refusal_with(|config| config.kernel = Some(Arc::from(kernel)));
    let text = error.to_string();
    assert!(
        text.contains("ABI version") && text.contains(&(abi::ABI_VERSION + 1).to_string()),
        "{text}"
    );
}

#[test]
fn kernels_that_are_none_are_refused() {
    let program = hello();
    for bytes in [&b""[..], b"\x7fELF", &KERNEL[..1000], &program] {
        let run = Run::with("hello.c", Toolchain::Musl);
        let error = run.refusal_with(|config| config.kernel = Some(Arc::from(bytes)));
        assert!(matches!(error, VmmError::KernelImage(_)), "{error}");
    }
}

#[test]
fn a_group_that_cannot_start_leaves_nothing_behind() {
    // The second guest's configuration is impossible when the first may already be half built.
    let run = Run::with("hello.c", Toolchain::Musl)
        .guests(2)
        .guest(1, |guest| guest.vcpus = 99);
    assert!(run.refusal().to_string().starts_with("guest 1: "));
}

#[test]
fn segments_beyond_every_limit_are_refused_to_the_program() {
    let run = Run::with("huge.c", Toolchain::Musl).compare();
    assert!(run.stdout(0, 0).contains("ENOMEM"), "{run:?}");
}

#[test]
fn the_command_refuses_files_it_cannot_run() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, bytes: &[u8], mode| {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).expect("a temporary file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a temporary file");
        path
    };
    let text = file("text", b"hello\n", 0o755);
    let script = file("script", b"#!/bin/sh\n", 0o755);
    let not_executable = file("data", &hello(), 0o644);
    let truncated = file("truncated", &hello()[..2000], 0o755);
    for (path, status) in [
        (scratch.path().join("missing"), 127),
        (scratch.path().to_owned(), 126),
        (text, 126),
        (script, 126),
        (not_executable, 126),
        (truncated, 126),
        ("/dev/null".into(), 126),
    ] {
        let result = Command::tombolo().arg("run").arg(&path).run();
        result.expect(status);
        assert!(
            result.err().starts_with("tombolo: ") && result.err().lines().count() == 1,
            "{}",
            result.err()
        );
        assert!(
            result.err().contains(&*path.to_string_lossy()),
            "{}",
            result.err()
        );
        assert!(result.stdout.is_empty());
    }
    Command::tombolo()
        .args("run no-such-program-anywhere")
        .run()
        .expect(127);
}

#[test]
fn the_command_refuses_options_that_make_no_sense() {
    let hello = program("hello.c", Toolchain::Musl);
    for options in [
        "-n 0",
        "-n 257",
        "-n -1",
        "-n x",
        "--vcpus 0",
        "--vcpus 17",
        "--vcpus 99999999999999999999",
        "--procs 0",
        "--procs 257",
        "--memory 0",
        "--memory 1K",
        "--memory 99999999T",
        "--memory x",
        "--timeout x",
        "--timeout -1",
        "--prefix sometimes",
        "--env",
        "--read-only z",
        "--no-such-option",
        ":",
    ] {
        let result = Command::tombolo().arg("run").args(options).arg(&hello).run();
        result.expect(125);
        assert!(
            result.err().starts_with("tombolo: "),
            "{options}: {}",
            result.err()
        );
    }
    for line in ["run", "no-such-command", "run :", "--no-such-option"] {
        Command::tombolo().args(line).run().expect(125);
    }
}

#[test]
fn files_that_have_no_place_in_a_guest_are_refused() {
    let long = format!("/etc/passwd:/{}", "n".repeat(256));
    for (files, about) in [
        (vec![long.as_str()], "longer than 255 bytes"),
        (vec!["/etc/passwd:/a", "/etc/group:/a/b"], "/a/b"),
        (vec!["/etc/passwd:/etc/group/x"], "/etc/group/x"),
        (vec!["/etc/passwd:/etc/passwd/x"], "/etc/passwd/x"),
    ] {
        let mut command = Command::tombolo().arg("run");
        for file in files {
            command = command.arg("--file").arg(file);
        }
        let result = command.args("busybox true").run();
        result.expect(125);
        assert!(result.err().contains(about), "{}", result.err());
    }
    let program = Path::new("/dev/shm/tombolo-no-place");
    fs::copy(self::program("hello.c", Toolchain::Musl), program).expect("room for a program");
    let result = Command::tombolo().arg("run").arg(program).run();
    fs::remove_file(program).expect("it is there");
    result.expect(125);
    assert!(
        result.err().contains("/dev/shm/tombolo-no-place"),
        "{}",
        result.err()
    );
}

#[test]
fn without_kvm_the_command_says_what_is_missing() {
    let hello = program("hello.c", Toolchain::Musl);
    let hidden = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /dev && exec \"$0\" \"$@\"",
    ];
    let result = Command::wrapped(&hidden).arg("run").arg(&hello).run();
    result.expect(125);
    assert!(result.err().contains("/dev/kvm"), "{}", result.err());
    let other = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount --bind /dev/zero /dev/kvm && exec \"$0\" \"$@\"",
    ];
    let result = Command::wrapped(&other).arg("run").arg(&hello).run();
    result.expect(125);
    assert!(result.err().contains("/dev/kvm"), "{}", result.err());
}

#[test]
fn without_permission_for_kvm_the_command_says_so() {
    // Root may do everything, so the permission is taken away by a mount that has none of the file's rights: a
    // device file on a file system without devices can't be opened by anyone (mount(8), nodev).
    let hello = program("hello.c", Toolchain::Musl);
    let nodev = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "d=$(mktemp -d) && mount -t tmpfs -o nodev none $d && cp -a /dev/kvm $d/kvm && \
         mount --bind $d/kvm /dev/kvm && umount $d; rmdir $d; exec \"$0\" \"$@\"",
    ];
    let result = Command::wrapped(&nodev).arg("run").arg(&hello).run();
    result.expect(125);
    let text = result.err();
    assert!(
        text.contains("/dev/kvm") && text.to_lowercase().contains("perm"),
        "{text}"
    );
}

#[test]
fn a_refused_group_can_be_followed_by_one_that_runs() {
    let run = Run::with("hello.c", Toolchain::Musl);
    let _ = run.refusal_with(|config| config.guests.clear());
    run.go().expect_all(1);
}
