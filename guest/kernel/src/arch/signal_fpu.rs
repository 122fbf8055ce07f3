//! The FPU's part of a handler's frame ([`super::signal_frame`]): the interrupted registers go to the program's memory,
//! the handler begins with those of a new program, and what lies there when it returns is loaded.
//!
//! As for switches between tasks ([`super::context`]) there are two ways. Where programs keep to x87 and SSE, a frame has
//! FXSAVE's 512 bytes. Where ring 0 is emulated they may use all that the CPU has, and a frame has XSAVE's image, as on
//! Linux: in the bytes that FXSAVE leaves to software it says how long it is and what is in it, and a second magic number
//! follows. The host writes and reads it (hypercalls SaveFpu and LoadFpu), for ring 0 has no XSAVE there.
//!
//! What is loaded is the program's word. In the first way it is copied and checked before FXRSTOR sees it; in the second
//! the host copies it, and KVM checks it. State that is not in an image, or has no magic number, is that of a new program.
//!
//! Sources: SDM 1, 10.5 (FXSAVE) and 13.4 (XSAVE's standard format); asm/sigcontext.h of Linux for the software bytes.
// UNSAFETY: FPU and CPUID instructions.
#![expect(unsafe_code, reason = "saves and loads what only the CPU knows")]

use super::context::{FPU_LEN, host_keeps_fpu};
use super::direct;
use super::lent::{Lent, gpa_of};
use super::signal_frame::FpuForm;
use crate::hypercall::{self, Requester};
use crate::mm::{Access, AddressSpace, Memory, Run, World};
use abi::hypercall::{Call, FPU_INITIAL, FPU_MOST, FPU_NONE};
use abi::memory::DIRECT_MAP;
use abi::{Errno, PAGE_SIZE};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use paging::GuestPhys;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Bytes of FXSAVE's area, and of it those that mean anything.
const LEGACY: u64 = FPU_LEN as u64;
const LEGACY_USED: usize = 416;
const MXCSR_AT: usize = 24;
/// The bits of MXCSR that can be set where FXSAVE does not say (SDM 1, 11.6.6).
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;
/// XSAVE's header follows.
const HEADER: u64 = 64;
/// Where the bytes are that FXSAVE leaves to software.
const SOFTWARE_AT: u64 = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// x87 and SSE, as state components (SDM 1, 13.1).
const LEGACY_FEATURES: u64 = 3;

/// `struct _fpx_sw_bytes`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Software {
    magic: u32,
    /// Bytes of image and second magic number.
    extended_len: u32,
    features: u64,
    /// Bytes of the image.
    len: u32,
    pad: [u32; 7],
}

const _: () = assert!(size_of::<Software>() as u64 == LEGACY - SOFTWARE_AT);

/// Bytes of an image and the components in it; 0 until somebody asks.
static IMAGE_LEN: AtomicU64 = AtomicU64::new(0);
static FEATURES: AtomicU64 = AtomicU64::new(0);

/// An area for what lies in a segment: the host takes no addresses in a window.
#[repr(C, align(64))]
struct Area([u8; FPU_MOST as usize + 64]);
static BOUNCE: Lent<Area> = Lent::new(Area([0; FPU_MOST as usize + 64]));

#[repr(C, align(16))]
struct Legacy([u8; FPU_LEN]);

/// What a new program has: FCW after FNINIT, MXCSR after reset.
static INITIAL: Legacy = {
    let mut bytes = [0; FPU_LEN];
    [bytes[0], bytes[1]] = 0x37fu16.to_le_bytes();
    [bytes[MXCSR_AT], bytes[MXCSR_AT + 1], ..] = 0x1f80u32.to_le_bytes();
    Legacy(bytes)
};

/// Works out how XSAVE lays out what programs can use here (CPUID leaf 0xD).
fn find_layout() -> u64 {
    const LEAF: u32 = 0xd;
    let component = |index: u32| core::arch::x86_64::__cpuid_count(LEAF, index);
    let all = component(0);
    let features = u64::from(all.edx) << 32 | u64::from(all.eax);
    let mut end = LEGACY + HEADER;
    let mut kept = LEGACY_FEATURES & features;
    for index in (2..63).filter(|index| features & 1 << index != 0) {
        let component = component(index);
        let its_end = u64::from(component.ebx) + u64::from(component.eax);
        if its_end <= FPU_MOST {
            end = end.max(its_end);
            kept |= 1 << index;
        }
    }
    FEATURES.store(kept, Relaxed);
    IMAGE_LEN.store(end, Relaxed);
    end
}

