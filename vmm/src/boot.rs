//! Puts a guest into its RAM: kernel, page tables, descriptor tables, programs and [`BootInfo`].
//!
//! The contract is `abi::boot` and `abi::memory`, to the letter. Everything is laid out by the host, because a
//! loop in ring 0 is dear on the software KVM. RAM is fresh, so what is not written is zero. [`load`] is the
//! way in; [`Loaded`] says where a vCPU finds what it starts with (`vcpu::regs` turns it into registers).
//!
//! From [`KERNEL_GPA`](abi::memory::KERNEL_GPA) upward: image, then page by page what [`Frames`] hands out.

mod descriptors;
mod strings;
mod tables;

use crate::clock::Clock;
use crate::config::GuestConfig;
use crate::error::VmmError;
use crate::image::{KernelImage, Program, VDSO};
use crate::memory::GuestRam;
use abi::boot::{BOOT_MAGIC, BootFile, BootInfo, BootProcess, GpaRange};
use abi::memory::{VCPU_EPITAPH, VCPU_HYPERCALL, WindowLayout};
use abi::tasks::TaskPage;
use abi::{ABI_VERSION, PAGE_SIZE};
use paging::GuestPhys;
use std::sync::Arc;
use zerocopy::IntoBytes;

pub use descriptors::IDT_LEN;
pub use tables::{PROBE_VIRT, direct};

/// Where `st_dev` and `st_ino` of the directories start that all guests of all groups agree on. `ftok` uses the
/// low bits of both, so keys made by it are the same in every run.
pub const TREE_ID: u64 = 0x2a;

/// What is put into a guest.
pub struct Plan<'a> {
    /// The kernel to boot.
    pub kernel: &'a KernelImage,
    /// The guest's number in its group.
    pub guest: u32,
    /// Guests in the group.
    pub guests: u32,
    /// Its configuration, checked.
    pub config: &'a GuestConfig,
    /// Where its windows lie.
    pub windows: WindowLayout,
    /// The group's clock.
    pub clock: Clock,
}

/// Where things lie in a guest that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Root of the boot page tables.
    pub page_table: GuestPhys,
    /// The [`BootInfo`].
    pub boot_info: GuestPhys,
    /// The IDT, shared by all vCPUs and reached through the direct map.
    pub idt: GuestPhys,
    /// The [`TaskPage`].
    pub tasks: GuestPhys,
    /// First free frame.
    pub free_start: GuestPhys,
    /// Each vCPU's private pages.
    pub areas: Vec<Area>,
}

/// A vCPU's private pages, guest-physical: they are contiguous there, guard pages left out.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// The kernel stack's lowest page.
    pub(crate) stack: GuestPhys,
    /// The page that starts at [`abi::memory::VCPU_IST`].
    pub(crate) upper: GuestPhys,
}

impl Area {
    /// The page of hypercall slots.
    #[must_use]
    pub fn hypercall_page(&self) -> GuestPhys {
        self.upper.add(VCPU_HYPERCALL - abi::memory::VCPU_IST)
    }

    /// The epitaph's page.
    #[must_use]
    pub fn epitaph(&self) -> GuestPhys {
        self.upper.add(VCPU_EPITAPH - abi::memory::VCPU_IST)
    }
}

/// Hands out the frames after the kernel image, in order.
struct Frames {
    next: u64,
    end: u64,
}

impl Frames {
    /// Room for `bytes` bytes, page-aligned; `None` when RAM (below the hole) is used up.
    fn take(&mut self, bytes: u64) -> Option<GuestPhys> {
        let start = self.next;
        let end = start.checked_add(bytes)?.checked_next_multiple_of(PAGE_SIZE)?;
        if end > self.end {
            return None;
        }
        self.next = end;
        Some(GuestPhys::new(start))
    }
}

/// Lays out a guest in `ram`.
///
/// # Errors
/// [`VmmError::Config`] if kernel and programs do not fit, or a string holds a NUL.
pub fn load(ram: &GuestRam, plan: &Plan<'_>) -> Result<Loaded, VmmError> {
    let too_small = || {
        let mut programs: Vec<*const Program> = plan
            .config
            .processes
            .iter()
            .map(|process| Arc::as_ptr(&process.program))
            .collect();
        programs.sort_unstable();
        programs.dedup();
        VmmError::Config(format!(
            "guest {}: {} bytes of memory are too little for its kernel, {} program file(s) and {} other file(s)",
            plan.guest,
            plan.config.memory,
            programs.len(),
            plan.config.files.len()
        ))
    };
    let strings = strings::collect(plan)?;
    let mut loader = Loader {
        ram,
        frames: Frames {
            next: plan.kernel.end().get(),
            end: ram.ranges()[0].len,
        },
    };
    loader.load(plan, &strings).ok_or_else(too_small)
}

/// The one reason why its methods fail (`None`) is that RAM is used up.
struct Loader<'a> {
    ram: &'a GuestRam,
    frames: Frames,
}

