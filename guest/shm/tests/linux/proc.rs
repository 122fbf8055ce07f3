//! The files in /proc: the host's own in an IPC namespace of the test's, and ours.

use crate::actor::enter_new_ipc_namespace;
use abi::Errno;
use abi::ipc::{IPC_CREAT, SHM_NORESERVE};
use proptest::prelude::*;
use shm::{Credentials, Got, Limits, Registry, Setting, TABLE_HEADER, TableLine};
use std::fs::{self, File};
use std::io::Write;

const FILES: [(Setting, &str); 5] = [
    (Setting::Mni, "/proc/sys/kernel/shmmni"),
    (Setting::Max, "/proc/sys/kernel/shmmax"),
    (Setting::All, "/proc/sys/kernel/shmall"),
    (Setting::NextId, "/proc/sys/kernel/shm_next_id"),
    (Setting::RmidForced, "/proc/sys/kernel/shm_rmid_forced"),
];

/// In a thread of its own, because the namespace is the thread's.
fn in_namespace<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let run = std::thread::spawn(|| {
        enter_new_ipc_namespace();
        body()
    });
    match run.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Writes to Linux's file and to ours: bytes taken or errno, and what both say afterwards.
fn compare(setting: Setting, path: &str, text: &[u8], ours: &mut Registry<()>) -> Result<(), String> {
    let linux = File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write(text));
    let linux = linux.map_err(|error| error.raw_os_error().and_then(Errno::from_raw));
    let taken = ours.set_setting(setting, text);
    let taken = taken.map(|written| written.used).map_err(Some);
    let linux = (
        linux,
        fs::read_to_string(path).map_err(|error| error.to_string())?,
    );
    let ours = (taken, ours.setting(setting));
    if linux == ours {
        Ok(())
    } else {
        Err(format!(
            "{path}, {:?}: Linux {linux:?}, ours {ours:?}",
            String::from_utf8_lossy(text)
        ))
    }
}

#[test]
fn settings_take_what_linux_takes() {
    in_namespace(|| {
        let mut ours = Registry::new(Limits::default());
        let long = [vec![b' '; 4090], b"5".to_vec()].concat();
        let too_long = [vec![b' '; 5000], b"5".to_vec()].concat();
        let trailing = [b"5".to_vec(), vec![b' '; 5000]].concat();
        let texts: [&[u8]; 60] = [
            b"abc",
            b"-1",
            b" 5\n",
            b"0",
            b"5",
            b"5 6",
            b"5 6\n",
            b"5x",
            b"5\0",
            b"",
            b"\n",
            b" ",
            b"   7   ",
            b"\t8\n\n",
            b"\x0b9",
            b"+9",
            b"0x10",
            b"0XfF ",
            b"0x",
            b"0xg",
            b"010",
            b"08",
            b"-",
            b"- 5",
            b"--5",
            b"-0",
            b"-0x0",
            b"-00",
            b"9\0\0",
            b"32768",
            b"32769",
            b"4294967296",
            b"4294967301",
            b"2147483648",
            b"18446744073709551615",
            b"18446744073709551616",
            b"18446744073709551617",
            b"99999999999999999999999",
            b"00000000000000000007",
            b"000000000000000000007",
            b"-0000000000000000000",
            b"-00000000000000000000",
            b"0x00000000000000000a",
            b"0x0000000000000000000a",
            b"9223372036854775808",
            b"5,6",
            b"5\n6",
            b"5 -1",
            b"5 x",
            b"x5",
            b" \xa05",
            b"5\xa0",
            b"5\r",
            b"5\x0c",
            b"\0 5",
            b"1\n\n\n\n",
            b"0xffffffffffffffff",
            &long,
            &too_long,
            &trailing,
        ];
        for (setting, path) in FILES {
            for text in texts {
                compare(setting, path, text, &mut ours).unwrap();
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn settings_take_what_linux_takes_whatever_is_written(
        texts in prop::collection::vec("[-+ \t\n\r]{0,3}(0x|0X|0|-)?[0-9a-f]{0,24}[ \n0-9x\u{b}]{0,4}", 300)
    ) {
        let difference = in_namespace(move || {
            let mut ours = Registry::new(Limits::default());
            let written = texts.iter().flat_map(|text| FILES.map(|(setting, path)| (setting, path, text)));
            written.map(|(setting, path, text)| compare(setting, path, text.as_bytes(), &mut ours)).find_map(Result::err)
        });
        prop_assert_eq!(difference, None);
    }
}

#[test]
fn the_table_of_segments_is_linuxs_to_the_byte() {
    in_namespace(|| {
        let path = "/proc/sysvipc/shm";
        assert_eq!(fs::read_to_string(path).unwrap(), TABLE_HEADER);
        let mut ours: Registry<u64> = Registry::new(Limits::default());
        let me = Credentials {
            pid: std::process::id(),
            task: std::process::id(),
            uid: 0,
            gid: 0,
            groups: &[],
        };
        let segments = [
            (0x1234, 5000, 0o600, 2),
            (-5, 4096, 0o666, 0),
            (i32::MAX, 1 << 40, SHM_NORESERVE | 0o777, 1),
            (i32::MIN, 1, 0, 1),
            (0, 100_000, 0o4, 3),
        ];
        for (key, size, flags, touched) in segments {
            let flags = flags | IPC_CREAT;
            // SAFETY: makes and attaches a segment, which goes with the namespace.
            let (id, now) = unsafe {
                let id = libc::syscall(libc::SYS_shmget, i64::from(key), size, i64::from(flags));
                let mut status: libc::shmid_ds = std::mem::zeroed();
                assert_eq!(libc::shmctl(id as i32, libc::IPC_STAT, &mut status), 0);
                (id, status.shm_ctime)
            };
            let made = ours
                .get(&me, key, size, flags, now, |_| Ok(touched * 4096))
                .unwrap();
            assert_eq!(made, Got::Created(id as i32));
            if touched == 0 {
                continue;
            }
            // SAFETY: as above; writes to pages that the segment has, then reads its times.
            let (atime, removed) = unsafe {
                let at = libc::shmat(id as i32, std::ptr::null(), 0);
                assert_ne!(at as isize, -1, "{}", std::io::Error::last_os_error());
                for page in 0..touched as usize {
                    at.cast::<u8>().add(page * 4096).write_volatile(1);
                }
                let mut status: libc::shmid_ds = std::mem::zeroed();
                assert_eq!(libc::shmctl(id as i32, libc::IPC_STAT, &mut status), 0);
                let removed = touched == 3;
                if removed {
                    assert_eq!(libc::shmctl(id as i32, libc::IPC_RMID, std::ptr::null_mut()), 0);
                } else {
                    assert_eq!(libc::shmctl(id as i32, libc::SHM_LOCK, std::ptr::null_mut()), 0);
                }
                (status.shm_atime, removed)
            };
            ours.attach(made.id(), me.pid, 1, atime).unwrap();
            if removed {
                ours.remove(&me, made.id()).unwrap();
            } else {
                ours.lock(&me, made.id(), None).unwrap();
            }
        }
        // Locking brings in every page of a small segment; the large one can't be.
        let mut text = TABLE_HEADER.to_owned();
        for segment in ours.iter() {
            let line = TableLine::of(segment);
            let len = line.len();
            let line = line.finish(segment.backing, 0);
            assert_eq!(line.len(), len);
            text += &line;
        }
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    });
}