/// Bytes of an image of XSAVE.
fn image_len() -> u64 {
    match IMAGE_LEN.load(Relaxed) {
        0 => find_layout(),
        len => len,
    }
}

/// How the FPU's state lies in frames here.
pub fn form() -> FpuForm {
    if host_keeps_fpu() {
        FpuForm::Extended(image_len() + size_of_val(&MAGIC2) as u64)
    } else {
        FpuForm::Legacy
    }
}

/// Up to two pieces of RAM with an image in them.
#[derive(Default)]
struct Pieces {
    pieces: [(u64, u64); 2],
}

impl Pieces {
    /// Those behind `len` bytes of a program's memory. `None` if they are not all RAM.
    fn find(
        space: &mut AddressSpace,
        memory: &mut Memory,
        world: &mut impl World,
        address: u64,
        len: u64,
        access: Access,
    ) -> Result<Option<Pieces>, Errno> {
        let mut found = Pieces::default();
        let mut done = 0;
        for piece in &mut found.pieces {
            if done == len {
                break;
            }
            let at = address.checked_add(done).ok_or(Errno::EFAULT)?;
            match space.run(memory, world, at, len - done, access)? {
                Run::Ram(gpa, run) => {
                    *piece = (gpa.get(), run);
                    done += run;
                }
                Run::Segment(_) => return Ok(None),
            }
        }
        Ok((done == len).then_some(found))
    }

    fn one(at: u64, len: u64) -> Pieces {
        Pieces {
            pieces: [(at, len), (0, 0)],
        }
    }

    /// Where byte `offset` of the image is.
    fn at(&self, offset: u64) -> GuestPhys {
        let [(first, len), (second, _)] = self.pieces;
        GuestPhys::new(if offset < len {
            first + offset
        } else {
            second + (offset - len)
        })
    }

    /// As the arguments of a hypercall, without the bytes beyond `len`.
    fn args(&self, len: u64) -> [u64; 4] {
        let [(first, first_len), (second, _)] = self.pieces;
        let first_len = first_len.min(len);
        [first, first_len, second, len - first_len]
    }
}

/// Saves the FPU's state of the running task in its memory at `address`, which is 64-aligned, in its [`form`]. Then the FPU
/// has that of a new program.
///
/// # Errors
/// EFAULT; nothing has happened to the FPU then.
pub fn push(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    address: u64,
) -> Result<(), Errno> {
    let len = form().len();
    if let Some(pieces) = Pieces::find(space, memory, world, address, len, Access::Write)? {
        save(&pieces);
        return Ok(());
    }
    BOUNCE.with(|area| {
        save(&Pieces::one(gpa_of(area), len));
        space.write(memory, world, address, &area.0[..len as usize])
    })
}

/// Saves the FPU's state of the running task in RAM, and gives it that of a new program.
fn save(to: &Pieces) {
    if host_keeps_fpu() {
        save_extended(to);
    } else {
        save_legacy(to);
    }
}

fn save_extended(to: &Pieces) {
    let len = image_len();
    let [first, first_len, second, second_len] = to.args(len);
    let args = [first, first_len, second, second_len, 0, 0];
    if let Err(error) = hypercall::call(Call::SaveFpu, Requester::default(), &args) {
        panic!("the host does not save FPU state: {error}");
    }
    let software = Software {
        magic: MAGIC1,
        extended_len: len as u32 + size_of_val(&MAGIC2) as u32,
        features: FEATURES.load(Relaxed),
        len: len as u32,
        pad: [0; 7],
    };
    direct::write(to.at(SOFTWARE_AT), software.as_bytes());
    direct::store32(to.at(len), MAGIC2);
}

fn save_legacy(to: &Pieces) {
    let [(at, len), _] = to.pieces;
    if len == LEGACY {
        let virt = DIRECT_MAP + at;
        // SAFETY: RAM is mapped there, aligned, and whoever else may write to it knows no references to it.
        unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) virt, options(nostack, preserves_flags)) }
    } else {
        BOUNCE.with(|area| {
            let image = &mut area.0;
            // SAFETY: the area is aligned and large enough.
            unsafe {
                core::arch::asm!("fxsave64 [{}]", in(reg) image.as_mut_ptr(), options(nostack, preserves_flags));
            }
            direct::write(to.at(0), &image[..len as usize]);
            direct::write(to.at(len), &image[len as usize..FPU_LEN]);
        });
    }
    direct::zero(to.at(SOFTWARE_AT), LEGACY - SOFTWARE_AT);
    reset();
}

