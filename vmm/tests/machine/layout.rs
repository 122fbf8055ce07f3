//! What the VMM lays out in a guest's RAM, checked against the contract without running it.

use crate::{guest, kernels};
use abi::PAGE_SIZE;
use abi::boot::{
    BOOT_MAGIC, BootFile, BootInfo, BootProcess, TABLES_GDT, TABLES_TSS, TSS_IST1, TSS_LEN, TSS_RSP0,
    VECTORS, selector,
};
use abi::clock::ClockPage;
use abi::memory::{
    DIRECT_MAP, KERNEL_GPA, KERNEL_VIRT, RAM_HOLE_END, RAM_HOLE_START, VCPU_AREAS, VCPU_END, VCPU_IST,
    VCPU_IST_TOP, VCPU_STACK, VCPU_STACK_TOP, VCPU_STRIDE, VCPU_TABLES, WindowLayout,
};
use paging::{GuestPhys, GuestVirt, LARGE_PAGE_SIZE, Leaf, Rights, for_each_leaf, lookup};
use std::collections::BTreeSet;
use std::sync::Arc;
use tombolo::boot::{IDT_LEN, Loaded, PROBE_VIRT, Plan, TREE_ID, load};
use tombolo::clock::Clock;
use tombolo::config::GuestConfig;
use tombolo::guest_file::GuestFile;
use tombolo::image::{KernelImage, VDSO};
use tombolo::memory::GuestRam;
use zerocopy::{FromBytes, IntoBytes};

const VCPUS: u32 = 3;
/// Files beside the program: a page and a byte, and nothing.
const FILES: [(&str, &[u8]); 2] = [("/etc/data", &[0x5a; 4097]), ("/empty", b"")];

struct Guest {
    ram: GuestRam,
    loaded: Loaded,
    config: GuestConfig,
    clock: Clock,
}

impl Guest {
    fn new(memory: u64) -> Guest {
        let mut config = GuestConfig {
            memory,
            uid: 7,
            gid: 8,
            ..guest(VCPUS)
        };
        config.processes[0].args = vec![b"p".to_vec(), b"".to_vec(), b"two words".to_vec()];
        config.processes[0].env = vec![b"A=1".to_vec(), b"TOMBOLO_PROC=9".to_vec()];
        config.processes.push(config.processes[0].clone());
        for (name, bytes) in FILES {
            let file = GuestFile::from_bytes(name, bytes).unwrap();
            config.files.push(Arc::new(file));
        }
        let kernel = KernelImage::parse(Some(kernels::done())).unwrap();
        let ram = GuestRam::new(memory).unwrap();
        let clock = Clock::read(2_000_000);
        let windows = WindowLayout::new(39, 2);
        let plan = Plan {
            kernel: &kernel,
            guest: 1,
            guests: 2,
            config: &config,
            windows,
            clock,
        };
        let loaded = load(&ram, &plan).unwrap();
        Guest {
            ram,
            loaded,
            config,
            clock,
        }
    }

    fn leaves(&self, start: u64, end: u64) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        let pages = (end.wrapping_sub(start)) / PAGE_SIZE;
        for_each_leaf(
            &self.ram,
            self.loaded.page_table,
            GuestVirt::new(start),
            pages,
            |leaf| leaves.push(leaf),
        );
        leaves
    }

    fn lookup(&self, virt: u64) -> Option<Leaf> {
        lookup(&self.ram, self.loaded.page_table, GuestVirt::new(virt))
    }

    fn bytes(&self, gpa: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0xee; len as usize];
        self.ram.read(GuestPhys::new(gpa), &mut bytes).unwrap();
        bytes
    }

    fn array<T: FromBytes + zerocopy::IntoBytes>(&self, gpa: u64, count: u32) -> Vec<T> {
        let at = |index| GuestPhys::new(gpa + u64::from(index) * size_of::<T>() as u64);
        (0..count)
            .map(|index| self.ram.read_value(at(index)).unwrap())
            .collect()
    }

    fn info(&self) -> BootInfo {
        self.ram.read_value(self.loaded.boot_info).unwrap()
    }

    fn long(&self, virt: u64) -> u64 {
        let leaf = self.lookup(virt).expect("mapped");
        let bytes = self.bytes(leaf.phys.get() + virt % leaf.size, 8);
        u64::from_le_bytes(bytes.try_into().unwrap())
    }
}

