//! Identifiers until their sequence number starts over.

use crate::actor::enter_new_ipc_namespace;
use shm::{Credentials, Limits, Registry};

/// With so many in use the cycle of indices is 64 long, and the fewest of them are free: the sequence number grows as
/// fast as it can.
const IN_USE: usize = 43;
/// The sequence number that is never given out (`ipcid_seq_max`).
const SEQ_END: i32 = 65535;

#[test]
fn every_identifier_until_the_sequence_number_has_started_over_is_linuxs() {
    let run = std::thread::spawn(|| {
        enter_new_ipc_namespace();
        let me = Credentials {
            pid: 1,
            task: 1,
            uid: 0,
            gid: 0,
            groups: &[],
        };
        let mut ours: Registry<()> = Registry::new(Limits::default());
        let make = |ours: &mut Registry<()>| {
            // SAFETY: makes a segment, which goes with the namespace.
            let linux = unsafe { libc::shmget(libc::IPC_PRIVATE, 1, 0o600) };
            let got = ours.get(&me, 0, 1, 0o600, 0, |_| Ok(())).expect("a segment");
            assert_eq!(got.id(), linux);
            linux
        };
        for _ in 0..IN_USE {
            make(&mut ours);
        }
        let (mut sequence, mut highest) = (0, 0);
        while sequence >= highest {
            highest = sequence;
            let id = make(&mut ours);
            // SAFETY: removes the segment that was just made.
            let removed = unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
            assert_eq!(removed, 0);
            ours.remove(&me, id).expect("a segment to remove");
            sequence = id >> 15;
        }
        assert_eq!((highest, sequence), (SEQ_END - 1, 0));
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}
