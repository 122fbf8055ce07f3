//! Good files, bad files, and files that somebody has scribbled on.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// A segment: flags, file offset, address, bytes in the file, bytes in memory.
type Seg = (u32, u64, u64, u64, u64);

const TEXT: Seg = (5, 0, 0x40_0000, 0x1000, 0x1000);
const DATA: Seg = (6, 0x1000, 0x60_1000, 0x800, 0x3000);

/// An ELF file of 8 KiB with these loadable segments and the entry point 0x400100.
fn elf(kind: u16, segments: &[Seg]) -> Vec<u8> {
    let mut file = vec![0; 0x2000];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &kind.to_le_bytes());
    put(&mut file, 18, &[62, 0, 1]);
    put(&mut file, 24, &0x40_0100u64.to_le_bytes());
    put(&mut file, 32, &(HEADER as u64).to_le_bytes());
    put(&mut file, 54, &[PROGRAM_HEADER as u8, 0, segments.len() as u8]);
    for (index, (flags, offset, virt, file_len, len)) in segments.iter().enumerate() {
        let at = HEADER + index * PROGRAM_HEADER;
        put(&mut file, at, &[1, 0, 0, 0]);
        put(&mut file, at + 4, &flags.to_le_bytes());
        for (field, value) in [offset, virt, virt, file_len, len, &0x1000]
            .into_iter()
            .enumerate()
        {
            put(&mut file, at + 8 + field * 8, &value.to_le_bytes());
        }
    }
    file
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn reason(file: Vec<u8>) -> String {
    match Program::from_bytes("/p", file) {
        Ok(_) => "runs".into(),
        Err(error) => {
            assert_eq!(error.exit_status(), 126);
            error.to_string()
        }
    }
}

#[test]
fn a_well_formed_program_runs() {
    assert_eq!(reason(elf(ET_EXEC, &[TEXT, DATA])), "runs");
    // Static PIE: linked at 0.
    let mut pie = elf(
        ET_DYN,
        &[(5, 0, 0, 0x1000, 0x1000), (6, 0x1000, 0x2000, 0x10, 0x10)],
    );
    put(&mut pie, 24, &0x100u64.to_le_bytes());
    assert_eq!(reason(pie), "runs");
}

#[test]
fn what_is_not_a_program_is_named() {
    let with = |at: usize, bytes: &[u8]| {
        let mut file = elf(ET_EXEC, &[TEXT]);
        put(&mut file, at, bytes);
        file
    };
    for (file, text) in [
        (vec![], "not an ELF file"),
        (b"hello".to_vec(), "not an ELF file"),
        (b"#!/bin/sh\n".to_vec(), "a script"),
        (elf(ET_EXEC, &[TEXT])[..40].to_vec(), "truncated: 40 bytes"),
        (
            elf(ET_EXEC, &[TEXT])[..100].to_vec(),
            "truncated: 1 program headers",
        ),
        (
            elf(ET_EXEC, &[TEXT])[..0xfff].to_vec(),
            "truncated: the segment at 0x400000",
        ),
        (with(4, &[1]), "a 32-bit program"),
        (with(5, &[2]), "big-endian"),
        (with(18, &[183]), "Arm 64-bit"),
        (elf(ET_REL, &[TEXT]), "an object file"),
        (elf(ET_CORE, &[TEXT]), "a core dump"),
        (elf(77, &[TEXT]), "ELF type 77"),
        (with(HEADER, &[3]), "cc -static"),
        (with(HEADER, &[6]), "no segment to load"),
        (elf(ET_EXEC, &[]), "0 program headers"),
        (with(54, &[55]), "program headers of 55 bytes"),
        (with(32, &[0xff; 8]), "program headers at offset"),
        (with(24, &[0; 8]), "entry point 0x0"),
        (
            elf(ET_EXEC, &[(6, 0, 0x40_0000, 0x1000, 0x1000)]),
            "entry point 0x400100",
        ),
    ] {
        let reason = reason(file);
        assert!(reason.contains(text), "{reason:?} should say {text:?}");
    }
}