#[test]
fn nothing_can_be_written_and_executed() {
    let guest = Guest::new(32 << 20);
    let low = guest.leaves(0, 1 << 47);
    assert_eq!(low.len(), 1, "only the probe page is in the low half");
    assert_eq!(
        (low[0].virt, low[0].rights),
        (PROBE_VIRT, Rights::USER | Rights::EXECUTE)
    );
    assert_eq!(guest.bytes(low[0].phys.get(), 4), [0x0f, 0x05, 0x0f, 0x0b]);
    let high = guest.leaves(DIRECT_MAP, 0);
    assert!(high.len() > 16 + 3 * 12, "kernel, direct map and areas");
    for leaf in &high {
        assert!(!leaf.rights.contains(Rights::USER), "{:#x}", leaf.virt);
        assert!(
            !leaf.rights.contains(Rights::WRITE | Rights::EXECUTE),
            "{:#x}",
            leaf.virt
        );
    }
    let text = guest.lookup(KERNEL_VIRT).unwrap();
    assert_eq!(
        (text.phys, text.rights),
        (GuestPhys::new(KERNEL_GPA), Rights::EXECUTE)
    );
    assert_eq!(
        guest.lookup(KERNEL_VIRT + 0x2000).unwrap().rights,
        Rights::empty()
    );
}

#[test]
fn the_direct_map_shows_all_ram_and_nothing_else() {
    for memory in [32 << 20, RAM_HOLE_START + (6 << 20)] {
        let guest = Guest::new(memory);
        let mut shown = 0;
        for leaf in guest.leaves(DIRECT_MAP, DIRECT_MAP + 2 * RAM_HOLE_END) {
            assert_eq!(leaf.virt.get(), DIRECT_MAP + leaf.phys.get());
            assert_eq!((leaf.size, leaf.rights), (LARGE_PAGE_SIZE, Rights::WRITE));
            assert!(guest.ram.contains(leaf.phys, leaf.size), "{:#x}", leaf.phys);
            shown += leaf.size;
        }
        assert_eq!(shown, memory);
    }
}

#[test]
fn stacks_lie_between_guard_pages() {
    let guest = Guest::new(32 << 20);
    let mut frames = BTreeSet::new();
    for index in 0..u64::from(VCPUS) {
        let area = VCPU_AREAS + index * VCPU_STRIDE;
        for offset in (0..VCPU_STRIDE).step_by(PAGE_SIZE as usize) {
            let inside =
                (VCPU_STACK..VCPU_STACK_TOP).contains(&offset) || (VCPU_IST..VCPU_END).contains(&offset);
            let leaf = guest.lookup(area + offset);
            assert_eq!(leaf.is_some(), inside, "vCPU {index}, offset {offset:#x}");
            if let Some(leaf) = leaf {
                assert!(frames.insert(leaf.phys), "{:#x} is mapped twice", leaf.phys);
                assert!(leaf.phys < guest.loaded.free_start);
            }
        }
        let own = &guest.loaded.areas[index as usize];
        let of = |offset| guest.lookup(area + offset).unwrap().phys;
        assert_eq!(own.hypercall_page(), of(abi::memory::VCPU_HYPERCALL));
        assert_eq!(own.epitaph(), of(abi::memory::VCPU_EPITAPH));
    }
    assert!(
        guest
            .lookup(VCPU_AREAS + u64::from(VCPUS) * VCPU_STRIDE + VCPU_STACK)
            .is_none()
    );
}

