//! The vDSO's image is what the C libraries expect to find, and code that can run anywhere in ring 3.

use elf::ElfBytes;
use elf::abi::{
    DT_GNU_HASH, DT_HASH, DT_INIT, DT_INIT_ARRAY, DT_JMPREL, DT_NEEDED, DT_REL, DT_RELA, DT_SONAME, DT_STRSZ,
    DT_STRTAB, DT_SYMTAB, DT_TEXTREL, DT_VERDEF, DT_VERDEFNUM, DT_VERSYM, EM_X86_64, ET_DYN, PF_R, PF_X,
    PT_DYNAMIC, PT_LOAD, SHN_UNDEF, STB_GLOBAL, STT_FUNC, VER_FLG_BASE,
};
use elf::endian::LittleEndian;
use elf::file::Class::ELF64;
use elf::gnu_symver::{VerDefIterator, VersionIndexTable};
use elf::hash::{GnuHashTable, SysVHashTable};
use elf::string_table::StringTable;
use elf::symbol::SymbolTable;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;
use tombolo::image::VDSO;

/// Relative relocations, packed (gABI).
const DT_RELR: i64 = 36;
const FUNCTIONS: [&str; 5] = [
    "__vdso_clock_getres",
    "__vdso_clock_gettime",
    "__vdso_getcpu",
    "__vdso_gettimeofday",
    "__vdso_time",
];

fn file() -> ElfBytes<'static, LittleEndian> {
    ElfBytes::minimal_parse(VDSO).expect("an ELF file")
}

/// The dynamic section, which is all a C library looks at.
fn dynamic() -> BTreeMap<i64, u64> {
    let table = file()
        .dynamic()
        .expect("a readable dynamic section")
        .expect("a dynamic section");
    table.iter().map(|entry| (entry.d_tag, entry.d_val())).collect()
}

fn at(tag: i64) -> &'static [u8] {
    &VDSO[dynamic()[&tag] as usize..]
}

fn strings() -> StringTable<'static> {
    StringTable::new(&at(DT_STRTAB)[..dynamic()[&DT_STRSZ] as usize])
}

/// How many symbols there are, which only the older hash table says (gABI, chapter 5): its second word.
fn symbol_count() -> usize {
    let count = at(DT_HASH)[4..8].try_into().expect("four bytes");
    u32::from_le_bytes(count) as usize
}

fn symbols() -> SymbolTable<'static, LittleEndian> {
    SymbolTable::new(LittleEndian, ELF64, &at(DT_SYMTAB)[..24 * symbol_count()])
}

#[test]
fn it_is_one_segment_of_whole_pages_to_be_read_and_executed() {
    let file = file();
    assert_eq!((file.ehdr.e_type, file.ehdr.e_machine), (ET_DYN, EM_X86_64));
    // What section headers there were would lie in memory that programs take for the image.
    assert_eq!((file.ehdr.e_shoff, file.ehdr.e_shnum), (0, 0));
    let segments: Vec<_> = file.segments().expect("program headers").iter().collect();
    let loads: Vec<_> = segments
        .iter()
        .filter(|header| header.p_type == PT_LOAD)
        .collect();
    assert_eq!(loads.len(), 1, "{segments:?}");
    let load = loads[0];
    assert_eq!((load.p_offset, load.p_vaddr, load.p_flags), (0, 0, PF_R | PF_X));
    assert_eq!(
        (load.p_filesz, load.p_memsz),
        (VDSO.len() as u64, VDSO.len() as u64)
    );
    assert_eq!(VDSO.len() % 4096, 0);
    for other in segments.iter().filter(|header| header.p_type != PT_LOAD) {
        assert_eq!(other.p_type, PT_DYNAMIC, "{other:?}");
    }
}

#[test]
fn nothing_has_to_be_done_before_it_runs() {
    let dynamic = dynamic();
    for tag in [
        DT_REL,
        DT_RELA,
        DT_RELR,
        DT_JMPREL,
        DT_TEXTREL,
        DT_NEEDED,
        DT_INIT,
        DT_INIT_ARRAY,
    ] {
        assert!(!dynamic.contains_key(&tag), "{tag:#x} in {dynamic:x?}");
    }
    let undefined = symbols()
        .iter()
        .skip(1)
        .filter(|symbol| symbol.st_shndx == SHN_UNDEF);
    assert_eq!(undefined.count(), 0);
}

