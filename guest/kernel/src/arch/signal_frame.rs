//! What a handler finds on its stack, and what rt_sigreturn(2) takes back from there: Linux's `rt_sigframe` for
//! x86-64, so that programs and libraries that look into it (or unwind through it) work.
//!
//! ```text
//!   interrupted stack pointer
//!     128 bytes    the red zone, which belongs to the interrupted function (System V ABI for x86-64, 3.2.2)
//!   fpu            64-aligned: see `signal_fpu`
//!   info           siginfo_t, if SA_SIGINFO
//!   context        ucontext_t: registers, blocked signals, signal stack
//!   restorer       where the handler returns to: the C library's `syscall` of rt_sigreturn
//!   handler's stack pointer, 8 below a multiple of 16 as after a CALL
//! ```
//!
//! A frame comes back as a program's word: [`UserContext::restore`] takes nothing from it that a program could not have put
//! into its registers itself.
//!
//! Sources: arch/x86/kernel/signal_64.c, uapi/asm/sigcontext.h and asm/ucontext.h of Linux for the layout.

use super::context::{FPU_LEN, RFLAGS_INITIAL, RFLAGS_USER};
use super::entry::TrapFrame;
use crate::process::signal::info::USER_SIZE;
use crate::process::signal::stack::SignalStack;
use abi::boot::selector::{USER_CODE, USER_DATA};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const RED_ZONE: u64 = 128;
/// `uc_flags`: SS is in the frame (UC_SIGCONTEXT_SS), and to be taken back as it is (UC_STRICT_RESTORE_SS).
const HAS_SS: u64 = 2;
/// The FPU's state is an image of XSAVE (UC_FP_XSTATE).
const HAS_XSTATE: u64 = 1;
const STRICT_SS: u64 = 4;

const FLAG_TRAP: u64 = 1 << 8;
const FLAG_DIRECTION: u64 = 1 << 10;
const FLAG_RESUME: u64 = 1 << 16;
const FLAG_NESTED: u64 = 1 << 14;
const FLAG_ID: u64 = 1 << 21;
/// Flags that come back from a frame (`FIX_EFLAGS`): all a program may change, but NT and ID; and RF, which the CPU
/// sets in what it saves for a fault.
const FLAGS_RESTORED: u64 = RFLAGS_USER & !(FLAG_NESTED | FLAG_ID) | FLAG_RESUME;

/// The last fault of a thread; every frame tells it, whatever its signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastFault {
    /// Its vector.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// The address of the last page fault.
    pub address: u64,
}

impl LastFault {
    /// There was none.
    pub const NONE: LastFault = LastFault {
        vector: 0,
        error: 0,
        address: 0,
    };
}

/// `struct sigcontext`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Registers {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpu: u64,
    reserved: [u64; 8],
}

/// `struct ucontext`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UserContext {
    flags: u64,
    link: u64,
    /// The thread's signal stack.
    pub stack: SignalStack,
    registers: Registers,
    /// Its blocked signals.
    pub mask: u64,
}

/// `struct rt_sigframe`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Frame {
    restorer: u64,
    /// What is restored when the handler returns.
    pub context: UserContext,
    /// What came with the signal.
    pub info: [u8; USER_SIZE],
}

const _: () = assert!(size_of::<Frame>() == 440);
/// Where a frame's context begins: at rt_sigreturn(2) the stack pointer, for the handler's return has popped what lies
/// before.
const CONTEXT_AT: u64 = 8;
const INFO_AT: u64 = CONTEXT_AT + size_of::<UserContext>() as u64;

/// How the FPU's state lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FpuForm {
    /// As FXSAVE leaves it.
    Legacy,
    /// An image of XSAVE, so many bytes with what is around it.
    Extended(u64),
}

impl FpuForm {
    /// Bytes.
    pub const fn len(self) -> u64 {
        match self {
            FpuForm::Legacy => FPU_LEN as u64,
            FpuForm::Extended(len) => len,
        }
    }
}

/// Where the two parts of a frame go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of [`Frame`].
    pub frame: u64,
    /// Of the FPU's state.
    pub fpu: u64,
    /// How that lies there.
    pub form: FpuForm,
}