#[test]
fn descriptor_tables_lead_to_the_kernels_stubs() {
    let guest = Guest::new(32 << 20);
    for index in 0..u64::from(VCPUS) {
        let area = VCPU_AREAS + index * VCPU_STRIDE;
        let gdt = |selector: u16| guest.long(area + VCPU_TABLES + TABLES_GDT + u64::from(selector & !7));
        let (tss_low, tss_high) = (gdt(selector::TSS), gdt(selector::TSS + 8));
        let base = tss_low >> 16 & 0xff_ffff | tss_low >> 56 << 24 | tss_high << 32;
        assert_eq!(base, area + VCPU_TABLES + TABLES_TSS);
        assert_eq!(tss_low & 0xffff, TSS_LEN - 1);
        let number = gdt(selector::CPU_NUMBER);
        assert_eq!((number & 0xffff, number >> 45 & 7), (index, 7), "{number:#x}");
        // Privilege levels of the segments; L and present of the code segments.
        for (selector, privilege, code) in [
            (selector::KERNEL_CODE, 0, true),
            (selector::KERNEL_DATA, 0, false),
            (selector::USER_DATA, 3, false),
            (selector::USER_CODE, 3, true),
        ] {
            let descriptor = gdt(selector);
            assert_eq!(
                (descriptor >> 45 & 3, descriptor >> 47 & 1),
                (privilege, 1),
                "{selector:#x}"
            );
            assert_eq!(
                (descriptor >> 43 & 1 == 1, descriptor >> 53 & 1 == 1),
                (code, code),
                "{selector:#x}"
            );
        }
        assert_eq!(guest.long(base + TSS_RSP0), area + VCPU_STACK_TOP);
        assert_eq!(guest.long(base + TSS_IST1), area + VCPU_IST_TOP);
        assert!(
            guest.long(base + 0x60) >> 48 >= TSS_LEN - 1,
            "the I/O map lies beyond the limit"
        );
    }
    let idt = guest.bytes(guest.loaded.idt.get(), IDT_LEN as u64);
    for (vector, gate) in idt.chunks(16).enumerate() {
        let low = u64::from_le_bytes(gate[..8].try_into().unwrap());
        let high = u64::from_le_bytes(gate[8..].try_into().unwrap());
        let stub = low & 0xffff | low >> 48 << 16 | high << 32;
        assert_eq!(stub, KERNEL_VIRT + 0x1000 + vector as u64 * 16);
        assert_eq!(low >> 16 & 0xffff, u64::from(selector::KERNEL_CODE));
        let (stack, kind, privilege) = (low >> 32 & 7, low >> 40 & 0x9f, low >> 45 & 3);
        assert_eq!(kind, 0x8e, "vector {vector}: a present interrupt gate");
        assert_eq!(stack, u64::from(vector == 2 || vector == 8), "vector {vector}");
        assert_eq!(
            privilege,
            if vector == 3 || vector == 4 { 3 } else { 0 },
            "vector {vector}"
        );
    }
    assert_eq!(idt.len() / 16, VECTORS);
}

