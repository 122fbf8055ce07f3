//! A segment by a splice into a window, as Tombolo does it, against a KVM memory slot for each segment, as one might have
//! done it. In a virtual machine of its own, whose one vCPU runs all the time; nothing touches the segments.

use super::figures::Run;
use super::plan::{Extent, Group, Place};
use super::{Findings, start};
use anyhow::{Context, Result, anyhow};
use paging::GuestPhys;
use rustix::fd::AsFd;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tombolo::kvm::{KvmHost, RAM_SLOTS, Vm, WindowSlots};
use tombolo::memory::GuestRam;
use tombolo::vcpu::kick::Kick;
use tombolo::window::{SlotRegistrar, Window, WindowKind};

/// RAM of the machine: tables and an instruction.
const RAM: u64 = 2 << 20;
/// Bytes of a segment.
const SEGMENT: u64 = 64 << 10;
/// Where windows lie, and how large each is: room for all segments.
const WINDOWS: abi::memory::WindowLayout = abi::memory::WindowLayout {
    rw_base: 4 << 30,
    ro_base: 8 << 30,
    size: 4 << 30,
};
/// Where segments with slots of their own lie.
const SLOTS_BASE: u64 = 16 << 30;
/// How many are timed before each of the numbers that are told.
const LAST: usize = 16;

/// How many segments there are at most.
pub(super) fn most(extent: Extent) -> usize {
    match extent {
        Extent::Quick => 256,
        Extent::Full => 4096,
    }
}

/// Measures both ways, alternating, so many times.
///
/// # Errors
/// KVM's or the host's.
pub(super) fn measure(extent: Extent, findings: &mut Findings) -> Result<()> {
    let rounds = match extent {
        Extent::Quick => 1,
        Extent::Full => 5,
    };
    for _ in 0..rounds {
        by_splices(most(extent), findings)?;
        by_slots(most(extent), findings)?;
    }
    let median = |findings: &Findings, name: &str| {
        let figure = findings.figures.iter().find(|figure| figure.name == name);
        figure.and_then(|figure| figure.median(Place::OneGuest))
    };
    for step in ["in", "out"] {
        let numbers = counts(most(extent)).map(|count| {
            let slot = median(findings, &format!("slot {step}, {count} segments"));
            let splice = median(findings, &format!("splice {step}, {count} segments"));
            slot.zip(splice)
                .map(|(slot, splice)| format!("{:.1} ({count})", slot / splice))
        });
        let numbers: Vec<String> = numbers.flatten().collect();
        let note = format!(
            "a slot takes so many times as long as a splice, {step} (segments): {}",
            numbers.join(", ")
        );
        findings.notes.push((Group::Splice, note));
    }
    Ok(())
}

/// The numbers of segments that are told.
fn counts(most: usize) -> impl Iterator<Item = usize> {
    (2..)
        .map(|power| 4usize.pow(power))
        .take_while(move |&count| count <= most)
}

/// A machine whose vCPU jumps to itself.
struct Spinning {
    vm: Arc<Vm>,
    kick: Arc<Kick>,
    thread: Option<JoinHandle<()>>,
}

impl Spinning {
    fn start() -> Result<Spinning> {
        let host = KvmHost::open()?;
        let vm = Arc::new(host.create_vm(GuestRam::new(RAM)?)?);
        let mut vcpu = host.create_vcpu(&vm, 0, 1)?;
        // The first 2 MiB, mapped as they are.
        const PRESENT_WRITABLE: u64 = 3;
        const LARGE: u64 = 1 << 7;
        const CODE: u64 = 0x8000;
        for (at, entry) in [
            (0x1000, 0x2000 | PRESENT_WRITABLE),
            (0x2000, 0x3000 | PRESENT_WRITABLE),
            (0x3000, LARGE | PRESENT_WRITABLE),
        ] {
            put(&vm, at, &u64::to_le_bytes(entry))?;
        }
        // jmp to itself
        put(&vm, CODE, &[0xeb, 0xfe])?;
        let mut special = vcpu.get_sregs().context("KVM_GET_SREGS")?;
        // PE and PG; PAE; LME and LMA: 64-bit mode (SDM vol. 3, 11.8.5).
        (special.cr0, special.cr3, special.cr4, special.efer) = (0x8000_0001, 0x1000, 0x20, 0x500);
        special.cs.base = 0;
        special.cs.selector = 8;
        (special.cs.type_, special.cs.s, special.cs.present) = (11, 1, 1);
        (special.cs.l, special.cs.db, special.cs.g, special.cs.limit) = (1, 0, 1, u32::MAX);
        vcpu.set_sregs(&special).context("KVM_SET_SREGS")?;
        let mut general = vcpu.get_regs().context("KVM_GET_REGS")?;
        (general.rip, general.rflags, general.rsp) = (CODE, 2, CODE);
        vcpu.set_regs(&general).context("KVM_SET_REGS")?;
        let kick = Kick::new()?;
        let stopping = Arc::clone(&kick);
        let thread = std::thread::Builder::new()
            .name("spinning vCPU".into())
            .spawn(move || {
                let _running = stopping.enter(&mut vcpu);
                while !stopping.stopping() {
                    // A jump to itself has no exits: it comes out with EINTR when it is kicked. Anything else is its end.
                    match vcpu.run() {
                        Err(error) if error.errno() == libc::EINTR => vcpu.set_kvm_immediate_exit(0),
                        _ => break,
                    }
                }
            });
        Ok(Spinning {
            vm,
            kick,
            thread: Some(thread.context("a thread for the vCPU")?),
        })
    }

