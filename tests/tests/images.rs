//! The images built into the library can be booted as they are.

use elf::ElfBytes;
use elf::abi::{ET_EXEC, PT_DYNAMIC, PT_INTERP, PT_LOAD, SHT_REL, SHT_RELA};
use elf::endian::LittleEndian;
use std::io::Write;
use std::process::Command;
use tombolo::image::{KERNEL, PROGRAMS};

fn images() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    std::iter::once(("kernel", KERNEL)).chain(PROGRAMS.iter().copied())
}

fn parse(bytes: &'static [u8]) -> ElfBytes<'static, LittleEndian> {
    ElfBytes::minimal_parse(bytes).expect("an image is an ELF file")
}

#[test]
fn images_are_linked_at_fixed_addresses_without_anything_to_relocate() {
    for (name, bytes) in images() {
        let file = parse(bytes);
        assert_eq!(file.ehdr.e_type, ET_EXEC, "{name}");
        for header in file.segments().expect("program headers").iter() {
            assert!(
                header.p_type != PT_DYNAMIC && header.p_type != PT_INTERP,
                "{name}: {header:?}"
            );
        }
        for section in file.section_headers().expect("section headers").iter() {
            assert!(
                section.sh_type != SHT_REL && section.sh_type != SHT_RELA,
                "{name}: {section:?}"
            );
        }
    }
}

#[test]
fn no_segment_is_both_writable_and_executable() {
    for (name, bytes) in images() {
        for header in parse(bytes).segments().expect("program headers").iter() {
            assert!(
                header.p_type != PT_LOAD || header.p_flags & 3 != 3,
                "{name}: {header:?}"
            );
        }
    }
}

#[test]
fn the_kernel_has_symbols_for_its_epitaph() {
    let file = parse(KERNEL);
    let (symbols, _) = file
        .symbol_table()
        .expect("a readable symbol table")
        .expect("a symbol table");
    assert!(symbols.len() > 50, "{}", symbols.len());
}

/// `int3` is not looked for: it fills the space between functions. Nor are xsave and its kin, which are for
/// hardware KVM. Ring 0 is emulated on the software KVM, and these the emulator can't do (or nobody saves the registers they use).
#[test]
fn the_kernel_uses_no_instruction_that_the_software_kvm_cannot_run() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(KERNEL).expect("a temporary file");
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(file.path())
        .output()
        .expect("objdump runs: install binutils");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().count() > 5000, "objdump shows the kernel");
    let forbidden = [
        "cmpxchg16b",
        "popcnt",
        "crc32",
        "andn",
        "bextr",
        "blsi",
        "blsr",
        "pdep",
        "pext",
        "rorx",
        "sarx",
        "shlx",
        "shrx",
        "mulx",
        "adcx",
        "adox",
        "rdtscp",
        "stac",
        "clac",
        "movbe",
        "vmcall",
        "rdpid",
        "rdseed",
    ];
    let mut wrong: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some((_, instruction)) = line.split_once(":\t") else {
            continue;
        };
        let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
        let vector =
            instruction.contains("%xmm") || instruction.contains("%ymm") || instruction.contains("%mm");
        if vector || forbidden.iter().any(|name| mnemonic.starts_with(name)) || mnemonic == "int" {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
