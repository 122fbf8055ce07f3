//! FUTEX_WAKE_OP's argument: an operation on the second word, and a comparison of the value it had (futex(2);
//! `futex_atomic_op_inuser` in Linux).

/// The operation is on `1 << operand`.
const OPARG_SHIFT: u32 = 8;

/// What is done to the second word, and asked of the value it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeOp {
    operation: u32,
    operand: u32,
    comparison: u32,
    compared_with: i32,
}

/// The 12-bit number at bit `at`, with its sign.
fn signed(encoded: u32, at: u32) -> i32 {
    (encoded << (20 - at)) as i32 >> 20
}

impl WakeOp {
    /// What `encoded` (the system call's sixth argument) means; `None` if there is no such operation: ENOSYS, and the
    /// word stays as it is.
    #[must_use]
    pub fn decode(encoded: u32) -> Option<WakeOp> {
        let operation = encoded >> 28;
        let mut operand = signed(encoded, 12) as u32;
        if operation & OPARG_SHIFT != 0 {
            // Linux takes the low bits of a shift that is too far, and complains in its log.
            operand = 1 << (operand & 31);
        }
        let operation = operation & !OPARG_SHIFT;
        (operation <= 4).then_some(WakeOp {
            operation,
            operand,
            comparison: encoded >> 24 & 15,
            compared_with: signed(encoded, 0),
        })
    }

    /// What the word becomes that was `old`.
    #[must_use]
    pub fn apply(self, old: u32) -> u32 {
        match self.operation {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    /// Whether the second word's waiters are woken; `None` if there is no such comparison: ENOSYS, when the word has
    /// already changed.
    #[must_use]
    pub fn compare(self, old: u32) -> Option<bool> {
        let old = old as i32;
        Some(match self.comparison {
            0 => old == self.compared_with,
            1 => old != self.compared_with,
            2 => old < self.compared_with,
            3 => old <= self.compared_with,
            4 => old > self.compared_with,
            5 => old >= self.compared_with,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(operation: u32, operand: u32, comparison: u32, compared_with: u32) -> WakeOp {
        WakeOp::decode(operation << 28 | comparison << 24 | (operand & 0xfff) << 12 | (compared_with & 0xfff))
            .unwrap()
    }

    #[test]
    fn the_five_operations() {
        let after = |operation, operand, old| op(operation, operand, 0, 0).apply(old);
        assert_eq!(after(0, 5, 9), 5);
        assert_eq!(after(0, 0xfff, 9), u32::MAX);
        assert_eq!(after(1, 5, u32::MAX), 4);
        assert_eq!(after(2, 5, 8), 13);
        assert_eq!(after(3, 5, 7), 2);
        assert_eq!(after(4, 3, 6), 5);
        assert_eq!(after(OPARG_SHIFT | 2, 31, 0), 1 << 31);
        assert_eq!(after(OPARG_SHIFT, 40, 0), 1 << 8);
        for operation in 5..8 {
            assert_eq!(WakeOp::decode(operation << 28), None);
        }
    }

    #[test]
    fn the_six_comparisons_have_signs() {
        for (comparison, of_minus_2) in [(0, [0, 1, 0]), (1, [1, 0, 1]), (2, [1, 0, 0])] {
            for (old, expected) in [(-3i32, of_minus_2[0]), (-2, of_minus_2[1]), (1, of_minus_2[2])] {
                let op = op(0, 0, comparison, -2i32 as u32);
                assert_eq!(op.compare(old as u32), Some(expected == 1), "{comparison} {old}");
            }
        }
        assert_eq!(op(0, 0, 3, 2).compare(2), Some(true));
        assert_eq!(op(0, 0, 4, 2).compare(2), Some(false));
        assert_eq!(op(0, 0, 4, 2).compare(-1i32 as u32), Some(false));
        assert_eq!(op(0, 0, 5, 2).compare(2), Some(true));
        assert_eq!(op(0, 0, 6, 2).compare(2), None);
    }
}