#[test]
fn hostile_segments_are_refused() {
    for (segments, text) in [
        (&[TEXT, (6, 0, 0x40_0fff, 0x10, 0x10)][..], "overlap"),
        (&[DATA, TEXT], "overlap or are out of order"),
        (
            &[TEXT, (6, 0, 0x60_0000, 0x1000, 0xfff)],
            "has 4096 bytes in the file, but 4095 in memory",
        ),
        (&[TEXT, (6, u64::MAX, 0x60_0fff, 2, 2)], "truncated"),
        (&[TEXT, (6, 0x1001, 0x60_0001, 0x1000, 0x1000)], "truncated"),
        (&[TEXT, (6, 0, u64::MAX - 0xfff, 0x1000, 0x1001)], "wraps around"),
        (
            &[TEXT, (6, 0, 0xffff_8000_0000_0000, 0x10, 0x10)],
            "ends at 0xffff800000000010",
        ),
        (
            &[TEXT, (6, 0, 0x7fff_ffff_e000, 0x10, 0x1001)],
            "ends at 0x7ffffffff001",
        ),
        (&[TEXT, (6, 0, 0x7000_0000_0000, 0x10, 0x10)], "span at most"),
        (&[(6, 0, 0xf000, 0x10, 0x10), TEXT], "below 0x10000"),
        (&[TEXT, (6, 0x10, 0x60_0000, 0x10, 0x10)], "differ modulo 4096"),
    ] {
        let reason = reason(elf(ET_EXEC, segments));
        assert!(reason.contains(text), "{reason:?} should say {text:?}");
    }
    let mut odd = elf(ET_EXEC, &[TEXT]);
    put(&mut odd, HEADER + 48, &0x1001u64.to_le_bytes());
    assert!(reason(odd).contains("not a power of two"));
    for any in [0u64, 1] {
        let mut file = elf(ET_EXEC, &[TEXT]);
        put(&mut file, HEADER + 48, &any.to_le_bytes());
        assert_eq!(reason(file), "runs");
    }
}

#[test]
fn files_fail_as_a_shell_says() {
    let status = |path: &str| Program::load(path).map_or_else(|error| error.exit_status(), |_| 0);
    assert_eq!(status("/no/such/file"), 127);
    assert_eq!(status("/tmp"), 126);
    assert_eq!(status("/dev/null"), 126);
    assert_eq!(status("/etc/passwd"), 126);
    let path = std::env::temp_dir().join(format!("tombolo-image-test-{}", std::process::id()));
    let run = |mode: u32| {
        std::fs::write(&path, elf(ET_EXEC, &[TEXT])).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = Program::load(&path);
        std::fs::remove_file(&path).unwrap();
        loaded
    };
    assert_eq!(run(0o644).unwrap_err().exit_status(), 126, "no x bit");
    let canonical = std::env::temp_dir()
        .canonicalize()
        .unwrap()
        .join(path.file_name().unwrap());
    assert_eq!(run(0o755).unwrap().name(), canonical.as_os_str().as_bytes());
}

#[test]
fn an_ordinary_program_is_not_a_kernel() {
    let parse = |bytes: Vec<u8>| KernelImage::parse(Some(bytes.into())).unwrap_err().to_string();
    assert!(parse(elf(ET_EXEC, &[TEXT])).contains(".tombolo.header"));
    assert!(parse(elf(ET_DYN, &[TEXT])).contains("ET_EXEC"));
    assert!(parse(vec![]).contains("not an ELF file"));
}

proptest! {
    /// Whatever is scribbled into the headers: an answer, and if it is yes, what will be loaded is sound.
    #[test]
    fn scribbled_headers_never_harm(
        scribbles in prop::collection::vec((0usize..240, any::<[u8; 3]>()), 0..6),
        words in prop::collection::vec((0usize..29, any::<u64>()), 0..3),
        len in 0usize..=0x2000,
        cut in any::<bool>(),
    ) {
        let mut file = elf(ET_EXEC, &[TEXT, DATA]);
        for (at, bytes) in scribbles {
            put(&mut file, at, &bytes);
        }
        for (at, word) in words {
            put(&mut file, at * 8, &word.to_le_bytes());
        }
        if cut {
            file.truncate(len);
        }
        let _ = KernelImage::parse(Some(file.clone().into()));
        if check(&file).is_ok() {
            let elf = ElfFile::parse(&file).unwrap();
            let loads = elf.loads().unwrap();
            for load in &loads {
                prop_assert!(load.end > load.start && load.end <= USER_END);
                prop_assert!(load.offset + load.file_len <= file.len() as u64);
            }
            prop_assert!(loads.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(loads.iter().any(|load| load.start <= elf.entry && elf.entry < load.end));
        }
    }
}
