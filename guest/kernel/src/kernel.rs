//! Everything the kernel lock guards, and the two ways in: boot, and a trap from ring 3.

use crate::arch::cpu::Cpu;
use crate::arch::entry::TrapFrame;
use crate::arch::lock::{BigLock, Held};
use crate::arch::signal_frame::is_reachable;
use crate::arch::trap::Trap;
use crate::arch::{apic, context, given, machine, probe};
use crate::fs::Files;
use crate::futex::{self, Futexes};
use crate::hypercall::{self, Requester};
use crate::mm::pool::MOST_AREAS;
use crate::mm::space::Lowest;
use crate::mm::world::{self, KernelWorld};
use crate::mm::{Access, AddressSpace, Fault, Memory};
use crate::process::actions::{self, AllActions};
use crate::process::descriptors::{self, AllDescriptors};
use crate::process::ids::Ids;
use crate::process::sched::{self, Scheduler};
use crate::process::signal::queue::Queue;
use crate::process::signal::{SIGKILL, fault};
use crate::process::slots::Slots;
use crate::process::spaces::Spaces;
use crate::process::task::{self, State, Task, Tasks};
use crate::process::{Process, Processes, exit, start};
use crate::timers::Timers;
use crate::{log, process, syscall, time};
use abi::MAX_TASKS;
use abi::boot::{BootFlags, BootInfo};
use abi::hypercall::Call;
use abi::memory::USER_END;
use core::sync::atomic::{AtomicBool, Ordering};
use paging::GuestVirt;

/// The guest's whole state. See [`crate::arch::lock`] for why one lock is enough.
pub struct Kernel {
    /// What the VMM said; set before anything else runs.
    pub boot: Option<&'static BootInfo>,
    /// Frames and areas.
    pub memory: Memory,
    /// Tasks.
    pub tasks: &'static mut Tasks,
    /// Which of them there are.
    pub task_slots: Slots,
    /// Processes.
    pub processes: &'static mut Processes,
    /// Which of them there are.
    pub process_slots: Slots,
    /// What tasks can address.
    pub spaces: Spaces,
    /// What processes do about signals.
    pub actions: AllActions,
    /// What tasks have open.
    pub descriptors: AllDescriptors,
    /// Who runs next.
    pub sched: Scheduler,
    /// Signals that have been sent and not been taken.
    pub signals: Queue,
    /// Timers that send them.
    pub timers: Timers,
    /// Who waits for which word.
    pub futexes: Futexes,
    /// The number that the next byte of shared anonymous memory gets.
    pub shared_bytes: u64,
    /// Files, and what is open.
    pub files: Files,
    /// Tasks that wait for pipes or poll, a bit each; a bit may be out of date.
    pub file_waiters: [u64; MAX_TASKS / 64],
    /// Processes that have not ended.
    pub alive: u32,
    /// Numbers for processes and threads.
    pub ids: Ids,
    /// How many random numbers have been made from the seed.
    pub randoms: u64,
    /// This guest's `boot_id`, once somebody has asked for it.
    pub boot_id: [u8; 16],
    /// vCPUs of this guest.
    pub vcpus: u32,
    /// Root of the kernel's own page tables.
    pub kernel_root: u64,
    /// [`BootInfo::flags`].
    pub flags: BootFlags,
    /// Which unknown system calls have been named in the log, a bit each.
    pub named: [u64; 8],
}

/// The kernel's state, behind its only lock.
pub static KERNEL: BigLock<Kernel> = BigLock::new(Kernel {
    boot: None,
    memory: Memory::empty(),
    tasks: &mut [],
    task_slots: Slots::new(MAX_TASKS),
    processes: &mut [],
    process_slots: Slots::new(MAX_TASKS),
    spaces: Spaces::empty(),
    actions: AllActions::empty(MAX_TASKS),
    descriptors: AllDescriptors::empty(MAX_TASKS + 1),
    sched: Scheduler::new(),
    signals: Queue::empty(),
    timers: Timers::empty(),
    futexes: Futexes::new(),
    shared_bytes: 0,
    files: Files::empty(),
    file_waiters: [0; MAX_TASKS / 64],
    alive: 0,
    ids: Ids::new(),
    randoms: 0,
    boot_id: [0; 16],
    vcpus: 0,
    kernel_root: 0,
    flags: BootFlags::empty(),
    named: [0; 8],
});

static READY: AtomicBool = AtomicBool::new(false);

