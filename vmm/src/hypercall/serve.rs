//! Carrying out what a guest asks: the one place where a guest's wishes meet the host.

use super::{Buffer, Bulk, Hypercall, decode};
use crate::boot::Area;
use crate::broker::{Caller, FutexWoken, SegmentService};
use crate::config::Output;
use crate::device::log::GuestLog;
use crate::device::watcher::{Awaited, Watcher};
use crate::device::{stdin::StdinDevice, stdio};
use crate::image::KernelImage;
use crate::inspect::{GuestView, Observer};
use crate::kvm::{FpuStates, Vm, emulated_instructions, fpu};
use crate::ledger::Ledger;
use crate::memory::GuestRam;
use crate::vcpu::kick;
use abi::Errno;
use abi::hypercall::{Call, FPU_MOST, MAX_GROUPS, Request, SLOTS};
use kvm_ioctls::VcpuFd;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// How much is copied or cleared between two looks at whether the guest is to stop, in bytes.
const BULK_STEP: u64 = 4 << 20;

/// All that one guest can ask for. Shared by its vCPUs.
pub struct Service {
    parts: ServiceParts,
    log: GuestLog,
    /// Waits in the guest's place. It goes before the machine does.
    watcher: Watcher,
    fpu: FpuStates,
}

/// What a [`Service`] is made of.
pub struct ServiceParts {
    /// The guest's number.
    pub guest: u32,
    /// Its machine.
    pub vm: Arc<Vm>,
    /// Its kernel, for the names in backtraces.
    pub kernel: Arc<KernelImage>,
    /// Each vCPU's private pages.
    pub areas: Vec<Area>,
    /// The authority on segments.
    pub segments: Arc<dyn SegmentService>,
    /// Where its programs' output goes.
    pub output: Arc<dyn Output>,
    /// What its first process reads.
    pub stdin: StdinDevice,
    /// What is remembered of it.
    pub ledger: Arc<Ledger>,
    /// Who looks on.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Service {
    /// The service of one guest.
    #[must_use]
    pub fn new(parts: ServiceParts) -> Service {
        Service {
            log: GuestLog::new(parts.guest),
            watcher: Watcher::default(),
            fpu: FpuStates::default(),
            parts,
        }
    }

    /// vCPU `vcpu` is about to execute its first instruction on this thread.
    pub(crate) fn vcpu_starts(&self, vcpu: u32) {
        if let Some(observer) = &self.parts.observer {
            observer.vcpu_starts(self.parts.guest, vcpu);
        }
    }

    /// Serves the request in `slot` of vCPU `vcpu`'s page. `None` if there is no such slot: then there is no
    /// place for an answer, and the guest can't go on.
    #[must_use]
    pub fn serve(&self, fd: &VcpuFd, vcpu: u32, slot: u32) -> Option<Call> {
        if slot as usize >= SLOTS {
            return None;
        }
        let place = self
            .area(vcpu)
            .hypercall_page()
            .add(u64::from(slot) * size_of::<Request>() as u64);
        let mut request: Request = self.ram().read_value(place).ok()?;
        let (call, result) = match decode(&request) {
            Ok((call, hypercall)) => (call, self.carry_out(fd, vcpu, &hypercall, &mut request)),
            Err(errno) => (Call::from_raw(request.call).unwrap_or(Call::Nop), Err(errno)),
        };
        request.result = match result {
            Ok(value) => value as i64,
            Err(errno) => errno.to_result(),
        };
        let answer = offset_of!(Request, result)..offset_of!(Request, group_count);
        self.ram()
            .write(place.add(answer.start as u64), &request.as_bytes()[answer])
            .ok()?;
        if matches!(
            call,
            Call::Stdio | Call::ShmControl | Call::ObjectOpen | Call::ObjectStat
        ) {
            self.ram()
                .write(place.add(offset_of!(Request, payload) as u64), &request.payload)
                .ok()?;
        }
        if tracing::enabled!(tracing::Level::TRACE) {
            let (guest, so_far) = (self.parts.guest, emulated_instructions(fd));
            tracing::trace!(guest, vcpu, ?call, args = ?request.args, request.result, ?so_far, "served");
        }
        if let Some(observer) = &self.parts.observer {
            observer.after_hypercall(&GuestView::new(self.ram(), fd), self.parts.guest, call, &request);
        }
        Some(call)
    }