    /// # Errors
    /// The vCPU has stopped: then nothing ran while it was measured.
    fn still_runs(&self) -> Result<()> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(anyhow!("the vCPU did not run")),
        }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() {
                self.kick.stop();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let _ = thread.join();
        }
    }
}

fn put(vm: &Vm, at: u64, bytes: &[u8]) -> Result<()> {
    vm.ram()
        .write(GuestPhys::new(at), bytes)
        .map_err(|errno| anyhow!("RAM of the machine: {errno}"))
}

fn by_splices(most: usize, findings: &mut Findings) -> Result<()> {
    let machine = Spinning::start()?;
    let slots = Box::new(WindowSlots(Arc::clone(&machine.vm)));
    let mut window = Window::new(WINDOWS, RAM_SLOTS, slots).context("address space for windows")?;
    let segment = memfd_create("tombolo-bench", MemfdFlags::CLOEXEC).context("a memfd")?;
    ftruncate(&segment, SEGMENT).context("a memfd's size")?;
    let mut places = Vec::new();
    let pages = SEGMENT / abi::PAGE_SIZE;
    time_all("splice", most, findings, |coming, nth| {
        if coming {
            let place = window.splice(WindowKind::ReadWrite, segment.as_fd(), pages, abi::PAGE_SIZE);
            places.push(place.map_err(|errno| anyhow!("a splice: {errno}"))?);
        } else {
            let gone = window.unsplice(WindowKind::ReadWrite, places[nth]);
            gone.map_err(|errno| anyhow!("the end of a splice: {errno}"))?;
        }
        Ok(())
    })?;
    machine.still_runs()?;
    drop(machine);
    Ok(())
}

fn by_slots(most: usize, findings: &mut Findings) -> Result<()> {
    // What every slot shows; it goes after the machine.
    let memory = GuestRam::new(abi::LARGE_PAGE_SIZE)?;
    let shown = memory.slots().next().context("memory of a segment")?.host;
    let machine = Spinning::start()?;
    let slots = WindowSlots(Arc::clone(&machine.vm));
    time_all("slot", most, findings, |coming, nth| {
        let at = GuestPhys::new(SLOTS_BASE + nth as u64 * SEGMENT);
        // Without a length a slot is deleted (KVM's api.rst, KVM_SET_USER_MEMORY_REGION).
        let len = if coming { SEGMENT } else { 0 };
        slots
            .register(RAM_SLOTS + nth as u32, at, shown, len, false)
            .context("a memory slot")
    })?;
    machine.still_runs()?;
    drop((slots, machine));
    drop(memory);
    Ok(())
}

/// Brings so many segments in, then out, the last first, and tells how long the last few took at each number.
fn time_all(
    way: &str,
    most: usize,
    findings: &mut Findings,
    mut step: impl FnMut(bool, usize) -> Result<()>,
) -> Result<()> {
    for coming in [true, false] {
        let mut times = vec![0; most];
        for turn in 0..most {
            let nth = if coming { turn } else { most - 1 - turn };
            let began = Instant::now();
            step(coming, nth)?;
            times[nth] = began.elapsed().as_nanos() as u64 * 1000;
        }
        let direction = if coming { "in" } else { "out" };
        for count in counts(most) {
            let mut last = times[count - LAST..count].to_vec();
            last.sort_unstable();
            let run = Run {
                least: last[0],
                median: last[LAST / 2],
                p99: last[LAST - 1],
                samples: LAST as u64,
            };
            let name = format!("{way} {direction}, {count} segments");
            start::add(findings, Group::Splice, &name, Place::OneGuest, run);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_segments_are_powers_of_four() {
        assert_eq!(counts(4096).collect::<Vec<_>>(), [16, 64, 256, 1024, 4096]);
        assert_eq!(counts(most(Extent::Quick)).last(), Some(256));
    }

    #[test]
    fn a_splice_and_a_slot_come_and_go_while_a_vcpu_runs() {
        let mut findings = super::super::show::tests::findings();
        findings.figures.clear();
        by_splices(16, &mut findings).unwrap();
        by_slots(16, &mut findings).unwrap();
        let names: Vec<&str> = findings
            .figures
            .iter()
            .map(|figure| figure.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "splice in, 16 segments",
                "splice out, 16 segments",
                "slot in, 16 segments",
                "slot out, 16 segments"
            ]
        );
    }
}