/// Gives the FPU of the running task the state of a new program.
pub fn reset() {
    if host_keeps_fpu() {
        let args = [FPU_NONE, FPU_INITIAL];
        if let Err(error) = hypercall::call(Call::SwitchFpu, Requester::default(), &args) {
            panic!("the host does not reset FPU state: {error}");
        }
        return;
    }
    // SAFETY: the image is aligned, and one the CPU accepts.
    unsafe {
        core::arch::asm!("fxrstor64 [{}]", in(reg) &raw const INITIAL, options(nostack, preserves_flags, readonly));
    }
}

/// Gives the FPU of the running task the state that lies in its memory at `address`.
///
/// # Errors
/// EFAULT; EINVAL for a state the CPU would not take, or at an address that is not aligned.
pub fn pop(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    address: u64,
) -> Result<(), Errno> {
    if host_keeps_fpu() {
        pop_extended(space, memory, world, address)
    } else {
        pop_legacy(space, memory, world, address)
    }
}

fn pop_extended(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    address: u64,
) -> Result<(), Errno> {
    if !address.is_multiple_of(64) {
        return Err(Errno::EINVAL);
    }
    let full = image_len();
    let mut software = Software::new_zeroed();
    let at = address.checked_add(SOFTWARE_AT).ok_or(Errno::EFAULT)?;
    space.read(memory, world, at, software.as_mut_bytes())?;
    let said = u64::from(software.len);
    let mut extended = software.magic == MAGIC1
        && (LEGACY + HEADER..=full).contains(&said)
        && said <= u64::from(software.extended_len);
    if extended {
        let mut magic = [0; 4];
        space.read(memory, world, address.saturating_add(full), &mut magic)?;
        extended = u32::from_le_bytes(magic) == MAGIC2;
    }
    // Without its magic numbers it is what FXSAVE has left.
    let (len, features) = if extended {
        (full, software.features)
    } else {
        (LEGACY, LEGACY_FEATURES)
    };
    let load = |pieces: &Pieces| {
        let [first, first_len, second, second_len] = pieces.args(len);
        let args = [first, first_len, second, second_len, features];
        hypercall::call(Call::LoadFpu, Requester::default(), &args).map(|_| ())
    };
    if let Some(pieces) = Pieces::find(space, memory, world, address, len, Access::Read)? {
        return load(&pieces);
    }
    BOUNCE.with(|area| {
        space.read(memory, world, address, &mut area.0[..len as usize])?;
        load(&Pieces::one(gpa_of(area), len))
    })
}

fn pop_legacy(
    space: &mut AddressSpace,
    memory: &mut Memory,
    world: &mut impl World,
    address: u64,
) -> Result<(), Errno> {
    if !address.is_multiple_of(16) {
        return Err(Errno::EINVAL);
    }
    BOUNCE.with(|area| {
        let image = &mut area.0;
        // SAFETY: the area is aligned and large enough.
        unsafe {
            core::arch::asm!("fxsave64 [{}]", in(reg) image.as_mut_ptr(), options(nostack, preserves_flags));
        }
        let mask = match word(image, MXCSR_AT + 4) {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        };
        space.read(memory, world, address, &mut image[..LEGACY_USED])?;
        if word(image, MXCSR_AT) & !mask != 0 {
            return Err(Errno::EINVAL);
        }
        // SAFETY: FXRSTOR faults for reserved bits in MXCSR, which there are not, and for nothing else with an aligned
        // area in the kernel's memory (SDM 2A, FXRSTOR; SDM 1, 11.6.6 for the mask, which the CPU has just given).
        unsafe {
            core::arch::asm!("fxrstor64 [{}]", in(reg) image.as_ptr(), options(nostack, preserves_flags, readonly));
        }
        Ok(())
    })
}

/// The x87's exceptions that have come and are not masked, and MXCSR, of the running task.
pub fn status() -> (u32, u32) {
    BOUNCE.with(|area| {
        let image = &mut area.0;
        // SAFETY: the area is aligned and large enough.
        unsafe {
            core::arch::asm!("fxsave64 [{}]", in(reg) image.as_mut_ptr(), options(nostack, preserves_flags));
        }
        // FCW and FSW (SDM 1, table 10-2).
        let control_and_status = word(image, 0);
        let unmasked = control_and_status >> 16 & !control_and_status & 0x3f;
        (unmasked, word(image, MXCSR_AT))
    })
}

/// The 32 bits at `at`.
fn word(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
}

const _: () = assert!(FPU_MOST <= PAGE_SIZE);
