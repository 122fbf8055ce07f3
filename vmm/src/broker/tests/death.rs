//! Guests that die at any moment.

use super::*;

#[test]
fn a_guest_that_dies_with_removed_segments_attached_destroys_them_and_frees_its_quota() {
    let rights = GuestRights {
        quota: Quota {
            segments: 3,
            bytes: 3 * 4096,
        },
        ..GuestRights::default()
    };
    let group = group_with(2, BrokerLimits::default(), rights);
    let (left, removed, both) = (
        group.make(1, 1, 4096),
        group.make(1, 2, 4096),
        group.make(1, 3, 4096),
    );
    for id in [left, removed, both] {
        group.attach(1, id, 0).unwrap();
        group.attach(1, id, SHM_RDONLY).unwrap();
    }
    group.attach(0, both, 0).unwrap();
    group.remove(removed).unwrap();
    group.remove(both).unwrap();
    group.clock.store(7000, Relaxed);
    group.broker.guest_gone(1);
    assert_eq!(group.stat(removed), Err(Errno::EINVAL));
    for (id, nattch) in [(left, 0), (both, 1)] {
        let status = group.stat(id).unwrap();
        assert_eq!(
            (status.nattch, status.dtime, status.lpid as u32),
            (nattch, 7000, group_pid(1, 5))
        );
    }
    assert_eq!(group.broker.table().made.of(1).segments, 2);
    // The last attach anywhere takes the removed one along, and it counts for nobody then.
    group.detach(0, both, WindowKind::ReadWrite, 1).unwrap();
    assert_eq!(group.stat(both), Err(Errno::EINVAL));
    group.remove(left).unwrap();
    let made = group.broker.table().made.of(1);
    assert_eq!((made.segments, made.bytes), (0, 0));
    assert_eq!(held_by_process(), (0, 0));
}

#[test]
fn where_removal_is_forced_a_dead_guest_takes_what_it_made_unless_others_have_it() {
    let group = group(3);
    let (kept, lost) = (group.make(1, 1, 4096), group.make(1, 2, 4096));
    let held = group.make(1, 3, 4096);
    group.attach(1, held, 0).unwrap();
    group.attach(2, kept, 0).unwrap();
    group
        .broker
        .proc_write(0, &ROOT, shm::Setting::RmidForced, b"1")
        .unwrap();
    // Nobody can end another guest's tasks.
    group.broker.maker_ended(2, group_pid(1, 5));
    assert_eq!(group.stat(lost).unwrap().nattch, 0);
    group.broker.guest_gone(1);
    for (id, there) in [(kept, true), (lost, false), (held, false)] {
        assert_eq!(group.stat(id).is_ok(), there, "{id}");
    }
    group.detach(2, kept, WindowKind::ReadWrite, 1).unwrap();
    let last = group.make(2, 4, 4096);
    group.broker.maker_ended(2, group_pid(2, 5));
    assert_eq!(group.stat(last), Err(Errno::EINVAL));
    assert_eq!(group.broker.table().made.of(1).segments, 0);
    assert_eq!(held_by_process(), (0, 0));
}

#[test]
fn a_guest_that_attached_nothing_leaves_no_trace_on_segments() {
    let group = group(2);
    let id = group.make(1, 1, 4096);
    group.clock.store(7000, Relaxed);
    group.broker.guest_gone(1);
    let status = group.stat(id).unwrap();
    assert_eq!((status.nattch, status.dtime, status.lpid), (0, 0, 0));
}

/// The machine joins the vCPUs first, so this can't happen; it is no catastrophe if it does.
#[test]
fn a_guest_that_dies_amid_calls_leaves_nothing_attached() {
    let group = group(3);
    let shared = group.make(0, 99, 4096);
    std::thread::scope(|scope| {
        for guest in 1..3 {
            for thread in 0..2 {
                let group = &group;
                scope.spawn(move || {
                    let caller = process(guest, 5 + thread);
                    let mut rounds = 0;
                    // Until the guest is gone.
                    while let Ok(id) = group.broker.shmget(guest, &caller, IPC_PRIVATE, 4096, 0o600) {
                        for id in [id as i32, shared] {
                            let _ = group.broker.attach(guest, &caller, id, 0, ROOM);
                        }
                        let _ = group
                            .broker
                            .shmctl(guest, &caller, id as i32, IPC_RMID, &mut [0; 256]);
                        rounds += 1;
                        let _ = group
                            .broker
                            .detach(guest, &caller, shared, WindowKind::ReadWrite, 1);
                        if rounds % 3 == 0 {
                            let _ = group
                                .broker
                                .detach(guest, &caller, id as i32, WindowKind::ReadWrite, 1);
                        }
                    }
                });
            }
        }
        while group.broker.table().made.of(1).segments < 20 || group.broker.table().made.of(2).segments < 20 {
            std::thread::yield_now();
        }
        for guest in 1..3 {
            group.broker.guest_gone(guest);
        }
    });
    assert_eq!(group.stat(shared).unwrap().nattch, 0);
    for state in group.broker.segments() {
        // Made but not yet removed when its guest went; removed ones went with their attaches.
        assert!(state.nattch == 0 && !state.removed, "{state:?}");
        group.remove(state.id).unwrap();
    }
    for guest in 0..3 {
        assert_eq!(group.broker.table().made.of(guest).segments, 0);
    }
    assert_eq!(held_by_process(), (0, 0));
}