#[test]
fn boot_info_tells_where_everything_is() {
    let guest = Guest::new(32 << 20);
    let info = guest.info();
    assert_eq!((info.magic, info.abi_version), (BOOT_MAGIC, abi::ABI_VERSION));
    assert_eq!(
        (info.guest, info.guests, info.vcpus, info.uid, info.gid),
        (1, 2, VCPUS, 7, 8)
    );
    assert_eq!(info.ram, guest.ram.ranges());
    assert_eq!(
        (info.free_start, info.page_table),
        (guest.loaded.free_start.get(), guest.loaded.page_table.get())
    );
    assert_eq!(info.frame_table.len, (32 << 20) / PAGE_SIZE * 4);
    assert_eq!(
        (info.tsc_khz, info.tree_id, info.probe),
        (2_000_000, TREE_ID, PROBE_VIRT.get())
    );
    assert_ne!(info.seed, Guest::new(32 << 20).info().seed);
    let layout = WindowLayout::new(39, 2);
    assert_eq!(
        (info.window_rw.start, info.window_rw.len),
        (layout.rw_base, layout.size)
    );
    assert_eq!(
        (info.window_ro.start, info.window_ro.len),
        (layout.ro_base, layout.size)
    );
    let mut clock: Vec<ClockPage> = guest.array(info.clock, 1);
    let expected = guest.clock;
    assert_eq!(clock[0].as_mut_bytes(), expected.page().as_mut_bytes());
    let rest = size_of::<ClockPage>() as u64;
    let unused = guest.bytes(info.clock + rest, PAGE_SIZE - rest);
    assert!(
        unused.iter().all(|byte| *byte == 0),
        "programs see the whole page"
    );
    assert_eq!(info.vdso.start % PAGE_SIZE, 0);
    assert_eq!(guest.bytes(info.vdso.start, VDSO.len() as u64), VDSO);
    let end = info.vdso.start + info.vdso.len;
    assert_eq!(
        (info.clock, info.clock + PAGE_SIZE),
        (info.vdso.start + VDSO.len() as u64, end)
    );
    // Half a nanosecond a tick at 2 GHz.
    assert_eq!(expected.mult, 1 << 31);

    let files: Vec<BootFile> = guest.array(info.files, info.file_count);
    assert_eq!(files.len(), 1 + FILES.len(), "both processes run the same file");
    for (file, (name, bytes)) in files[1..].iter().zip(FILES) {
        assert_eq!(file.contents.start % PAGE_SIZE, 0);
        assert_eq!(guest.bytes(file.name.start, file.name.len), name.as_bytes());
        let padded = file.contents.len.next_multiple_of(PAGE_SIZE);
        let mut expected = bytes.to_vec();
        expected.resize(padded as usize, 0);
        assert_eq!(guest.bytes(file.contents.start, padded), expected);
        assert!(file.contents.start + padded <= info.free_start);
    }
    let contents = files[0].contents;
    assert_eq!(contents.start % PAGE_SIZE, 0);
    assert_eq!(
        guest.bytes(contents.start, contents.len),
        guest.config.processes[0].program.bytes()
    );
    let padding = contents.len.next_multiple_of(PAGE_SIZE) - contents.len;
    assert!(
        guest
            .bytes(contents.start + contents.len, padding)
            .iter()
            .all(|byte| *byte == 0)
    );
    assert_eq!(guest.bytes(files[0].name.start, files[0].name.len), b"/p");

    let processes: Vec<BootProcess> = guest.array(info.processes, info.process_count);
    for (index, process) in processes.iter().enumerate() {
        assert_eq!((process.index as usize, process.file), (index, 0));
        let text = String::from_utf8(guest.bytes(process.strings.start, process.strings.len)).unwrap();
        let strings: Vec<&str> = text.split_terminator('\0').collect();
        assert_eq!(strings.len() as u32, process.argc + process.envc);
        assert_eq!(&strings[..process.argc as usize], ["p", "", "two words"]);
        let own = format!("TOMBOLO_PROC={index}");
        let env = [
            "A=1",
            "TOMBOLO_GUEST=1",
            "TOMBOLO_GUESTS=2",
            &own,
            "TOMBOLO_PROCS=2",
        ];
        assert_eq!(&strings[process.argc as usize..], env);
    }
}

#[test]
fn free_frames_and_the_frame_table_are_zero_and_belong_to_nobody() {
    let guest = Guest::new(32 << 20);
    let info = guest.info();
    let end = info.ram[0].len;
    assert!(info.frame_table.start + info.frame_table.len <= info.free_start && info.free_start < end);
    let zero = |start: u64, len: u64| guest.bytes(start, len).iter().all(|byte| *byte == 0);
    assert!(zero(info.free_start, end - info.free_start));
    assert!(zero(info.frame_table.start, info.frame_table.len));
    assert!(zero(0, KERNEL_GPA), "the first 2 MiB are left alone");
}

#[test]
fn a_string_with_a_nul_is_refused() {
    let mut config = guest(1);
    config.processes[0].args.push(b"a\0b".to_vec());
    let kernel = KernelImage::parse(Some(kernels::done())).unwrap();
    let windows = WindowLayout::new(39, 1);
    let plan = Plan {
        kernel: &kernel,
        guest: 0,
        guests: 1,
        config: &config,
        windows,
        clock: Clock::read(1_000_000),
    };
    let error = load(&GuestRam::new(32 << 20).unwrap(), &plan).unwrap_err();
    assert!(error.to_string().contains("holds a NUL"), "{error}");
}