#[test]
fn it_exports_linuxs_functions_and_nothing_else() {
    let (strings, symbols) = (strings(), symbols());
    let mut names = Vec::new();
    for symbol in symbols.iter().skip(1) {
        names.push(strings.get(symbol.st_name as usize).expect("a name"));
        assert_eq!((symbol.st_symtype(), symbol.st_bind()), (STT_FUNC, STB_GLOBAL));
        let text = file().ehdr.e_entry..VDSO.len() as u64;
        assert!(
            text.contains(&symbol.st_value) && symbol.st_size > 0,
            "{symbol:?}"
        );
    }
    names.sort_unstable();
    assert_eq!(names, FUNCTIONS);
    let soname = strings.get(dynamic()[&DT_SONAME] as usize);
    assert_eq!(soname.expect("a name"), "linux-vdso.so.1");
}

#[test]
fn each_function_is_found_by_either_hash_table() {
    let (strings, symbols) = (strings(), symbols());
    let system_v = SysVHashTable::new(LittleEndian, ELF64, at(DT_HASH)).expect("a hash table");
    let gnu = GnuHashTable::new(LittleEndian, ELF64, at(DT_GNU_HASH)).expect("a hash table");
    for name in FUNCTIONS {
        let one = system_v.find(name.as_bytes(), &symbols, &strings);
        let other = gnu.find(name.as_bytes(), &symbols, &strings);
        let (one, other) = (one.expect("a sound table"), other.expect("a sound table"));
        assert!(one.is_some() && one == other, "{name}: {one:?} and {other:?}");
    }
    let unknown = gnu.find(b"clock_gettime", &symbols, &strings);
    assert!(unknown.expect("a sound table").is_none());
}

#[test]
fn each_function_has_linuxs_version() {
    let strings = strings();
    let versions = VersionIndexTable::new(LittleEndian, ELF64, &at(DT_VERSYM)[..2 * symbol_count()]);
    let count = dynamic()[&DT_VERDEFNUM];
    let definitions = VerDefIterator::new(LittleEndian, ELF64, count, 0, at(DT_VERDEF));
    let named: BTreeMap<u16, &str> = definitions
        .filter(|(definition, _)| definition.vd_flags & VER_FLG_BASE == 0)
        .map(|(definition, mut names)| {
            let name = names.next().expect("a version has a name").vda_name;
            (definition.vd_ndx, strings.get(name as usize).expect("a name"))
        })
        .collect();
    assert_eq!(named.values().collect::<Vec<_>>(), [&"LINUX_2.6"]);
    for index in 1..symbol_count() {
        let version = versions.get(index).expect("a version for each symbol");
        assert_eq!(named.get(&version.index()), Some(&"LINUX_2.6"), "symbol {index}");
        assert!(!version.is_hidden());
    }
}

/// The registers of the FPU and of SSE are the caller's, and instructions that not every CPU has would have to be asked
/// for. RDTSCP and RDPID tell the host's CPU on the software KVM.
#[test]
fn its_instructions_run_on_every_cpu_and_leave_vector_registers_alone() {
    let mut image = tempfile::NamedTempFile::new().expect("a temporary file");
    image.write_all(VDSO).expect("a temporary file");
    let output = Command::new("objdump")
        .args(["-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn"])
        .arg(format!("--start-address={:#x}", file().ehdr.e_entry))
        .arg(image.path())
        .output()
        .expect("objdump runs: install binutils");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    let instructions: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(":\t")?.1.trim()))
        .collect();
    let forbidden = [
        "rdtscp", "rdpid", "popcnt", "andn", "bls", "bextr", "mulx", "rorx", "shlx", "shrx", "sarx",
    ];
    for instruction in &instructions {
        let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
        let unfit = forbidden.iter().any(|name| mnemonic.starts_with(name)) || mnemonic == "(bad)";
        assert!(!unfit, "{instruction}");
        for register in ["mm", "%st", "%fs", "%gs"] {
            assert!(!instruction.contains(register), "{instruction}");
        }
    }
    for wanted in ["rdtsc", "lsl", "syscall", "lfence"] {
        assert!(
            instructions.iter().any(|found| found.starts_with(wanted)),
            "{wanted} is not there: is this the code?"
        );
    }
}