impl Kernel {
    /// What the VMM said.
    pub fn boot(&self) -> &'static BootInfo {
        self.boot.expect("set before any other code runs")
    }

    /// The process of task `task`.
    pub fn process(&mut self, task: u16) -> &mut Process {
        &mut self.processes[usize::from(self.tasks[usize::from(task)].process)]
    }

    /// Works on the address space of task `task`.
    pub fn with_space<R>(
        &mut self,
        cpu: &'static Cpu,
        task: u16,
        work: impl FnOnce(&mut AddressSpace, &mut Memory, &mut KernelWorld) -> R,
    ) -> R {
        let Task { process, space, .. } = self.tasks[usize::from(task)];
        let process = &self.processes[usize::from(process)];
        let mut world = KernelWorld {
            cpu,
            who: process.requester(),
        };
        let lowest = if process.credentials.is_privileged() {
            Lowest::Zero
        } else {
            Lowest::MinAddr
        };
        let space = &mut self.spaces[space];
        space.lowest = lowest;
        // Rarely: few processes set any.
        if process.limits_set != 0 || space.limits.is_some() {
            space.limits = process.memory_limits();
        }
        work(space, &mut self.memory, &mut world)
    }

    /// Whether nothing of this guest is left when task `task` goes: then what is the guest's alone need not be freed.
    /// Tests that count what is left want it freed all the same.
    pub fn ends_with(&self, task: u16) -> bool {
        let process = &self.processes[usize::from(self.tasks[usize::from(task)].process)];
        self.alive == 1 && process.threads == 1 && !self.flags.contains(BootFlags::TEST_COUNT_TABLES)
    }

    /// Where tests ask for it, tells the host how many frames are free, how many processes live and what else is in use.
    pub fn report_usage(&self) {
        self.report(0);
    }

    /// As [`Kernel::report_usage`], when all processes have ended. The tree is taken down for it; what is left in the
    /// tables of files then has been forgotten, and counts like a frame.
    pub fn report_end(&mut self) {
        self.files.unmount(&mut self.memory);
        self.report(self.files.in_use());
    }

    fn report(&self, left: u64) {
        if !self.flags.contains(BootFlags::TEST_COUNT_TABLES) {
            return;
        }
        let free = self.memory.frames.free_frames().saturating_sub(left);
        let args = [free, u64::from(self.alive)];
        let _ = hypercall::call(Call::Usage, Requester::default(), &args);
        let tables = [
            MOST_AREAS - self.memory.areas.available(),
            self.processes.iter().filter(|process| process.pid != 0).count(),
            self.tasks.iter().filter(|task| task.state != State::Free).count(),
            usize::from(self.files.open.live()),
        ];
        let args = tables.map(|count| count as u64);
        let _ = hypercall::call(Call::Tables, Requester::default(), &args);
    }
}

/// Where every vCPU begins, on its own stack, interrupts off.
pub fn start(boot: u64, index: u32) -> ! {
    let cpu = Cpu::init(index);
    cpu.root.set(machine::page_table());
    apic::init();
    if index == 0 {
        let boot = given::boot_info(boot);
        time::init(boot);
        futex::shared::init(boot.tasks);
        log::init(BootFlags::from_bits_truncate(boot.flags));
        let mut kernel = KERNEL.lock(cpu);
        kernel.boot = Some(boot);
        kernel.tasks = task::ROOM.take().expect("a kernel boots once");
        kernel.processes = process::ROOM.take().expect("a kernel boots once");
        kernel.spaces.init();
        kernel
            .actions
            .init(actions::ROOM.take().expect("a kernel boots once"));
        kernel
            .descriptors
            .init(descriptors::ROOM.take().expect("a kernel boots once"));
        kernel.signals.init();
        kernel.timers.init();
        kernel.vcpus = boot.vcpus;
        kernel.kernel_root = boot.page_table;
        kernel.flags = BootFlags::from_bits_truncate(boot.flags);
        drop(kernel);
        probe::start(cpu, boot.probe);
    }
    while !READY.load(Ordering::Acquire) {
        machine::wait_for_interrupt();
    }
    let frame = sched::next(KERNEL.lock(cpu), cpu);
    crate::arch::switch::resume(frame)
}

/// vCPU 0 goes on here when the boot probe has come back.
fn probed(cpu: &'static Cpu, frame: &TrapFrame) -> *mut TrapFrame {
    let entered = machine::tsc();
    if let Err(vector) = probe::conclude(frame) {
        panic!(
            "the boot probe came back by vector {vector}, error {:#x}, at {:#x}",
            frame.error, frame.rip
        );
    }
    let emulated = probe::ring_0_is_emulated();
    world::set_host_copies(emulated);
    context::set_host_keeps_fpu(emulated);
    let mut kernel = KERNEL.lock(cpu);
    let boot = kernel.boot();
    kernel.memory.init(boot);
    kernel.files.init();
    kernel.sched.init();
    kernel.report_usage();
    let facts = [
        u64::from(emulated),
        u64::from(probe::arrives_in_ring_3()),
        entered,
    ];
    hypercall::call(Call::Ready, Requester::default(), &facts).expect("the VMM knows READY");
    READY.store(true, Ordering::Release);
    for index in 1..boot.vcpus {
        apic::send_reschedule(index);
    }
    start::all(&mut kernel, cpu);
    sched::next(kernel, cpu)
}

/// A trap from ring 3: deals with it, and says which frame to go on with.
pub fn trapped(cpu: &'static Cpu, frame: &mut TrapFrame, trap: Trap) -> *mut TrapFrame {
    let Some(task) = cpu.current_task() else {
        return probed(cpu, frame);
    };
    let mut kernel = KERNEL.lock(cpu);
    match trap {
        // A system call that would return to an address no program can have (see `arch::trap::launder`).
        Trap::Call if !is_reachable(frame.rip) => _ = fault::at_address(&mut kernel, task, frame.rip),
        Trap::Call => syscall::made(&mut kernel, cpu, task, frame),
        Trap::PageFault { address, error } => page_fault(&mut kernel, cpu, task, address, error),
        Trap::Exception => fault::exception(&mut kernel, task, frame),
        Trap::Interrupt => {}
    }
    sched::next(kernel, cpu)
}

fn page_fault(kernel: &mut Held<'static, Kernel>, cpu: &'static Cpu, task: u16, address: u64, error: u64) {
    let access = if error & 0x10 != 0 {
        Access::Execute
    } else if error & 2 != 0 {
        Access::Write
    } else {
        Access::Read
    };
    let answer = if address >= USER_END {
        Err(Fault::NotMapped)
    } else {
        kernel.with_space(cpu, task, |space, memory, world| {
            space.fault(memory, world, GuestVirt::new(address), access)
        })
    };
    debug_assert!(kernel.tasks[usize::from(task)].state == State::Running);
    match answer {
        Ok(()) => {}
        // Linux's out-of-memory killer.
        Err(Fault::OutOfMemory) => exit::group(kernel, cpu, task, SIGKILL),
        Err(why) => fault::page_fault(kernel, task, address, error, why),
    }
}
