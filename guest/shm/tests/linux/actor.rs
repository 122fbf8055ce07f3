//! Processes that make System V calls on the host for the test, each with credentials of its own.
//!
//! They share the IPC namespace of the thread that starts them and take one request at a time over a socket.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// What an actor is asked to do.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Ask {
    /// shmget(key, size, flags).
    Get,
    /// shmat(id, NULL, flags): the address in `Answer::payload[0]`.
    Attach,
    /// shmdt(address).
    Detach,
    /// shmctl(id, command); for IPC_SET: uid, gid, mode.
    Control,
    /// Starts a child that ends at once, waits for it; its pid is the result.
    Fork,
    /// mprotect(address, one page, PROT_READ).
    Split,
}

/// An actor's answer.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Answer {
    /// What the call returned, or its negated errno.
    pub(crate) result: i64,
    /// The structure it filled, if any.
    pub(crate) payload: [u64; 14],
}

const ANSWER_LEN: usize = size_of::<Answer>();

/// A process with credentials, killed when dropped.
pub(crate) struct Actor {
    pub(crate) pid: u32,
    socket: UnixStream,
}

impl Actor {
    /// Starts a process as user `uid`, group `gid` and `groups`, that may lock `memlock` bytes.
    pub(crate) fn start(uid: u32, gid: u32, groups: &[u32], memlock: u64) -> Actor {
        let (socket, other) = UnixStream::pair().unwrap();
        // SAFETY: the child makes system calls only, on what lies on its stack, until it ends: nothing another
        // thread may have held locked is used.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => serve(&other, uid, gid, groups, memlock),
            pid => Actor {
                pid: pid as u32,
                socket,
            },
        }
    }

    /// Makes one call.
    pub(crate) fn ask(&mut self, ask: Ask, args: [u64; 5]) -> Answer {
        let mut request = [0; 48];
        for (bytes, word) in request.chunks_mut(8).zip([ask as u64].into_iter().chain(args)) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        self.socket.write_all(&request).unwrap();
        let mut words = [0; ANSWER_LEN];
        self.socket.read_exact(&mut words).unwrap();
        let word = |i: usize| u64::from_ne_bytes(words[i * 8..i * 8 + 8].try_into().unwrap());
        Answer {
            result: word(0) as i64,
            payload: std::array::from_fn(|i| word(i + 1)),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // SAFETY: the process is this value's own child, not yet waited for.
        unsafe {
            libc::kill(self.pid as i32, libc::SIGKILL);
            libc::waitpid(self.pid as i32, std::ptr::null_mut(), 0);
        }
    }
}

fn serve(socket: &UnixStream, uid: u32, gid: u32, groups: &[u32], memlock: u64) -> ! {
    let fd = socket.as_raw_fd();
    let limit = libc::rlimit {
        rlim_cur: memlock,
        rlim_max: memlock,
    };
    // SAFETY: plain system calls on values that live here. The raw numbers, because libc's wrappers would change
    // the credentials of threads that this process does not have.
    unsafe {
        let ok = libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) == 0
            && libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
            && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0;
        if !ok {
            libc::_exit(1);
        }
        loop {
            let mut request = [0u64; 6];
            if libc::read(fd, request.as_mut_ptr().cast(), 48) != 48 {
                libc::_exit(0);
            }
            let answer = carry_out(request);
            if libc::write(fd, (&raw const answer).cast(), ANSWER_LEN) != ANSWER_LEN as isize {
                libc::_exit(0);
            }
        }
    }
}

/// # Safety
/// Addresses in the request must be what an `Attach` returned.
unsafe fn carry_out([ask, a, b, c, d, e]: [u64; 6]) -> Answer {
    let mut answer = Answer::default();
    let payload = answer.payload.as_mut_ptr();
    // SAFETY: the calls touch attached segments and `payload`, which is as large as the largest structure.
    answer.result = unsafe {
        match ask {
            _ if ask == Ask::Get as u64 => libc::syscall(libc::SYS_shmget, a, b, c),
            _ if ask == Ask::Attach as u64 => {
                let at = libc::syscall(libc::SYS_shmat, a, 0u64, b);
                if at == -1 {
                    -1
                } else {
                    *payload = at as u64;
                    0
                }
            }
            _ if ask == Ask::Detach as u64 => libc::syscall(libc::SYS_shmdt, a),
            _ if ask == Ask::Control as u64 => {
                // struct shmid64_ds: uid at 4, gid at 8, mode at 20.
                *payload = c << 32;
                *payload.add(1) = d;
                *payload.add(2) = e << 32;
                let result = libc::syscall(libc::SYS_shmctl, a, b, payload);
                if b == libc::IPC_SET as u64 {
                    answer.payload = [0; 14];
                }
                result
            }
            _ if ask == Ask::Fork as u64 => match libc::syscall(libc::SYS_fork) {
                0 => libc::_exit(0),
                child => {
                    libc::waitpid(child as i32, std::ptr::null_mut(), 0);
                    child
                }
            },
            _ => i64::from(libc::mprotect(a as *mut libc::c_void, 4096, libc::PROT_READ)),
        }
    };
    if answer.result == -1 {
        // SAFETY: errno is this thread's own.
        answer.result = -i64::from(unsafe { *libc::__errno_location() });
    }
    answer
}

/// Gives the calling thread an IPC namespace of its own.
pub(crate) fn enter_new_ipc_namespace() {
    // SAFETY: changes this thread's namespace only.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } != 0 {
        panic!(
            "this test compares with the host's own System V shared memory in an IPC namespace of its own, and \
             unshare(CLONE_NEWIPC) says: {} (run it as root)",
            std::io::Error::last_os_error()
        );
    }
}
