//! How attaches are counted, and what the last of them takes along.

use super::*;

#[test]
fn all_attaches_of_a_guest_in_a_window_share_one_range_until_the_last_ends() {
    let group = group(1);
    let id = group.make(0, IPC_PRIVATE, 4096);
    let first = group.attach(0, id, 0).unwrap();
    assert_eq!(group.attach(0, id, 0), Ok(first));
    group
        .broker
        .attach_more(0, &process(0, 7), id, WindowKind::ReadWrite, 3)
        .unwrap();
    let status = group.stat(id).unwrap();
    assert_eq!((status.nattch, status.lpid as u32), (5, group_pid(0, 7)));
    group.detach(0, id, WindowKind::ReadWrite, 4).unwrap();
    assert_eq!(group.vms[0].permissions(first.gpa), "rw-s");
    group.detach(0, id, WindowKind::ReadWrite, 1).unwrap();
    assert_eq!(group.vms[0].permissions(first.gpa), "---p");
    assert_eq!(group.stat(id).unwrap().nattch, 0);
}

#[test]
fn a_removed_segment_lives_until_the_last_detach_in_the_other_guest() {
    let group = group(2);
    let id = group.make(0, 77, 4096);
    let a = group.attach(0, id, 0).unwrap();
    let b = group.attach(1, id, SHM_RDONLY).unwrap();
    group.remove(id).unwrap();
    assert_eq!(group.broker.shmget(1, &ROOT, 77, 0, 0), Err(Errno::ENOENT));
    let other = group.make(1, 77, 4096);
    assert_ne!(other, id);
    group.vms[0].write(a.gpa, 3);
    group.detach(0, id, WindowKind::ReadWrite, 1).unwrap();
    assert_eq!(group.vms[1].read(b.gpa), 3);
    assert!(
        group
            .broker
            .segments()
            .iter()
            .any(|state| state.id == id && state.removed && state.key == 0)
    );
    group.detach(1, id, WindowKind::ReadOnly, 1).unwrap();
    assert_eq!(group.stat(id), Err(Errno::EINVAL));
    assert_eq!(held_by_process(), (1, 0));
}

#[test]
fn a_lying_guest_can_end_only_its_own_attaches() {
    let group = group(2);
    let id = group.make(0, 1, 4096);
    group.attach(0, id, 0).unwrap();
    group.attach(1, id, 0).unwrap();
    for count in [0, 2, u64::MAX] {
        assert_eq!(
            group.detach(1, id, WindowKind::ReadWrite, count),
            Err(Errno::EINVAL)
        );
    }
    for id in [id + 1, -1, i32::MIN, i32::MAX, id | 1 << 15] {
        assert_eq!(group.detach(1, id, WindowKind::ReadWrite, 1), Err(Errno::EINVAL));
        assert_eq!(group.attach(1, id, 0), Err(Errno::EINVAL));
    }
    assert_eq!(group.detach(1, id, WindowKind::ReadOnly, 1), Err(Errno::EINVAL));
    assert_eq!(group.detach(9, id, WindowKind::ReadWrite, 1), Err(Errno::EINVAL));
    let more = |count| {
        group
            .broker
            .attach_more(1, &ROOT, id, WindowKind::ReadWrite, count)
    };
    assert_eq!(more(0), Err(Errno::EINVAL));
    for count in [u64::MAX, attach::MAX_COUNT] {
        assert_eq!(more(count), Err(Errno::ENOMEM));
    }
    assert_eq!(
        group.broker.attach_more(1, &ROOT, id, WindowKind::ReadOnly, 1),
        Err(Errno::EINVAL)
    );
    assert_eq!(group.stat(id).unwrap().nattch, 2);
}

#[test]
fn an_attach_ends_as_the_last_one_only_if_a_removed_segment_goes_with_it() {
    let group = group(2);
    let id = group.make(0, IPC_PRIVATE, 4096);
    let last = |guest: u32, window| group.broker.detach_last(guest, &process(guest, 6), id, window);
    assert_eq!(last(0, WindowKind::ReadWrite), Err(Errno::EINVAL));
    group.attach(0, id, 0).unwrap();
    assert_eq!(last(0, WindowKind::ReadOnly), Err(Errno::EINVAL));
    // It is not removed.
    assert_eq!(last(0, WindowKind::ReadWrite), Err(Errno::EAGAIN));
    group.attach(1, id, SHM_RDONLY).unwrap();
    group.remove(id).unwrap();
    // The other guest has it.
    assert_eq!(last(0, WindowKind::ReadWrite), Err(Errno::EAGAIN));
    assert_eq!(last(1, WindowKind::ReadOnly), Err(Errno::EAGAIN));
    assert_eq!(group.stat(id).unwrap().nattch, 2);
    group.detach(1, id, WindowKind::ReadOnly, 1).unwrap();
    assert_eq!(last(1, WindowKind::ReadOnly), Err(Errno::EINVAL));
    assert_eq!(last(0, WindowKind::ReadWrite), Ok(()));
    assert_eq!(group.stat(id).map(|_| ()), Err(Errno::EINVAL));
    assert_eq!(group.broker.history().len(), 1);
}
