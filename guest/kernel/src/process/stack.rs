//! A new program's stack: strings, auxiliary vector, environment, arguments (System V ABI for x86-64, 3.4.1;
//! getauxval(3)).

use super::load::Loaded;
use super::{Credentials, vdso};
use crate::mm::area::{Advice, Backing, Prot};
use crate::mm::{AddressSpace, Layout, Memory, Placement, World};
use abi::boot::BootInfo;
use abi::{Errno, PAGE_SIZE};
use arrayvec::ArrayVec;
use core::ffi::CStr;
use paging::GuestVirt;
use zerocopy::IntoBytes;

/// How large a stack becomes, bytes, unless the process has set another limit: Linux's default.
pub const SIZE: u64 = 8 << 20;
/// Where stacks end: below the last addresses a program has, as on Linux (which leaves out a random amount).
const TOP: u64 = 0x7fff_ff7f_f000;
/// What a stack has when the program starts, beyond what is on it (`setup_arg_pages` in Linux).
const AT_FIRST: u64 = 128 << 10;
/// Most arguments and variables together.
const MOST_STRINGS: usize = 1 << 16;

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;

/// CPUID 1 EDX, which Linux passes as AT_HWCAP: FPU, TSC, CX8, CMOV, MMX, FXSR, SSE, SSE2 are in every x86-64.
const HWCAP: u64 = 1 | 1 << 4 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;

/// How many words are written at once: one copy to the program costs as much as a hundred stores.
const CHUNK: usize = 128;

/// Writes words to rising addresses, a chunk at a time.
struct Words<'a, W: World> {
    space: &'a mut AddressSpace,
    memory: &'a mut Memory,
    world: &'a mut W,
    at: u64,
    chunk: ArrayVec<u64, CHUNK>,
}

impl<W: World> Words<'_, W> {
    fn push(&mut self, word: u64) -> Result<(), Errno> {
        self.chunk.push(word);
        if self.chunk.is_full() {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn extend(&mut self, words: &[u64]) -> Result<(), Errno> {
        if self.chunk.remaining_capacity() < words.len() {
            self.flush()?;
        }
        if self.chunk.try_extend_from_slice(words).is_ok() {
            return Ok(());
        }
        words.iter().try_for_each(|&word| self.push(word))
    }

    fn flush(&mut self) -> Result<(), Errno> {
        self.space
            .write(self.memory, self.world, self.at, self.chunk.as_bytes())?;
        self.at += self.chunk.len() as u64 * 8;
        self.chunk.clear();
        Ok(())
    }
}

/// What a program is told.
pub struct Told<'a> {
    /// How many of the strings are arguments.
    pub argc: u32,
    /// How many are environment.
    pub envc: u32,
    /// NUL-terminated strings, one after the other: arguments, then environment.
    pub strings: &'a [u8],
    /// The program's file.
    pub name: &'a [u8],
    /// For AT_RANDOM.
    pub random: [u8; 16],
    /// Where the vDSO's pages are.
    pub boot: &'a BootInfo,
    /// What was loaded.
    pub loaded: &'a Loaded,
    /// Who runs it.
    pub credentials: &'a Credentials,
}

/// Makes the stack of a program in `space`, and maps the vDSO that it tells of. Returns the stack pointer.
///
/// # Errors
/// E2BIG for too many strings, ENOMEM.
pub fn make(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    told: &Told<'_>,
) -> Result<u64, Errno> {
    let &Told {
        strings,
        name,
        random,
        boot,
        loaded,
        credentials,
        ..
    } = told;
    let (argc, envc) = (told.argc as usize, told.envc as usize);
    if argc + envc > MOST_STRINGS || strings.len() as u64 > SIZE / 4 {
        return Err(Errno::E2BIG);
    }
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXECUTE, loaded.executable_stack);
    let all = Prot::READ | Prot::WRITE | Prot::EXECUTE;
    let on_top = (strings.len() + name.len()) as u64 + 9;
    let used = on_top.next_multiple_of(PAGE_SIZE);
    let size = (used + AT_FIRST).min(space.most_stack()).max(used);
    let bottom = Placement::FixedNoReplace(GuestVirt::new(TOP - size));
    let (backing, grows) = (Backing::Anonymous, Advice::GROWS);
    space.map_advised(memory, world, bottom, size, prot, all, backing, grows)?;

    // From the top: a zero word, the file's name, the strings as they came, random bytes, the platform.
    let mut at = TOP - 8 - (name.len() as u64 + 1);
    let execfn = at;
    space.write(memory, world, execfn, name)?;
    at -= strings.len() as u64;
    let first_string = at;
    space.write(memory, world, first_string, strings)?;
    at = ((at - 16) & !15) - 16;
    let (platform, random_at) = (at, at + 16);
    let mut small = [0; 32];
    small[..6].copy_from_slice(b"x86_64");
    small[16..].copy_from_slice(&random);
    space.write(memory, world, at, &small)?;

    let [uid, euid, _] = credentials.uid.map(u64::from);
    let [gid, egid, _] = credentials.gid.map(u64::from);
    let auxv = [
        [AT_SYSINFO_EHDR, vdso::map(space, memory, world, boot)?],
        [AT_PHDR, loaded.headers],
        [AT_PHENT, loaded.header_size],
        [AT_PHNUM, loaded.header_count],
        [AT_PAGESZ, PAGE_SIZE],
        [AT_BASE, 0],
        [AT_FLAGS, 0],
        [AT_ENTRY, loaded.entry],
        [AT_UID, uid],
        [AT_EUID, euid],
        [AT_GID, gid],
        [AT_EGID, egid],
        [AT_PLATFORM, platform],
        [AT_HWCAP, HWCAP],
        [AT_CLKTCK, 100],
        [AT_SECURE, 0],
        [AT_RANDOM, random_at],
        [AT_EXECFN, execfn],
        [AT_NULL, 0],
    ];
    let words = (1 + argc + 1 + envc + 1 + 2 * auxv.len()) as u64;
    let sp = (at - 8 * words) & !15;

    let mut out = Words {
        space,
        memory,
        world,
        at: sp,
        chunk: ArrayVec::new(),
    };
    out.push(argc as u64)?;
    let mut rest = strings;
    let mut string_at = first_string;
    let mut arguments_end = first_string;
    for index in 0..argc + envc {
        if index == argc {
            out.push(0)?;
            arguments_end = string_at;
        }
        // The VMM promises that they end with NUL; a wrong promise makes a shorter list, no more.
        let Ok(string) = CStr::from_bytes_until_nul(rest) else {
            break;
        };
        out.push(string_at)?;
        let len = string.count_bytes() + 1;
        string_at += len as u64;
        rest = &rest[len..];
    }
    if envc == 0 {
        out.push(0)?;
    }
    out.push(0)?;
    out.extend(auxv.as_flattened())?;
    out.flush()?;
    let auxiliary_end = out.at;
    if envc == 0 {
        arguments_end = string_at;
    }
    out.space.set_layout(Layout {
        stack: sp,
        arguments: (first_string, arguments_end),
        environment: (arguments_end, string_at),
        auxiliary: (auxiliary_end - size_of_val(&auxv) as u64, auxiliary_end),
        ..Layout::default()
    });
    Ok(sp)
}