impl Loader<'_> {
    fn load(&mut self, plan: &Plan<'_>, strings: &[strings::Strings]) -> Option<Loaded> {
        for segment in plan.kernel.segments() {
            self.write(segment.phys, plan.kernel.contents(segment))?;
        }
        let mut areas = Vec::new();
        for _ in 0..plan.config.vcpus {
            areas.push(self.area()?);
        }
        let probe = self.put(&tables::PROBE_CODE)?;
        let idt = self.put(&descriptors::idt(plan.kernel.header()))?;
        for (index, area) in areas.iter().enumerate() {
            let tables = descriptors::tables_page(index as u64);
            self.write(
                area.upper.add(abi::memory::VCPU_TABLES - abi::memory::VCPU_IST),
                &tables,
            )?;
        }
        let page_table = tables::build(self.ram, &mut self.frames, plan.kernel, &areas, probe)?;
        let (files, file_count, processes) = self.programs(plan, strings)?;
        let (vdso, clock) = self.vdso(plan)?;
        let frame_table_len = self
            .ram
            .ranges()
            .iter()
            .map(|range| range.len / PAGE_SIZE * 4)
            .sum();
        let frame_table = GpaRange {
            start: self.frames.take(frame_table_len)?.get(),
            len: frame_table_len,
        };
        let tasks = self.frames.take(size_of::<TaskPage>() as u64)?;
        let boot_info = self.frames.take(size_of::<BootInfo>() as u64)?;
        let mut seed = [0u64; 4];
        // A host without enough randomness yet only means a weaker seed; the kernel mixes in its TSC.
        let _ = rustix::rand::getrandom(seed.as_mut_bytes(), rustix::rand::GetRandomFlags::empty());
        let info = BootInfo {
            magic: BOOT_MAGIC,
            abi_version: ABI_VERSION,
            guest: plan.guest,
            guests: plan.guests,
            vcpus: plan.config.vcpus,
            flags: plan.config.flags.bits(),
            ram: self.ram.ranges(),
            free_start: self.frames.next,
            frame_table,
            page_table: page_table.get(),
            window_rw: GpaRange {
                start: plan.windows.rw_base,
                len: plan.windows.size,
            },
            window_ro: GpaRange {
                start: plan.windows.ro_base,
                len: plan.windows.size,
            },
            tsc_khz: plan.clock.tsc_khz,
            clock,
            files: files.get(),
            file_count,
            process_count: strings.len() as u32,
            processes: processes.get(),
            probe: PROBE_VIRT.get(),
            seed,
            uid: plan.config.uid,
            gid: plan.config.gid,
            tree_id: TREE_ID,
            vdso,
            tasks: tasks.get(),
        };
        self.write(boot_info, info.as_bytes())?;
        Some(Loaded {
            page_table,
            boot_info,
            idt,
            tasks,
            free_start: GuestPhys::new(self.frames.next),
            areas,
        })
    }

    fn area(&mut self) -> Option<Area> {
        use abi::memory::{VCPU_END, VCPU_IST, VCPU_STACK, VCPU_STACK_TOP};
        Some(Area {
            stack: self.frames.take(VCPU_STACK_TOP - VCPU_STACK)?,
            upper: self.frames.take(VCPU_END - VCPU_IST)?,
        })
    }

    /// The vDSO and behind it the clock page: where both lie, and where the latter does.
    fn vdso(&mut self, plan: &Plan<'_>) -> Option<(GpaRange, u64)> {
        let mut bytes = VDSO.to_vec();
        bytes.extend_from_slice(plan.clock.page().as_mut_bytes());
        bytes.resize(VDSO.len() + PAGE_SIZE as usize, 0);
        let vdso = self.put_range(&bytes)?;
        Some((vdso, vdso.start + VDSO.len() as u64))
    }

    /// Files, then processes: where their arrays lie. Programs come first; processes that run the same [`Program`]
    /// share its pages.
    fn programs(
        &mut self,
        plan: &Plan<'_>,
        strings: &[strings::Strings],
    ) -> Option<(GuestPhys, u32, GuestPhys)> {
        let mut known: Vec<&Arc<Program>> = Vec::new();
        let mut files = Vec::new();
        let mut processes = Vec::new();
        for (index, (process, strings)) in plan.config.processes.iter().zip(strings).enumerate() {
            let file = match known
                .iter()
                .position(|program| Arc::ptr_eq(program, &process.program))
            {
                Some(file) => file,
                None => {
                    known.push(&process.program);
                    let contents = self.put_range(process.program.bytes())?;
                    files.push(BootFile {
                        contents,
                        name: self.put_range(process.program.name())?,
                    });
                    files.len() - 1
                }
            };
            processes.push(BootProcess {
                strings: self.put_range(&strings.bytes)?,
                argc: strings.argc,
                envc: strings.envc,
                file: file as u32,
                index: index as u32,
            });
        }
        for file in &plan.config.files {
            files.push(BootFile {
                contents: self.put_range(file.bytes())?,
                name: self.put_range(file.name())?,
            });
        }
        Some((
            self.put(files.as_bytes())?,
            files.len() as u32,
            self.put(processes.as_bytes())?,
        ))
    }

    /// Writes to pages of its own.
    fn put(&mut self, bytes: &[u8]) -> Option<GuestPhys> {
        let place = self.frames.take(bytes.len() as u64)?;
        self.write(place, bytes)?;
        Some(place)
    }

    fn put_range(&mut self, bytes: &[u8]) -> Option<GpaRange> {
        Some(GpaRange {
            start: self.put(bytes)?.get(),
            len: bytes.len() as u64,
        })
    }

    fn write(&self, place: GuestPhys, bytes: &[u8]) -> Option<()> {
        self.ram.write(place, bytes).ok()
    }
}
