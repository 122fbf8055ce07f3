//! Requests as a kernel makes them, and as an attacker does.

use super::*;
use proptest::prelude::*;

fn request(call: u32, args: [u64; 6]) -> Request {
    Request {
        call,
        args,
        ..empty_request()
    }
}

fn decoded(call: Call, args: [u64; 6]) -> Result<Hypercall, Errno> {
    decode(&request(call as u32, args)).map(|(decoded, hypercall)| {
        assert_eq!(decoded, call);
        hypercall
    })
}

#[test]
fn every_call_has_a_meaning() {
    for call in Call::ALL {
        let args = if *call == Call::ShmAttach {
            [0, 0, 0, 22, 0, 12]
        } else if *call == Call::SwitchFpu {
            [FPU_NONE, FPU_INITIAL, 0, 0, 0, 0]
        } else if matches!(call, Call::ObjectList | Call::ObjectName) {
            [1, 0x5000, 255, 0, 0, 0]
        } else {
            [1, 0, 0, 0, 0, 0]
        };
        assert!(decoded(*call, args).is_ok(), "{call:?}");
    }
}

#[test]
fn arguments_are_taken_as_linux_means_them() {
    let minus_one = u64::from(u32::MAX);
    assert_eq!(
        decoded(Call::ShmGet, [minus_one, u64::MAX, 0o1666, 5, 0, 0]),
        Ok(Hypercall::ShmGet {
            key: -1,
            size: u64::MAX,
            flags: 0o1666,
            task: 5
        })
    );
    assert_eq!(
        decoded(Call::ShmAttach, [7, 0o10000, 4096, 12, 8192, 1]),
        Ok(Hypercall::ShmAttach {
            id: 7,
            flags: 0o10000,
            rooms: [
                Room {
                    bytes: 4096,
                    errno: Errno::ENOMEM
                },
                Room {
                    bytes: 8192,
                    errno: Errno::EPERM
                }
            ]
        })
    );
    for (said, limit) in [(0, None), (1, Some(0)), (u64::MAX, Some(u64::MAX - 1))] {
        let memlock = limit.map(|limit| LockAccount { limit, user: 1001 });
        assert_eq!(
            decoded(Call::ShmControl, [7, 11, said, 1001, 0, 0]),
            Ok(Hypercall::ShmControl {
                id: 7,
                command: 11,
                memlock
            })
        );
    }
    assert_eq!(
        decoded(Call::ProcWrite, [abi::hypercall::PROC_SHMMNI, 0x5000, 3, 0, 0, 0]),
        Ok(Hypercall::ProcWrite {
            setting: Setting::Mni,
            text: Buffer {
                gpa: GuestPhys::new(0x5000),
                len: 3
            }
        })
    );
    let at = |id, offset| SharedWord {
        of: Shared::Segment(id),
        offset,
    };
    assert_eq!(
        decoded(Call::FutexWait, [7, 64, minus_one, 3, 255, 0]),
        Ok(Hypercall::FutexWait(FutexWait {
            word: at(7, 64),
            expected: u32::MAX,
            bitset: 3,
            task: 255
        }))
    );
    assert_eq!(
        decoded(Call::FutexWake, [7, u64::MAX, u64::MAX, minus_one, 0, 0]),
        Ok(Hypercall::FutexWake(FutexWake {
            word: at(7, u64::MAX),
            count: u64::MAX,
            bitset: u32::MAX
        }))
    );
    for (last, expected) in [
        (5, None),
        (REQUEUE_COMPARE | 5, Some(5)),
        (REQUEUE_COMPARE, Some(0)),
    ] {
        assert_eq!(
            decoded(Call::FutexRequeue, [7, 64, 8, 4, 2 << 32 | 1, last]),
            Ok(Hypercall::FutexRequeue(FutexRequeue {
                from: at(7, 64),
                to: at(8, 4),
                wake: 1,
                requeue: 2,
                expected
            }))
        );
    }
    assert_eq!(
        decoded(Call::SwitchFpu, [FPU_TASKS + 7, FPU_TASKS, 0, 0, 0, 0]),
        Ok(Hypercall::SwitchFpu {
            keep: Some(7),
            load: FpuLoad::Task(0)
        })
    );
    let buffer = |gpa, len| Buffer {
        gpa: GuestPhys::new(gpa),
        len,
    };
    assert_eq!(
        decoded(Call::LoadFpu, [0x1000, 512, 0x5000, 3584, 7, 0]),
        Ok(Hypercall::LoadFpu {
            from: [buffer(0x1000, 512), buffer(0x5000, 3584)],
            features: 7
        })
    );
    assert_eq!(
        decoded(Call::FutexCancel, [255, 0, 0, 0, 0, 0]),
        Ok(Hypercall::FutexCancel { task: 255 })
    );
    let mut bulk = request(Call::Zero as u32, [1, 0, 0, 0, 0, 0]);
    bulk.payload[..24].copy_from_slice(
        BulkEntry {
            to: 1,
            from: 2,
            len: 3,
        }
        .as_bytes(),
    );
    match decode(&bulk) {
        Ok((Call::Zero, Hypercall::Zero(bulk))) => {
            let pieces: Vec<_> = bulk.pieces().collect();
            assert_eq!(pieces, [(GuestPhys::new(1), GuestPhys::new(2), 3)]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_means_nothing_is_refused() {
    let most = MAX_WRITE;
    for (call, args, errno) in [
        (Call::Write, [0, 0, 1, 0, 0, 0], Errno::EBADF),
        (Call::SwitchFpu, [FPU_INITIAL, 0, 0, 0, 0, 0], Errno::EINVAL),
        (
            Call::SwitchFpu,
            [FPU_TASKS + (1 << 16), 0, 0, 0, 0, 0],
            Errno::EINVAL,
        ),
        (Call::SwitchFpu, [0, u64::MAX, 0, 0, 0, 0], Errno::EINVAL),
        (Call::SaveFpu, [0, 4096, 0x5000, 1, 0, 0], Errno::EINVAL),
        (Call::SaveFpu, [0, u64::MAX, 0, 1, 0, 0], Errno::EINVAL),
        (Call::LoadFpu, [0, 1, 0, u64::MAX, 0, 0], Errno::EINVAL),
        (Call::Write, [1, 0, most + 1, 0, 0, 0], Errno::EINVAL),
        (Call::Write, [1, 0, 1, 1 << 32, 0, 0], Errno::EINVAL),
        (Call::Stdio, [3, 0, 0, 0, 0, 0], Errno::EBADF),
        (Call::Stdio, [0, 3, 0, 0, 0, 0], Errno::EINVAL),
        (Call::Random, [0, abi::PAGE_SIZE + 1, 0, 0, 0, 0], Errno::EINVAL),
        (Call::Copy, [MAX_BULK as u64 + 1, 0, 0, 0, 0, 0], Errno::EINVAL),
        (Call::Zero, [u64::MAX, 0, 0, 0, 0, 0], Errno::EINVAL),
        (Call::ShmAttach, [0, 0, 0, 0, 0, 12], Errno::EINVAL),
        (Call::ShmAttach, [0, 0, 0, 4096, 0, 12], Errno::EINVAL),
        (Call::ShmAttach, [0, 0, 0, 12, 0, 0], Errno::EINVAL),
        (Call::ShmDetach, [0, 2, 1, 0, 0, 0], Errno::EINVAL),
        (Call::ShmDetachLast, [0, 2, 0, 0, 0, 0], Errno::EINVAL),
        (Call::ShmAttachMore, [0, u64::MAX, 1, 0, 0, 0], Errno::EINVAL),
        (Call::FutexWait, [0, 0, 0, 1, 256, 0], Errno::EINVAL),
        (Call::FutexWait, [0, 0, 0, 1, 1 << 32, 0], Errno::EINVAL),
        (Call::FutexCancel, [256, 0, 0, 0, 0, 0], Errno::EINVAL),
        (Call::FutexCancel, [u64::MAX, 0, 0, 0, 0, 0], Errno::EINVAL),
        (Call::ProcRead, [6, 0, 0, 1, 0, 0], Errno::EINVAL),
        (Call::ProcRead, [0, 0, 0, abi::PAGE_SIZE + 1, 0, 0], Errno::EINVAL),
        (Call::ProcWrite, [0, 0, 1, 0, 0, 0], Errno::EINVAL),
        (Call::ObjectOpen, [0, 0, 0, 256, 0, 0], Errno::ENAMETOOLONG),
        (Call::ObjectOpen, [0, 0, 0, 1, 1 << 32, 0], Errno::EINVAL),
        (Call::ObjectRead, [1, 0, 0, most + 1, 0, 0], Errno::EINVAL),
        (Call::ObjectWrite, [1, 0, 0, most + 1, 0, 0], Errno::EINVAL),
        (Call::ObjectRename, [0, 1, 0, 256, 0, 0], Errno::ENAMETOOLONG),
        (Call::ObjectList, [0, 0, 254, 0, 0, 0], Errno::EINVAL),
        (Call::ObjectName, [0, 0, 254, 0, 0, 0], Errno::EINVAL),
        (Call::ObjectMap, [1, 2, 0, 4096, 0, 0], Errno::EINVAL),
        (
            Call::ProcWrite,
            [1, 0, abi::PAGE_SIZE + 1, 0, 0, 0],
            Errno::EINVAL,
        ),
    ] {
        assert_eq!(decoded(call, args), Err(errno), "{call:?} {args:?}");
    }
    assert_eq!(decode(&request(999, [0; 6])), Err(Errno::ENOSYS));
    let crowded = Request {
        group_count: MAX_GROUPS as u32 + 1,
        ..request(0, [0; 6])
    };
    assert_eq!(decode(&crowded), Err(Errno::EINVAL));
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..40, any::<u32>().prop_map(u64::from)]
}

proptest! {
    #[test]
    fn garbage_in_every_field_is_answered(
        call in 0u32..70,
        args in prop::array::uniform6(number()),
        group_count in prop_oneof![any::<u32>(), 0u32..40],
        payload in prop::collection::vec(any::<u8>(), 256),
    ) {
        let mut garbage = Request { group_count, ..request(call, args) };
        garbage.payload.copy_from_slice(&payload);
        match decode(&garbage) {
            Err(errno) => prop_assert!((1..=4095).contains(&errno.raw())),
            Ok((call, Hypercall::Write { text, .. } | Hypercall::Log { text, .. })) => {
                prop_assert!(text.len <= MAX_WRITE, "{call:?}");
            }
            Ok((_, Hypercall::Read { into })) => prop_assert!(into.len <= MAX_WRITE),
            Ok((_, Hypercall::ProcRead { into, .. } | Hypercall::ProcWrite { text: into, .. })) => {
                prop_assert!(into.len <= abi::PAGE_SIZE);
            }
            Ok((_, Hypercall::Random { into })) => prop_assert!(into.len <= abi::PAGE_SIZE),
            Ok((_, Hypercall::FutexWait(FutexWait { task, .. }) | Hypercall::FutexCancel { task })) => {
                prop_assert!((task as usize) < MAX_TASKS);
            }
            Ok((_, Hypercall::Copy(bulk) | Hypercall::Zero(bulk))) => {
                prop_assert!(bulk.pieces().count() <= MAX_BULK);
            }
            Ok(_) => {}
        }
    }
}
