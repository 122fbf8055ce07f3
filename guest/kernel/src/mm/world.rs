//! What address spaces need of the world around them: TLB shootdown, bulk work, and telling the broker what
//! became of an attach.

use super::World;
use super::area::{SegmentRef, Window};
use crate::arch::cpu::Cpu;
use crate::arch::{direct, tlb};
use crate::hypercall::{self, Requester};
use abi::Errno;
use abi::hypercall::{BulkEntry, Call};
use abi::object::ObjectStatus;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use paging::{Flush, GuestPhys};

/// Below this many bytes the kernel copies and clears itself even where ring 0 is emulated: a hypercall
/// costs as much as a few dozen instructions.
const SMALL: u64 = 128;

static HOST_COPIES: AtomicBool = AtomicBool::new(false);

/// Whether the host does the bulk work (ring 0 is emulated).
pub fn set_host_copies(on: bool) {
    HOST_COPIES.store(on, Relaxed);
}

/// The world as the process `who` on vCPU `cpu` sees it.
pub struct KernelWorld {
    /// The running vCPU.
    pub cpu: &'static Cpu,
    /// On whose behalf.
    pub who: Requester,
}

impl World for KernelWorld {
    fn flush(&mut self, loaded: u32, flush: &Flush) {
        tlb::flush(self.cpu, loaded, flush);
    }

    fn zero(&mut self, runs: &[(GuestPhys, u64)]) {
        if HOST_COPIES.load(Relaxed) {
            hypercall::bulk(
                Call::Zero,
                runs.iter().map(|&(to, len)| BulkEntry {
                    to: to.get(),
                    from: 0,
                    len,
                }),
            );
        } else {
            for &(to, len) in runs {
                direct::zero(to, len);
            }
        }
    }

    fn copy(&mut self, to: GuestPhys, from: GuestPhys, len: u64) {
        if len > SMALL && HOST_COPIES.load(Relaxed) {
            let piece = BulkEntry {
                to: to.get(),
                from: from.get(),
                len,
            };
            hypercall::bulk(Call::Copy, core::iter::once(piece));
        } else {
            direct::copy(to, from, len);
        }
    }

    fn detached(&mut self, segment: &SegmentRef) {
        let args = [segment.id as u64, segment.window.raw(), 1];
        if let Err(error) = hypercall::call(Call::ShmDetach, self.who, &args) {
            panic!("the broker refuses to detach segment {}: {error}", segment.id);
        }
    }

    fn detached_last(&mut self, segment: &SegmentRef) -> bool {
        let args = [segment.id as u64, segment.window.raw()];
        hypercall::call(Call::ShmDetachLast, self.who, &args).is_ok()
    }

    fn attached_more(&mut self, segment: &SegmentRef) -> Result<(), Errno> {
        let args = [segment.id as u64, segment.window.raw(), 1];
        hypercall::call(Call::ShmAttachMore, self.who, &args).map(|_| ())
    }

    fn punch(&mut self, segment: &SegmentRef, len: u64) -> Result<(), Errno> {
        let args = [segment.id as u64, segment.offset, len];
        hypercall::call(Call::ShmPunch, self.who, &args).map(|_| ())
    }

    fn map_object(
        &mut self,
        serial: u64,
        window: Window,
        offset: u64,
        len: u64,
    ) -> Result<(GuestPhys, u64), Errno> {
        hypercall::call(Call::ObjectMap, self.who, &[serial, window.raw(), offset, len])?;
        let [gpa, size] = hypercall::out();
        Ok((GuestPhys::new(gpa), size))
    }

    fn object_size(&mut self, serial: u64) -> u64 {
        match hypercall::call(Call::ObjectStat, self.who, &[serial]) {
            Ok(_) => hypercall::payload::<ObjectStatus>().size,
            // It is held as long as an area shows it.
            Err(error) => panic!("the broker does not know object {serial}: {error}"),
        }
    }

    fn read_object(&mut self, serial: u64, offset: u64, to: GuestPhys, len: u64) -> Result<(), Errno> {
        hypercall::call(Call::ObjectRead, self.who, &[serial, offset, to.get(), len]).map(|_| ())
    }
}
