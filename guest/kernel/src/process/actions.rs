//! What processes do about signals (sigaction(2)). Each has actions of its own, unless clone(2) has made it with
//! CLONE_SIGHAND.

use super::shared::{Entry, Table};
use super::signal::{SIG_IGN, bit};
use crate::arch::lent::Reserve;
use crate::kernel::Kernel;
use abi::MAX_TASKS;

/// A signal's action as `rt_sigaction` records it (`struct kernel_sigaction`: handler, flags, restorer, mask).
pub type Action = [u64; 4];

/// The actions of signals 1 to 64.
pub struct Actions {
    /// Which of `list` are not the default, bit = number - 1: new ones need not be cleared.
    set: u64,
    list: [Action; 64],
}

impl Actions {
    const NONE: Actions = Actions {
        set: 0,
        list: [[0; 4]; 64],
    };

    /// The action of `signal`, 1 to 64.
    pub fn get(&self, signal: u32) -> Action {
        let at = signal as usize - 1;
        if self.set & 1 << at != 0 {
            self.list[at]
        } else {
            [0; 4]
        }
    }

    /// Sets the action of `signal`, 1 to 64.
    pub fn set(&mut self, signal: u32, action: Action) {
        let at = signal as usize - 1;
        self.set |= 1 << at;
        self.list[at] = action;
    }

    /// `signal`, 1 to 64, gets its default action.
    pub fn reset(&mut self, signal: u32) {
        self.set &= !bit(signal);
    }

    /// Signals whose action is a handler get the default one; what is ignored stays so.
    pub fn clear_handlers(&mut self) {
        for at in bits(self.set) {
            if self.list[at][0] != SIG_IGN {
                self.set &= !(1 << at);
            }
        }
    }
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let at = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (at < 64).then_some(at as usize)
    })
}

/// Room for those of every process.
pub static ROOM: Reserve<[Entry<Actions>; MAX_TASKS]> =
    Reserve::new([const { Entry::free(Actions::NONE) }; MAX_TASKS]);

/// The actions of all processes, by number.
pub type AllActions = Table<Actions>;

/// New actions, all of them the default.
pub fn default(all: &mut AllActions) -> u16 {
    let number = all.take();
    all[number].set = 0;
    number
}

/// New actions that are like number `from`.
pub fn copy(all: &mut AllActions, from: u16) -> u16 {
    let number = all.take();
    let set = all[from].set;
    all[number].set = set;
    for at in bits(set) {
        all[number].list[at] = all[from].list[at];
    }
    number
}

impl Kernel {
    /// The actions of process `number`.
    pub fn actions_of(&mut self, number: u16) -> &mut Actions {
        &mut self.actions[self.processes[usize::from(number)].actions]
    }

    /// Process `number` shares its actions with no other any more.
    pub fn unshare_actions(&mut self, number: u16) {
        let process = &mut self.processes[usize::from(number)];
        if self.actions.users(process.actions) > 1 {
            let own = copy(&mut self.actions, process.actions);
            let _ = self.actions.release(process.actions);
            process.actions = own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_set_are_its_bits() {
        assert_eq!(bits(1 << 63 | 1 << 5 | 1).collect::<Vec<_>>(), [0, 5, 63]);
        assert_eq!(bits(0).count(), 0);
    }

    #[test]
    fn what_is_ignored_survives_the_handlers() {
        let mut actions = Actions::NONE;
        actions.set(3, [SIG_IGN, 0, 0, 0]);
        actions.set(64, [0x40_0000, 4, 5, 6]);
        actions.clear_handlers();
        assert_eq!(
            (actions.get(3), actions.get(64), actions.get(1)),
            ([1, 0, 0, 0], [0; 4], [0; 4])
        );
    }
}
