//! Parts of segments that become zeros again.

use super::*;

#[test]
fn a_punched_range_is_zero_for_everyone_and_its_memory_is_given_back() {
    let group = group(2);
    let id = group.make(0, IPC_PRIVATE, 3 * 4096 - 100);
    let (here, there) = (
        group.attach(0, id, 0).unwrap(),
        group.attach(1, id, SHM_RDONLY).unwrap(),
    );
    for page in 0..3 {
        group.vms[0].write(here.gpa + page * 4096, 7);
    }
    let resident = || {
        group
            .broker
            .table()
            .registry
            .segment(id)
            .unwrap()
            .backing
            .resident_pages()
    };
    assert_eq!(resident(), 3);
    group.broker.punch(0, id, 4096, 2 * 4096).unwrap();
    assert_eq!(resident(), 1);
    let seen = [0, 1, 2].map(|page| group.vms[1].read(there.gpa + page * 4096));
    assert_eq!(seen, [7, 0, 0]);
}

#[test]
fn only_whole_pages_of_what_is_attached_for_writing_can_be_punched() {
    let group = group(2);
    let id = group.make(0, IPC_PRIVATE, 2 * 4096);
    let here = group.attach(0, id, 0).unwrap();
    group.attach(1, id, SHM_RDONLY).unwrap();
    group.vms[0].write(here.gpa + 5000, 7);
    for (guest, id, offset, len) in [
        (1, id, 0, 4096),
        (9, id, 0, 4096),
        (0, id + 1, 0, 4096),
        (0, -1, 0, 4096),
        (0, id, 0, 0),
        (0, id, 1, 4096),
        (0, id, 0, 4095),
        (0, id, 4096, 2 * 4096),
        (0, id, u64::MAX - 4095, 4096),
        (0, id, 4096, u64::MAX - 4095),
    ] {
        let answer = group.broker.punch(guest, id, offset, len);
        assert_eq!(answer, Err(Errno::EINVAL), "{guest} {id} {offset} {len}");
    }
    assert_eq!(group.vms[0].read(here.gpa + 5000), 7);
}