impl Place {
    /// For a thread with stack pointer `sp`. A handler that `wants_stack` (SA_ONSTACK) gets `stack`, if it is set and
    /// not in use. `None` if the frame would not fit on it: a thread that has used it up is not to write elsewhere.
    pub fn new(sp: u64, stack: &SignalStack, wants_stack: Option<OnStack>, form: FpuForm) -> Option<Place> {
        let below = sp.wrapping_sub(RED_ZONE);
        let top = wants_stack.and_then(|OnStack| stack.top_for(below));
        let confined = top.is_some() || stack.is_in_use(sp);
        let fpu = top.unwrap_or(below).wrapping_sub(form.len()) & !63;
        let frame = (fpu.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
        (!confined || stack.holds(frame)).then_some(Place { frame, fpu, form })
    }
}

/// A handler was set up with SA_ONSTACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnStack;

/// A frame that can't be returned to: SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Whether a program could be at `rip`: whoever returns to another address with IRET faults in ring 0.
pub fn is_reachable(rip: u64) -> bool {
    rip >> 47 == 0
}

impl Frame {
    /// The frame of a thread with these registers.
    pub fn new(
        registers: &TrapFrame,
        fault: &LastFault,
        stack: SignalStack,
        mask: u64,
        place: &Place,
        restorer: u64,
    ) -> Frame {
        let xstate = match place.form {
            FpuForm::Legacy => 0,
            FpuForm::Extended(_) => HAS_XSTATE,
        };
        Frame {
            restorer,
            context: UserContext {
                flags: HAS_SS | STRICT_SS | xstate,
                link: 0,
                stack,
                registers: Registers::of(registers, fault, mask, place.fpu),
                mask,
            },
            info: [0; USER_SIZE],
        }
    }

    /// The bytes of a handler that has not asked for siginfo: what is in its place stays as it is.
    pub fn without_info(&self) -> &[u8] {
        &self.as_bytes()[..INFO_AT as usize]
    }

    /// Sends `registers` into the handler at `handler` for `signal`, whose frame is at `place`.
    pub fn enter(registers: &mut TrapFrame, place: &Place, signal: u32, handler: u64) {
        registers.rdi = u64::from(signal);
        // A handler without a prototype may look at AL (System V ABI for x86-64, 3.2.3: vector registers used).
        registers.rax = 0;
        registers.rsi = place.frame + INFO_AT;
        registers.rdx = place.frame + CONTEXT_AT;
        registers.rip = handler;
        registers.rsp = place.frame;
        registers.rflags &= !(FLAG_DIRECTION | FLAG_RESUME | FLAG_TRAP);
    }
}

impl Registers {
    fn of(from: &TrapFrame, fault: &LastFault, mask: u64, fpu: u64) -> Registers {
        Registers {
            r8: from.r8,
            r9: from.r9,
            r10: from.r10,
            r11: from.r11,
            r12: from.r12,
            r13: from.r13,
            r14: from.r14,
            r15: from.r15,
            rdi: from.rdi,
            rsi: from.rsi,
            rbp: from.rbp,
            rbx: from.rbx,
            rdx: from.rdx,
            rax: from.rax,
            rcx: from.rcx,
            rsp: from.rsp,
            rip: from.rip,
            rflags: from.rflags,
            cs: from.cs as u16,
            ss: from.ss as u16,
            error: fault.error,
            vector: fault.vector,
            old_mask: mask,
            cr2: fault.address,
            fpu,
            ..Registers::default()
        }
    }
}

impl UserContext {
    /// Where its FPU's state is; 0 if it has none, which stands for that of a new program.
    pub fn fpu(&self) -> u64 {
        self.registers.fpu
    }

