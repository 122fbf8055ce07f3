//! Sizes that change: shrinks wait for those who have the pages; and everything at random.

use super::*;

#[test]
fn a_shrink_waits_for_all_who_may_have_the_pages_and_then_gives_them_back() {
    let group = group(4);
    let serial = group.object(0, "o", 3 * 4096);
    for guest in 1..4 {
        group.open(guest, "o", RW).unwrap();
    }
    let a = group.map(0, serial, 0, 3 * 4096);
    let b = group.map(1, serial, 4096, 2 * 4096);
    let c = group.map(2, serial, 0, 4096);
    group.vms[0].write(a + 8192, 9);
    let Err(Refused {
        errno: Errno::EAGAIN,
        number,
    }) = group.resize(3, serial, 4096)
    else {
        panic!("guests have the pages");
    };
    assert_ne!(number, 0);
    // All are told the new size already, and nobody changes it meanwhile.
    assert_eq!((group.size(2, serial), group.size(0, serial)), (4096, 4096));
    assert_eq!(group.resize(2, serial, 8192), Err(Errno::EAGAIN.into()));
    assert_eq!(
        group.broker.object_write(2, serial, 8192, b"x"),
        Err(Errno::EAGAIN)
    );
    assert_eq!(group.broker.object_write(2, serial, 4095, b"x"), Ok(4096));
    assert_eq!(group.broker.object_read(2, serial, 8192, 1), Ok(vec![]));
    assert_eq!(
        [0, 1, 2, 3].map(|guest| group.notices(guest)),
        [NOTICE_SHRINK, NOTICE_SHRINK, 0, 0]
    );
    assert_eq!(group.broker.object_notice(2), Ok(None));
    for guest in [0, 1] {
        assert_eq!(group.broker.object_notice(guest), Ok(Some((serial, 4096))));
    }
    assert_eq!(
        group.broker.object_resize(3, serial, 4096, number),
        Err(Refused {
            errno: Errno::EAGAIN,
            number
        })
    );
    // An answer of one that was not asked is none.
    group.broker.object_ack(2, serial).unwrap();
    group.broker.object_ack(0, serial).unwrap();
    assert_eq!(group.broker.object_notice(0), Ok(None));
    assert_eq!(group.notices(3), 0);
    assert_eq!(group.vms[0].read(a + 8192), 9);
    // To unmap is an answer as well.
    group.broker.object_unmap(1, b).unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|guest| group.notices(guest)),
        [0, 0, NOTICE_RETRY, NOTICE_RETRY]
    );
    assert_eq!(group.broker.object_stat(0, serial).unwrap().resident, 4096);
    // Another made it grow before the first asked again: what was asked for has been done, and is not done twice.
    group.resize(2, serial, 3 * 4096).unwrap();
    assert_eq!(group.broker.object_resize(3, serial, 4096, number), Ok(()));
    assert_eq!(group.size(0, serial), 3 * 4096);
    assert_eq!(group.vms[0].read(a + 8192), 0);
    group.vms[2].write(c, 1);
    assert_eq!(group.vms[0].read(a), 1);
}

#[test]
fn a_guest_that_dies_holds_nothing_back() {
    let group = group(3);
    let serial = group.object(0, "o", 8192);
    group.open(1, "o", RW).unwrap();
    group.open(2, "o", RW).unwrap();
    group.map(1, serial, 0, 8192);
    assert_eq!(group.resize(0, serial, 1).unwrap_err().errno, Errno::EAGAIN);
    // The one who asked dies: it is done all the same.
    assert_eq!(group.broker.guest_gone(0), 1);
    assert_eq!(group.broker.guest_gone(1), 2);
    assert_eq!(group.resize(2, serial, 2), Ok(()));
    assert!(!group.broker.objects()[0].shrinking);
    assert_eq!((group.notices(2), objects_of_process()), (0, 0));
    group.unlink(2, "o").unwrap();
    assert_eq!(group.broker.objects().len(), 1);
    assert_eq!(group.broker.guest_gone(2), 1);
    assert_eq!(group.broker.objects(), []);
    assert_eq!(group.open(2, "p", NEW), Err(Errno::EINVAL));
}

