//! Where things lie in the demo's segment, what the pages hold, and the order of the pairs. Pure.

/// Most processes: one page of the segment each.
pub(super) const MAX_MEMBERS: usize = 16;
/// Size of the segment: the page of words below, then each process's page.
pub(super) const SIZE: usize = PAGE * (1 + MAX_MEMBERS);
/// Bytes each process writes for the others.
pub(super) const PAGE: usize = 4096;

// Words in the first page, each in a cache line of its own, but for the baton's three.
/// How many processes have attached.
pub(super) const ARRIVED: usize = 0;
/// How many have written their page.
pub(super) const WRITTEN: usize = 64;
/// How many have read all pages.
pub(super) const READ: usize = 128;
/// Which pair's turn it is.
pub(super) const TURN: usize = 192;
/// 1 once the last process holds only its read-only attach.
pub(super) const READ_ONLY: usize = 256;
/// How many are about to detach.
pub(super) const LEAVING: usize = 320;
/// 1 once a process has given up.
pub(super) const FAILED: usize = 384;
/// The baton: number of the hand-off, with [`LAST`] on a pair's last one.
pub(super) const BATON: usize = 512;
/// Beside the baton: the writer's time-stamp counter.
pub(super) const BATON_TSC: usize = 520;
/// Beside the baton: what [`contents`] says for this number.
pub(super) const BATON_CONTENTS: usize = 528;
/// The reader's answer: the number of the hand-off it has seen.
pub(super) const ANSWER: usize = 576;

/// Mark in the baton: the writer's last hand-off to this reader.
pub(super) const LAST: u64 = 1 << 63;

/// Where the page of process `member` begins.
pub(super) fn page_of(member: usize) -> usize {
    PAGE * (1 + member)
}

/// The byte that process `member` writes at `offset` of its page: another one in each page and, in a page, at
/// each offset of a stretch of 251 bytes.
pub(super) fn pattern(member: usize, offset: usize) -> u8 {
    ((offset % 251) as u8) ^ ((member as u8) << 4 | 0x0b)
}

/// What the baton carries as hand-off `number`: no two of a run are alike (splitmix64's finalizer is a bijection).
pub(super) fn contents(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How many pairs (writer, reader) `members` processes make.
pub(super) fn pairs(members: usize) -> usize {
    members * members.saturating_sub(1)
}

/// Writer and reader of turn `turn`, `turn < pairs(members)`.
pub(super) fn pair(turn: usize, members: usize) -> (usize, usize) {
    let (writer, nth) = (turn / (members - 1), turn % (members - 1));
    (writer, if nth < writer { nth } else { nth + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_ordered_pair_has_one_turn() {
        for members in 2..=MAX_MEMBERS {
            let all: BTreeSet<_> = (0..pairs(members)).map(|turn| pair(turn, members)).collect();
            assert_eq!(all.len(), pairs(members));
            assert!(
                all.iter()
                    .all(|&(writer, reader)| writer != reader && writer < members && reader < members)
            );
        }
        assert_eq!((pairs(0), pairs(1)), (0, 0));
    }

    #[test]
    fn pages_differ_everywhere() {
        for offset in 0..PAGE {
            let bytes: BTreeSet<_> = (0..MAX_MEMBERS).map(|member| pattern(member, offset)).collect();
            assert_eq!(bytes.len(), MAX_MEMBERS, "at {offset}");
        }
    }

    #[test]
    fn words_and_pages_do_not_overlap() {
        let words = [
            ARRIVED, WRITTEN, READ, TURN, READ_ONLY, LEAVING, FAILED, BATON, ANSWER,
        ];
        let lines: BTreeSet<_> = words.iter().map(|word| word / 64).collect();
        assert_eq!(lines.len(), words.len());
        assert_eq!((BATON_TSC / 64, BATON_CONTENTS / 64), (BATON / 64, BATON / 64));
        assert!(ANSWER + 8 <= page_of(0));
        assert_eq!(page_of(MAX_MEMBERS - 1) + PAGE, SIZE);
    }

    #[test]
    fn contents_never_repeat_in_a_row() {
        let all: BTreeSet<_> = (0..100_000).map(contents).collect();
        assert_eq!(all.len(), 100_000);
    }
}