    /// Takes the registers back. Segments are the kernel's choice, and flags such as a program can have; whether it can
    /// be at that address ([`is_reachable`]) is still to be seen.
    ///
    /// # Errors
    /// [`BadFrame`] where it asks for other segments. All other registers are taken even then, as on Linux, where the return
    /// itself fails.
    pub fn restore(&self, registers: &mut TrapFrame) -> Result<(), BadFrame> {
        let from = &self.registers;
        *registers = TrapFrame {
            r15: from.r15,
            r14: from.r14,
            r13: from.r13,
            r12: from.r12,
            rbp: from.rbp,
            rbx: from.rbx,
            r11: from.r11,
            r10: from.r10,
            r9: from.r9,
            r8: from.r8,
            rax: from.rax,
            rcx: from.rcx,
            rdx: from.rdx,
            rsi: from.rsi,
            rdi: from.rdi,
            vector: registers.vector,
            error: registers.error,
            rip: from.rip,
            cs: u64::from(USER_CODE),
            rflags: registers.rflags & !FLAGS_RESTORED | from.rflags & FLAGS_RESTORED | RFLAGS_INITIAL,
            rsp: from.rsp,
            ss: u64::from(USER_DATA),
        };
        // Before there was STRICT_SS, programs came that leave SS alone, or set it to nothing (DOSEMU, CRIU).
        let ss_is_ours = self.flags & STRICT_SS == 0 || from.ss | 3 == USER_DATA;
        if from.cs | 3 == USER_CODE && ss_is_ours {
            Ok(())
        } else {
            Err(BadFrame)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;
    use proptest::prelude::*;

    const STACK_TOP: u64 = 0x7fff_0000_1230;

    fn set(base: u64, size: u64) -> SignalStack {
        let wanted = SignalStack {
            base,
            size,
            ..SignalStack::NONE
        };
        SignalStack::NONE.changed(wanted, 0).expect("a good stack")
    }

    #[test]
    fn fields_lie_where_the_c_library_has_them() {
        let registers = offset_of!(UserContext, registers);
        assert_eq!(registers, offset_of!(libc::ucontext_t, uc_mcontext));
        assert_eq!(
            offset_of!(UserContext, stack),
            offset_of!(libc::ucontext_t, uc_stack)
        );
        assert_eq!(
            offset_of!(UserContext, mask),
            offset_of!(libc::ucontext_t, uc_sigmask)
        );
        let at = |register: i32| register as usize * 8;
        for (ours, theirs) in [
            (offset_of!(Registers, r8), libc::REG_R8),
            (offset_of!(Registers, r15), libc::REG_R15),
            (offset_of!(Registers, rdi), libc::REG_RDI),
            (offset_of!(Registers, rbx), libc::REG_RBX),
            (offset_of!(Registers, rcx), libc::REG_RCX),
            (offset_of!(Registers, rsp), libc::REG_RSP),
            (offset_of!(Registers, rip), libc::REG_RIP),
            (offset_of!(Registers, rflags), libc::REG_EFL),
            (offset_of!(Registers, cs), libc::REG_CSGSFS),
            (offset_of!(Registers, error), libc::REG_ERR),
            (offset_of!(Registers, vector), libc::REG_TRAPNO),
            (offset_of!(Registers, cr2), libc::REG_CR2),
        ] {
            assert_eq!(ours, at(theirs), "{theirs}");
        }
    }

    #[test]
    fn a_frame_lies_below_the_red_zone_and_aligned_as_after_a_call() {
        for below in 0..64 {
            let sp = STACK_TOP - below;
            for form in [FpuForm::Legacy, FpuForm::Extended(2700)] {
                let place = Place::new(sp, &SignalStack::NONE, None, form).expect("no stack to leave");
                assert!(place.fpu + form.len() + RED_ZONE <= sp);
                assert!(place.frame + size_of::<Frame>() as u64 <= place.fpu);
                assert_eq!((place.fpu % 64, place.frame % 16), (0, 8));
            }
        }
    }

    #[test]
    fn a_handler_that_wants_the_signal_stack_gets_it_unless_it_is_in_use() {
        let stack = set(0x10000, 0x4000);
        let place = Place::new(STACK_TOP, &stack, Some(OnStack), FpuForm::Legacy).expect("there is room");
        assert!(stack.holds(place.frame) && place.fpu + FPU_LEN as u64 <= 0x14000);
        let other = Place::new(STACK_TOP, &stack, None, FpuForm::Legacy).expect("it is not confined");
        assert!(!stack.holds(other.frame));
        // In a handler that runs there: below what it uses.
        let nested = Place::new(0x13000, &stack, Some(OnStack), FpuForm::Legacy).expect("there is room");
        assert!(nested.fpu < 0x13000 - RED_ZONE && stack.holds(nested.frame));
        assert_eq!(Place::new(0x10400, &stack, Some(OnStack), FpuForm::Legacy), None);
        assert_eq!(Place::new(0x10400, &stack, None, FpuForm::Legacy), None);
        assert_eq!(
            Place::new(STACK_TOP, &set(0x10000, 2048), Some(OnStack), FpuForm::Legacy).map(|place| place.fpu),
            Some(0x10600)
        );
    }

    fn some_registers() -> TrapFrame {
        TrapFrame {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rbp: 7,
            r8: 8,
            r9: 9,
            r10: 10,
            r11: 11,
            r12: 12,
            r13: 13,
            r14: 14,
            r15: 15,
            rip: 0x40_1000,
            rsp: STACK_TOP,
            rflags: 0x246,
            cs: u64::from(USER_CODE),
            ss: u64::from(USER_DATA),
            vector: 77,
            error: 78,
        }
    }

    fn frame_of(registers: &TrapFrame) -> Frame {
        let place =
            Place::new(registers.rsp, &SignalStack::NONE, None, FpuForm::Legacy).expect("no stack to leave");
        Frame::new(
            registers,
            &LastFault::NONE,
            SignalStack::NONE,
            0,
            &place,
            0x40_2000,
        )
    }

    #[test]
    fn what_a_frame_holds_comes_back() {
        let before = some_registers();
        let frame = frame_of(&before);
        let mut registers = before;
        let place =
            Place::new(before.rsp, &SignalStack::NONE, None, FpuForm::Legacy).expect("no stack to leave");
        Frame::enter(&mut registers, &place, 10, 0x40_3000);
        assert_eq!(
            (registers.rdi, registers.rip, registers.rsp),
            (10, 0x40_3000, place.frame)
        );
        assert_eq!(frame.context.restore(&mut registers), Ok(()));
        assert_eq!(format!("{registers:?}"), format!("{before:?}"));
        assert_eq!(frame.context.fpu(), place.fpu);
        assert_eq!(frame.without_info().len(), 312);
    }

    #[test]
    fn segments_no_program_has_make_a_bad_frame() {
        let good = frame_of(&some_registers()).context;
        let with = |change: &dyn Fn(&mut UserContext)| {
            let mut context = good;
            change(&mut context);
            context.restore(&mut some_registers())
        };
        assert_eq!(with(&|_| {}), Ok(()));
        assert_eq!(
            with(&|context| context.registers.cs = 0x30),
            Ok(()),
            "ring 3 is added"
        );
        assert_eq!(with(&|context| context.registers.cs = 0x10), Err(BadFrame));
        assert_eq!(with(&|context| context.registers.cs = 0x23), Err(BadFrame));
        assert_eq!(with(&|context| context.registers.ss = 0), Err(BadFrame));
        assert_eq!(
            with(&|context| (context.registers.ss, context.flags) = (0, 2)),
            Ok(())
        );
    }

    proptest! {
        /// Whatever a frame says, the program goes on in ring 3, with interrupts on and no rights over ports.
        #[test]
        fn no_frame_gives_a_program_more_than_it_can_have(
            bytes in prop::collection::vec(any::<u8>(), size_of::<UserContext>()),
            tame in any::<bool>(),
        ) {
            let mut context = UserContext::read_from_bytes(&bytes).expect("as many bytes");
            if tame {
                (context.registers.cs, context.registers.ss) = (USER_CODE, USER_DATA);
            }
            let mut registers = some_registers();
            let restored = context.restore(&mut registers);
            prop_assert!(!tame || restored.is_ok());
            prop_assert_eq!(registers.cs, u64::from(USER_CODE));
            prop_assert_eq!(registers.ss, u64::from(USER_DATA));
            prop_assert_eq!(registers.rflags & (RFLAGS_INITIAL | 0x3000), RFLAGS_INITIAL);
            prop_assert_eq!(registers.rflags & !(RFLAGS_USER | FLAG_RESUME | RFLAGS_INITIAL), 0);
            prop_assert_eq!((registers.vector, registers.error), (77, 78));
        }
    }
}