    /// The guest's RAM.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        self.parts.vm.ram()
    }

    /// The guest's number.
    pub(super) fn guest(&self) -> u32 {
        self.parts.guest
    }

    /// The authority on segments and objects.
    pub(super) fn segments(&self) -> &dyn SegmentService {
        &*self.parts.segments
    }

    /// The guest's kernel.
    pub(crate) fn kernel(&self) -> &KernelImage {
        &self.parts.kernel
    }

    /// A vCPU's private pages.
    pub(crate) fn area(&self, vcpu: u32) -> Area {
        self.parts.areas[vcpu as usize]
    }

    fn carry_out(
        &self,
        fd: &VcpuFd,
        vcpu: u32,
        hypercall: &Hypercall,
        request: &mut Request,
    ) -> Result<u64, Errno> {
        let ServiceParts {
            guest,
            ref segments,
            ref ledger,
            ..
        } = self.parts;
        let groups = request.groups;
        let caller = Caller {
            pid: request.pid,
            task: match *hypercall {
                Hypercall::ShmGet { task, .. } => task,
                _ => 0,
            },
            euid: request.euid,
            egid: request.egid,
            groups: &groups[..(request.group_count as usize).min(MAX_GROUPS)],
            memlock: match *hypercall {
                Hypercall::ShmControl { memlock, .. } => memlock,
                _ => None,
            },
        };
        match *hypercall {
            Hypercall::Nop => Ok(0),
            Hypercall::SwitchFpu { keep, load } => self.fpu.switch(fd, keep, load).map(|()| 0),
            Hypercall::SaveFpu { ref into } => self.save_fpu(fd, into),
            Hypercall::LoadFpu { ref from, features } => self.load_fpu(fd, from, features),
            Hypercall::Yield => {
                std::thread::yield_now();
                Ok(0)
            }
            Hypercall::Ready { ring0_emulated } => {
                ledger.kernel_ready(ring0_emulated);
                Ok(0)
            }
            Hypercall::Write {
                descriptor,
                text,
                process,
            } => self.write(descriptor, text, process),
            Hypercall::WriteReady { descriptor } => match self.parts.output.awaited(descriptor) {
                Some(fd) => Err(self.wait_for_room(descriptor, fd)),
                None => Ok(1),
            },
            Hypercall::Read { into } => self.parts.stdin.read(&self.parts.vm, &self.watcher, into),
            Hypercall::ReadReady => self.parts.stdin.ready(&self.parts.vm, &self.watcher),
            Hypercall::Stdio { descriptor, query } => {
                let of_bytes = descriptor == 0 && self.parts.stdin.is_bytes();
                stdio::query(descriptor, of_bytes, query, &mut request.payload)
            }
            Hypercall::ProcessExit {
                index,
                wait_status,
                pid,
            } => ledger.process_ended(index, pid, wait_status).map(|()| 0),
            Hypercall::Log { level, text } => self.log.take(level, &self.bytes(text)?).map(|()| 0),
            Hypercall::Copy(ref bulk) => self.bulk(bulk, true),
            Hypercall::Zero(ref bulk) => self.bulk(bulk, false),
            Hypercall::ProcessStart { index, pid } => ledger.process_started(index, pid).map(|()| 0),
            Hypercall::Random { into } => self.random(into),
            Hypercall::ShmGet { key, size, flags, .. } => segments.shmget(guest, &caller, key, size, flags),
            Hypercall::ShmAttach { id, flags, rooms } => {
                let attached = segments.attach(guest, &caller, id, flags, &rooms)?;
                ledger.attached();
                request.out = [attached.gpa, attached.size];
                Ok(u64::from(attached.key as u32))
            }
            Hypercall::ShmDetach { id, window, count } => {
                segments.detach(guest, &caller, id, window, count).map(|()| 0)
            }
            Hypercall::ShmDetachLast { id, window } => {
                segments.detach_last(guest, &caller, id, window).map(|()| 0)
            }
            Hypercall::ShmControl { id, command, .. } => {
                segments.shmctl(guest, &caller, id, command, &mut request.payload)
            }
            Hypercall::ShmAttachMore { id, window, count } => segments
                .attach_more(guest, &caller, id, window, count)
                .map(|()| 0),
            Hypercall::ShmPunch { id, offset, len } => segments.punch(guest, id, offset, len).map(|()| 0),
            Hypercall::ProcRead { file, offset, into } => {
                if !self.ram().contains(into.gpa, into.len) {
                    return Err(Errno::EFAULT);
                }
                let text = segments.proc_read(guest, file, offset, into.len)?;
                self.ram().write(into.gpa, &text)?;
                Ok(text.len() as u64)
            }
            Hypercall::ProcWrite { setting, text } => {
                segments.proc_write(guest, &caller, setting, &self.bytes(text)?)
            }
            Hypercall::ShmMakerEnded { task } => {
                segments.maker_ended(guest, task);
                Ok(0)
            }
            Hypercall::Tables(tables) => {
                ledger.tables(tables);
                Ok(0)
            }
            Hypercall::Object(ref call) => self.object(&caller, call, request),
            Hypercall::FutexWait(ref wait) => segments.futex_wait(guest, vcpu, wait).map(|()| 0),
            Hypercall::FutexWake(ref wake) => woken(segments.futex_wake(guest, wake)?, request),
            Hypercall::FutexRequeue(ref requeue) => woken(segments.futex_requeue(guest, requeue)?, request),
            Hypercall::FutexCancel { task } => segments.futex_cancel(guest, task).map(u64::from),
            Hypercall::Usage { free_frames } => {
                ledger.usage(free_frames);
                Ok(0)
            }
        }
    }

    pub(super) fn bytes(&self, buffer: Buffer) -> Result<Vec<u8>, Errno> {
        if !self.ram().contains(buffer.gpa, buffer.len) {
            return Err(Errno::EFAULT);
        }
        let mut bytes = vec![0; buffer.len as usize];
        self.ram().read(buffer.gpa, &mut bytes)?;
        Ok(bytes)
    }

    /// The reader of stdout may be as slow as it likes: the guest is told, and waits without its vCPU.
    fn write(&self, descriptor: u32, text: Buffer, process: u32) -> Result<u64, Errno> {
        let bytes = self.bytes(text)?;
        if !self.parts.ledger.knows(process) {
            return Err(Errno::EINVAL);
        }
        let output = &self.parts.output;
        loop {
            match output.write(self.parts.guest, process, descriptor, &bytes) {
                Ok(taken) => return Ok(taken.min(bytes.len()) as u64),
                Err(Errno::EAGAIN) => match output.awaited(descriptor) {
                    Some(fd) => return Err(self.wait_for_room(descriptor, fd)),
                    // There is room again already.
                    None if kick::interrupted() => return Err(Errno::EINTR),
                    None => {}
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the interrupt come when there is room; returns what the guest is told meanwhile.
    fn wait_for_room(&self, descriptor: u32, fd: BorrowedFd<'_>) -> Errno {
        match fd.try_clone_to_owned() {
            Ok(fd) => self.watcher.watch(&self.parts.vm, Awaited::Room(descriptor), fd),
            Err(error) => {
                tracing::error!("waiting for room in descriptor {descriptor}: {error}");
                Errno::EIO
            }
        }
    }

    fn save_fpu(&self, fd: &VcpuFd, into: &[Buffer; 2]) -> Result<u64, Errno> {
        if !into.iter().all(|piece| self.ram().contains(piece.gpa, piece.len)) {
            return Err(Errno::EFAULT);
        }
        let image = fpu::take(fd)?;
        let mut done = 0;
        for piece in into {
            let end = done + piece.len as usize;
            self.ram().write(piece.gpa, &image[done..end])?;
            done = end;
        }
        Ok(0)
    }

    fn load_fpu(&self, fd: &VcpuFd, from: &[Buffer; 2], features: u64) -> Result<u64, Errno> {
        let mut image = [0; FPU_MOST as usize];
        let mut done = 0;
        for piece in from {
            let end = done + piece.len as usize;
            self.ram().read(piece.gpa, &mut image[done..end])?;
            done = end;
        }
        fpu::give(fd, &mut image, done, features).map(|()| 0)
    }

    fn bulk(&self, bulk: &Bulk, copy: bool) -> Result<u64, Errno> {
        for (to, from, len) in bulk.pieces() {
            if !copy {
                self.in_steps(to, len, |done, step| self.ram().zero(to.add(done), step))?;
            } else if from <= to && to.get() - from.get() < len {
                // Overlapping forwards: in one piece, as memmove would.
                self.ram().copy(to, from, len)?;
            } else {
                if !self.ram().contains(from, len) {
                    return Err(Errno::EFAULT);
                }
                self.in_steps(to, len, |done, step| {
                    self.ram().copy(to.add(done), from.add(done), step)
                })?;
            }
        }
        Ok(0)
    }

    fn in_steps(
        &self,
        to: paging::GuestPhys,
        len: u64,
        step: impl Fn(u64, u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if !self.ram().contains(to, len) {
            return Err(Errno::EFAULT);
        }
        let mut done = 0;
        while done < len && !kick::interrupted() {
            let now = (len - done).min(BULK_STEP);
            step(done, now)?;
            done += now;
        }
        Ok(())
    }

    fn random(&self, into: Buffer) -> Result<u64, Errno> {
        let mut bytes = [0u8; abi::PAGE_SIZE as usize];
        let bytes = bytes.get_mut(..into.len as usize).ok_or(Errno::EINVAL)?;
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) if !kick::interrupted() => {}
                Err(_) => return Err(Errno::EAGAIN),
            }
        }
        self.ram().write(into.gpa, bytes)?;
        Ok(0)
    }
}

/// The answer to a wake-up.
fn woken(woken: FutexWoken, request: &mut Request) -> Result<u64, Errno> {
    request.out = [u64::from(woken.own), 0];
    Ok(woken.count)
}
