//! What the demo claims, and whether it is so.

use super::{FEWEST_HANDOFFS, GUESTS, KEY, MEMBERS, PAGE, PROCESSES, Shown, name};
use std::collections::BTreeMap;
use tombolo::broker::SegmentState;
use tombolo::outcome::GuestEnd;

/// Exit status of the program that writes where it may only read: 128 + SIGSEGV.
const SEGV_STATUS: u8 = 139;

/// A claim and, if it is not so, what is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The claim.
    pub(super) claim: &'static str,
    /// What is wrong with it.
    pub(super) wrong: Option<String>,
}

/// What the command would say of a run in which all is as it must be.
pub(super) fn expected_message() -> String {
    let last = MEMBERS - 1;
    format!(
        "guest {} process {}: killed by SIGSEGV",
        last / PROCESSES,
        last % PROCESSES
    )
}

/// All claims, in the order of events.
pub(super) fn all(shown: &Shown) -> Vec<Check> {
    let checks: [(&'static str, Option<String>); 8] = [
        ("all programs attached one segment by its key", attached(shown)),
        (
            "while all were attached, the segment had two attaches from each guest",
            nattch(shown),
        ),
        ("each program read every byte the others wrote", pages(shown)),
        (
            "each program saw every hand-off of each other, in order",
            handoffs(shown),
        ),
        (
            "the read-only attach could be read, and a write through it ended the program",
            read_only(shown),
        ),
        ("that write changed nothing", unchanged(shown)),
        ("the segment is gone", removed(shown)),
        ("every guest and program ended as it should", ends(shown)),
    ];
    checks
        .into_iter()
        .map(|(claim, wrong)| Check { claim, wrong })
        .collect()
}

/// The first member for which `wrong` finds something, with its name.
fn first(wrong: impl Fn(u32) -> Option<String>) -> Option<String> {
    (0..MEMBERS).find_map(|member| wrong(member).map(|text| format!("{}: {text}", name(member))))
}

/// The one segment of the demo, if there is exactly one.
fn only(shown: &Shown) -> Option<&SegmentState> {
    match shown.segments.as_slice() {
        [segment] => Some(segment),
        _ => None,
    }
}

/// What a program says that ends because another has (`guest/user`'s `Failure::OfAnother`).
const FOLLOWED: &str = "error another process gave up";

fn attached(shown: &Shown) -> Option<String> {
    // The cause rather than what followed from it.
    let said = |member: u32, cause: bool| {
        let odd = &shown.members[member as usize].odd;
        odd.iter()
            .find(|line| (*line != FOLLOWED) == cause)
            .map(|line| format!("said `{line}`"))
    };
    let odd = first(|member| said(member, true)).or_else(|| first(|member| said(member, false)));
    let id = shown.members[0].attached;
    odd.or_else(|| {
        first(|member| match shown.members[member as usize].attached {
            None => Some("did not attach".into()),
            own if own != id => Some(format!("attached segment {own:?}, {} attached {id:?}", name(0))),
            _ => None,
        })
    })
}

fn nattch(shown: &Shown) -> Option<String> {
    let Some(segment) = only(shown) else {
        return Some(format!("{} segments", shown.segments.len()));
    };
    let per_guest: BTreeMap<u32, u64> = (0..GUESTS).map(|guest| (guest, u64::from(PROCESSES))).collect();
    let found = (segment.key, segment.mode, segment.nattch, segment.removed);
    let expected = (KEY, 0o600, u64::from(MEMBERS), false);
    if found != expected {
        return Some(format!(
            "key, mode, attaches, removed are {found:?} instead of {expected:?}"
        ));
    }
    (segment.nattch_per_guest != per_guest)
        .then(|| format!("attaches per guest: {:?}", segment.nattch_per_guest))
}

fn others(member: u32) -> impl Iterator<Item = u32> {
    (0..MEMBERS).filter(move |&other| other != member)
}

fn pages(shown: &Shown) -> Option<String> {
    first(|reader| {
        let read = &shown.members[reader as usize].read;
        let writer = others(reader).find(|writer| read.get(writer) != Some(&PAGE))?;
        Some(format!(
            "read {} of {PAGE} bytes of {}",
            read.get(&writer).unwrap_or(&0),
            name(writer)
        ))
    })
}

fn handoffs(shown: &Shown) -> Option<String> {
    first(|reader| {
        let saw = &shown.members[reader as usize].saw;
        let enough = |writer: &u32| saw.get(writer).is_some_and(|saw| saw.handoffs >= FEWEST_HANDOFFS);
        let writer = others(reader).find(|writer| !enough(writer))?;
        let count = saw.get(&writer).map_or(0, |saw| saw.handoffs);
        Some(format!(
            "saw {count} hand-offs of {}, fewer than {FEWEST_HANDOFFS}",
            name(writer)
        ))
    })
}

fn read_only(shown: &Shown) -> Option<String> {
    let last = MEMBERS - 1;
    if !shown.members[last as usize].read_only {
        return Some(format!("{} did not come so far", name(last)));
    }
    match status(shown, last) {
        Some(SEGV_STATUS) => None,
        other => Some(format!(
            "{} ended with status {other:?} instead of {SEGV_STATUS}",
            name(last)
        )),
    }
}

fn unchanged(shown: &Shown) -> Option<String> {
    first(|member| {
        let said = shown.members[member as usize].unchanged;
        (member != MEMBERS - 1 && !said).then(|| "did not find it unchanged".into())
    })
}

fn removed(shown: &Shown) -> Option<String> {
    let removers = shown.members.iter().filter(|member| member.removed).count();
    let lives: Vec<_> = shown
        .outcome
        .segments
        .iter()
        .filter(|life| life.key == KEY)
        .collect();
    let detached = shown.members.iter().filter(|member| member.detached).count();
    if detached != MEMBERS as usize - 1 || removers != 1 {
        return Some(format!("{detached} programs detached, {removers} removed it"));
    }
    match lives.as_slice() {
        [life] if life.removed_ns.is_some() && life.destroyed_ns.is_some() => None,
        [_] => Some("it still lives".into()),
        several => Some(format!("{} segments had this key", several.len())),
    }
}

fn ends(shown: &Shown) -> Option<String> {
    if let Some(guest) = shown
        .outcome
        .guests
        .iter()
        .find(|guest| guest.end != GuestEnd::Done)
    {
        return Some(format!("guest {} did not end by itself", guest.guest));
    }
    first(|member| {
        let expected = if member == MEMBERS - 1 { SEGV_STATUS } else { 0 };
        let status = status(shown, member);
        (status != Some(expected)).then(|| format!("status {status:?} instead of {expected}"))
    })
}

fn status(shown: &Shown, member: u32) -> Option<u8> {
    let guest = shown
        .outcome
        .guests
        .iter()
        .find(|guest| guest.guest == member / PROCESSES)?;
    guest
        .processes
        .iter()
        .find(|process| process.process == member % PROCESSES)?
        .shell_status()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::board::{Member, Saw};
    use super::*;
    use crate::cli::verdict;
    use std::time::Duration;
    use tombolo::broker::{HostPages, SegmentLife};

    /// A demo in which all is as it must be.
    pub(in crate::cli::demo) fn good() -> Shown {
        let member = |index: u32| Member {
            attached: Some(3),
            read: others(index).map(|writer| (writer, PAGE)).collect(),
            saw: others(index)
                .map(|writer| {
                    (
                        writer,
                        Saw {
                            handoffs: 2000,
                            least: 80,
                            median: 120,
                            ninth_decile: 250,
                        },
                    )
                })
                .collect(),
            read_only: index == 3,
            unchanged: index != 3,
            detached: index != 3,
            removed: index == 1,
            odd: Vec::new(),
        };
        let segment = SegmentState {
            id: 3,
            key: KEY,
            uid: 0,
            gid: 0,
            mode: 0o600,
            size: 69632,
            nattch: 4,
            nattch_per_guest: [(0, 2), (1, 2)].into(),
            cpid: 1,
            lpid: 2,
            atime: 1,
            dtime: 0,
            ctime: 1,
            removed: false,
        };
        let life = SegmentLife {
            id: 3,
            key: KEY,
            size: 69632,
            mode: 0o600,
            host_pages: HostPages::Small,
            creator_guest: 0,
            creator_pid: 1,
            creator_uid: 0,
            created_ns: 1,
            removed_ns: Some(5),
            destroyed_ns: Some(5),
            peak_nattch: 5,
            attaches: [(0, 2), (1, 3)].into(),
        };
        let mut outcome = verdict::tests::outcome(vec![
            (GuestEnd::Done, vec![Some(0), Some(0)]),
            (GuestEnd::Done, vec![Some(0), Some(11)]),
        ]);
        outcome.segments = vec![life];
        outcome.first_failure = Some((1, 1));
        Shown {
            members: (0..MEMBERS).map(member).collect(),
            segments: vec![segment],
            outcome,
            wall: Duration::from_millis(150),
        }
    }

    /// Part of the claim that is no longer so, and what is changed.
    type Change = (&'static str, fn(&mut Shown));

    fn wrong(change: impl FnOnce(&mut Shown)) -> Vec<&'static str> {
        let mut shown = good();
        change(&mut shown);
        all(&shown)
            .into_iter()
            .filter(|check| check.wrong.is_some())
            .map(|check| check.claim)
            .collect()
    }

    #[test]
    fn a_good_run_passes_every_check() {
        let failed: Vec<_> = all(&good())
            .into_iter()
            .filter(|check| check.wrong.is_some())
            .collect();
        assert_eq!(failed, []);
        assert_eq!(verdict::messages(&good().outcome, None), [expected_message()]);
    }

    #[test]
    fn whatever_is_not_so_is_noticed() {
        let changes: [Change; 18] = [
            ("attached", |shown| shown.members[2].attached = None),
            ("attached", |shown| shown.members[2].attached = Some(4)),
            ("attached", |shown| shown.members[3].odd.push("error".into())),
            ("attaches", |shown| shown.segments.clear()),
            ("attaches", |shown| shown.segments[0].nattch = 3),
            ("attaches", |shown| {
                shown.segments[0].nattch_per_guest = [(0, 4)].into()
            }),
            ("every byte", |shown| shown.members[0].read.clear()),
            ("every byte", |shown| shown.members[0].read.extend([(3, 4095)])),
            ("hand-off", |shown| shown.members[3].saw.clear()),
            ("hand-off", |shown| {
                shown.members[3].saw.extend([(
                    0,
                    Saw {
                        handoffs: 19,
                        ..Saw::default()
                    },
                )])
            }),
            ("read-only", |shown| shown.members[3].read_only = false),
            ("changed nothing", |shown| shown.members[0].unchanged = false),
            ("gone", |shown| shown.members[1].removed = false),
            ("gone", |shown| shown.members[0].removed = true),
            ("gone", |shown| shown.outcome.segments[0].destroyed_ns = None),
            ("gone", |shown| shown.outcome.segments.clear()),
            ("ended", |shown| shown.outcome.guests[0].end = GuestEnd::Stopped),
            ("ended", |shown| {
                shown.outcome.guests[0].processes[1].wait_status = Some(256)
            }),
        ];
        for (number, (part, change)) in changes.into_iter().enumerate() {
            let failed = wrong(change);
            assert!(
                failed.len() == 1 && failed[0].contains(part),
                "change {number}: {failed:?}"
            );
        }
    }

    #[test]
    fn the_cause_is_told_rather_than_what_followed() {
        let mut shown = good();
        shown.members[0].odd.push(FOLLOWED.into());
        shown.members[2].odd.push("error shmat: ENOMEM".into());
        assert_eq!(
            all(&shown)[0].wrong.as_deref(),
            Some("1.0: said `error shmat: ENOMEM`")
        );
    }

    #[test]
    fn a_write_that_went_through_is_noticed_twice() {
        assert_eq!(
            wrong(|shown| shown.outcome.guests[1].processes[1].wait_status = Some(256)).len(),
            2
        );
    }
}