#[test]
fn a_guest_that_does_not_let_go_in_time_is_ended_and_those_that_do_are_not() {
    let within = Duration::from_millis(100);
    let group = group_with(3, limits(within), GuestRights::default());
    let serial = group.object(0, "o", 8192);
    for guest in 1..3 {
        group.open(guest, "o", RW).unwrap();
        group.map(guest, serial, 0, 8192);
    }
    assert_eq!(group.resize(0, serial, 0).unwrap_err().errno, Errno::EAGAIN);
    group.broker.object_ack(1, serial).unwrap();
    let late = &group.machines[2].ended;
    while lock(late).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let fault = GuestFault::NoAnswer {
        object: serial,
        waited_ms: 100,
    };
    assert_eq!(*lock(late), [fault]);
    assert_eq!(lock(&group.machines[1].ended).len(), 0);
    assert_eq!(group.resize(0, serial, 5).unwrap_err().errno, Errno::EAGAIN);
    // Its machine ends it; then the others go on.
    group.broker.guest_gone(2);
    assert_eq!(group.notices(0), NOTICE_RETRY);
    assert_eq!(group.resize(0, serial, 5), Ok(()));
}

#[test]
fn a_dead_guests_locks_in_objects_are_given_back_also_where_the_object_has_shrunk() {
    for shrunk in [false, true] {
        let group = group(3);
        let serial = group.object(0, "o", 8192);
        for guest in 1..3 {
            group.open(guest, "o", RW).unwrap();
        }
        let seen = group.map(2, serial, 0, 4096);
        let own = group.map(1, serial, 4096, 4096);
        // The only one: its link leads back to the head.
        group
            .broker
            .object_write(0, serial, 4096 + 16, &futex::HEAD.to_le_bytes())
            .unwrap();
        group
            .broker
            .object_write(0, serial, 4096 + 24, &futex::TID.to_le_bytes())
            .unwrap();
        group.machines[1].put_robust_lock(own);
        if shrunk {
            assert_eq!(group.resize(0, serial, 4096).unwrap_err().errno, Errno::EAGAIN);
            group.broker.object_ack(1, serial).unwrap();
        }
        // The dead guest's tables still show what may be gone: the walk must not touch it.
        group.broker.guest_gone(1);
        let word = group.broker.object_read(2, serial, 4096 + 24, 4).unwrap();
        let died = if shrunk {
            vec![]
        } else {
            FUTEX_OWNER_DIED.to_le_bytes().to_vec()
        };
        assert_eq!(word, died);
        assert_eq!(group.vms[2].read(seen), 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u32, u8, u64),
    Resize(u32, u8, u64),
    Write(u32, u8, u64, u8),
    Map(u32, u8, u64, u64),
    Unmap(u32, u8),
    Answer(u32),
    Unlink(u32, u8),
    Rename(u32, u8, u8),
    Release(u32, u8),
    Die(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let guest = || 0u32..3;
    let size = || prop_oneof![0u64..20_000, (0u64..6).prop_map(|pages| pages * 4096)];
    prop_oneof![
        4 => (guest(), 0u8..3, Just(RW | OPEN_CREATE)).prop_map(|(g, n, f)| Step::Open(g, n, f)),
        4 => (guest(), 0u8..3, size()).prop_map(|(g, n, s)| Step::Resize(g, n, s)),
        2 => (guest(), 0u8..3, size(), any::<u8>()).prop_map(|(g, n, o, b)| Step::Write(g, n, o, b)),
        3 => (guest(), 0u8..3, 0u64..4, 1u64..4).prop_map(|(g, n, o, l)| Step::Map(g, n, o * 4096, l * 4096)),
        2 => (guest(), any::<u8>()).prop_map(|(g, n)| Step::Unmap(g, n)),
        3 => guest().prop_map(Step::Answer),
        1 => (guest(), 0u8..3).prop_map(|(g, n)| Step::Unlink(g, n)),
        1 => (guest(), 0u8..3, 0u8..3).prop_map(|(g, a, b)| Step::Rename(g, a, b)),
        1 => (guest(), 0u8..3).prop_map(|(g, n)| Step::Release(g, n)),
        1 => guest().prop_map(Step::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_guests_do_nothing_is_left_when_they_are_gone(steps in prop::collection::vec(step(), 1..80)) {
        let group = group(3);
        let mut ranges: Vec<(u32, u64)> = Vec::new();
        let name = |number: u8| format!("n{number}");
        let find = |guest, number| group.open(guest, &name(number), RW);
        for step in steps {
            match step {
                Step::Open(guest, number, flags) => drop(group.open(guest, &name(number), flags)),
                Step::Resize(guest, number, size) => if let Ok(serial) = find(guest, number) {
                    match group.resize(guest, serial, size) {
                        Ok(()) => prop_assert_eq!(group.size(guest, serial), size),
                        Err(refused) => prop_assert_eq!(refused.errno, Errno::EAGAIN),
                    }
                },
                Step::Write(guest, number, offset, byte) => if let Ok(serial) = find(guest, number) {
                    match group.broker.object_write(guest, serial, offset, &[byte]) {
                        Ok(end) => {
                            prop_assert!(group.size(guest, serial) >= end);
                            prop_assert_eq!(group.broker.object_read(guest, serial, offset, 1), Ok(vec![byte]));
                        }
                        Err(errno) => prop_assert_eq!(errno, Errno::EAGAIN),
                    }
                },
                Step::Map(guest, number, offset, len) => if let Ok(serial) = find(guest, number) {
                    ranges.push((guest, group.map(guest, serial, offset, len)));
                },
                Step::Unmap(guest, which) => {
                    let own: Vec<_> = ranges.iter().filter(|(owner, _)| *owner == guest).copied().collect();
                    if let Some(&(_, gpa)) = own.get(usize::from(which) % own.len().max(1)) {
                        prop_assert_eq!(group.broker.object_unmap(guest, gpa), Ok(()));
                        ranges.retain(|range| *range != (guest, gpa));
                    }
                }
                Step::Answer(guest) => while let Ok(Some((serial, _))) = group.broker.object_notice(guest) {
                    group.broker.object_ack(guest, serial).unwrap();
                },
                Step::Unlink(guest, number) => drop(group.unlink(guest, &name(number))),
                Step::Rename(guest, from, to) => {
                    let (from, to) = (name(from), name(to));
                    let _ = group.broker.object_rename(guest, &process(guest, 5), from.as_bytes(), to.as_bytes(), 0);
                }
                Step::Release(guest, number) => if let Ok(serial) = find(guest, number) {
                    let _ = group.broker.object_release(guest, serial);
                },
                Step::Die(guest) => {
                    group.broker.guest_gone(guest);
                    ranges.retain(|(owner, _)| *owner != guest);
                }
            }
            // A shrink waits only for somebody.
            let waiting = |guest| group.broker.object_notice(guest).is_ok_and(|notice| notice.is_some());
            let shrinking = group.broker.objects().iter().any(|object| object.shrinking);
            prop_assert_eq!(shrinking, (0..3).any(waiting));
        }
        for guest in 0..3 {
            group.broker.guest_gone(guest);
        }
        prop_assert_eq!(objects_of_process(), 0);
        for object in group.broker.objects() {
            prop_assert!(!object.shrinking && !object.names.is_empty());
        }
        let named: u64 = group.broker.objects().iter().map(|object| object.size.next_multiple_of(4096)).sum();
        let made: u64 = (0..3).map(|guest| group.broker.table().made.of(guest).bytes).sum();
        prop_assert_eq!(named, made);
    }
}
