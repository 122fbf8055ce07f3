//! [`SignalStack`]: the stack a thread has set apart for handlers (sigaltstack(2)).

use abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
/// The stack is no longer set while a handler runs on it.
const SS_AUTODISARM: u32 = 1 << 31;
/// Smallest, bytes (`MINSIGSTKSZ`).
const MINSIGSTKSZ: u64 = 2048;

/// `stack_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SignalStack {
    /// Its lowest byte.
    pub base: u64,
    /// As the thread has set them.
    pub flags: u32,
    /// No meaning.
    pub pad: u32,
    /// Bytes; 0 if there is none.
    pub size: u64,
}

impl SignalStack {
    /// There is none.
    pub const NONE: SignalStack = SignalStack {
        base: 0,
        flags: 0,
        pad: 0,
        size: 0,
    };

    /// Whether `sp` is on it, whatever its flags.
    pub fn holds(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }

    /// Whether a thread with stack pointer `sp` counts as running on it.
    pub fn is_in_use(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.holds(sp)
    }

    /// Where a handler that wants it begins, if it is set and not in use.
    pub fn top_for(&self, sp: u64) -> Option<u64> {
        (self.size != 0 && !self.is_in_use(sp)).then(|| self.base.wrapping_add(self.size))
    }

    /// What the thread is to have while a handler runs.
    #[must_use]
    pub fn during_handler(self) -> SignalStack {
        if self.flags & SS_AUTODISARM != 0 {
            SignalStack::GIVEN_UP
        } else {
            self
        }
    }

    /// There is none any more, because its owner has given it up (`sas_ss_reset` in Linux).
    pub const GIVEN_UP: SignalStack = SignalStack {
        flags: SS_DISABLE,
        ..SignalStack::NONE
    };

    /// What the thread has when it runs another program: the flags stay.
    #[must_use]
    pub fn after_exec(self) -> SignalStack {
        SignalStack {
            flags: self.flags,
            ..SignalStack::NONE
        }
    }

    /// As sigaltstack(2) tells it to a thread with stack pointer `sp`.
    #[must_use]
    pub fn told(self, sp: u64) -> SignalStack {
        let state = if self.size == 0 {
            SS_DISABLE
        } else if self.is_in_use(sp) {
            SS_ONSTACK
        } else {
            0
        };
        SignalStack {
            flags: state | self.flags & SS_AUTODISARM,
            pad: 0,
            ..self
        }
    }

    /// What it becomes when a thread with stack pointer `sp` asks for `new`.
    ///
    /// # Errors
    /// EPERM while it is in use, EINVAL for flags nobody knows, ENOMEM if it is too small.
    pub fn changed(self, new: SignalStack, sp: u64) -> Result<SignalStack, Errno> {
        if self.is_in_use(sp) {
            return Err(Errno::EPERM);
        }
        let flags = new.flags;
        match flags & !SS_AUTODISARM {
            SS_DISABLE => Ok(SignalStack {
                flags,
                ..SignalStack::NONE
            }),
            0 | SS_ONSTACK if new.size < MINSIGSTKSZ => Err(Errno::ENOMEM),
            0 | SS_ONSTACK => Ok(SignalStack { pad: 0, ..new }),
            _ => Err(Errno::EINVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(flags: u32) -> SignalStack {
        SignalStack {
            base: 0x1000,
            flags,
            pad: 0,
            size: 0x2000,
        }
    }

    #[test]
    fn a_stack_is_in_use_from_its_second_byte_to_one_past_its_last() {
        let set = SignalStack::NONE.changed(stack(0), 0x9000).expect("a good stack");
        assert_eq!(
            [0x1000, 0x1001, 0x3000, 0x3001].map(|sp| set.is_in_use(sp)),
            [false, true, true, false]
        );
        assert_eq!(set.top_for(0x9000), Some(0x3000));
        assert_eq!(set.top_for(0x2000), None);
        assert_eq!(set.told(0x2000).flags, SS_ONSTACK);
        assert_eq!(set.changed(stack(0), 0x2000), Err(Errno::EPERM));
        assert_eq!(set.during_handler(), set);
    }

    #[test]
    fn a_stack_that_disarms_itself_is_never_in_use() {
        let set = SignalStack::NONE
            .changed(stack(SS_AUTODISARM), 0)
            .expect("a good stack");
        assert_eq!(set.top_for(0x2000), Some(0x3000));
        assert_eq!(set.during_handler().told(0), SignalStack::NONE.told(0));
        assert_eq!(set.after_exec().told(0).flags, SS_DISABLE | SS_AUTODISARM);
        assert_eq!(set.told(0x2000).flags, SS_AUTODISARM);
        assert_eq!(
            set.changed(stack(SS_DISABLE), 0x2000).map(|stack| stack.size),
            Ok(0)
        );
    }

    #[test]
    fn crooked_stacks_are_refused() {
        let small = SignalStack {
            size: MINSIGSTKSZ - 1,
            ..stack(0)
        };
        assert_eq!(SignalStack::NONE.changed(small, 0), Err(Errno::ENOMEM));
        assert_eq!(SignalStack::NONE.changed(stack(4), 0), Err(Errno::EINVAL));
        assert_eq!(SignalStack::NONE.changed(stack(3), 0), Err(Errno::EINVAL));
        assert_eq!(SignalStack::NONE.top_for(0), None);
    }
}
