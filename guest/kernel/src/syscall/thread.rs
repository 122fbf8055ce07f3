//! What belongs to one thread: segment bases, ids the libraries register. And barriers between threads.

use super::Call;
use crate::arch::context::{self, Context};
use crate::arch::tlb;
use crate::process::task::State;
use ::futex::robust::HEAD_LEN;
use abi::Errno;
use abi::memory::USER_END;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const MEMBARRIER_QUERY: u64 = 0;
const MEMBARRIER_GLOBAL: u64 = 1;
const MEMBARRIER_PRIVATE_EXPEDITED: u64 = 8;
const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: u64 = 16;

/// arch_prctl(2).
pub fn arch_prctl(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [what, address, ..] = call.args;
    match what {
        ARCH_SET_FS | ARCH_SET_GS if address >= USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            Context::of(call.task).set_fs_base(address);
            Ok(0)
        }
        ARCH_SET_GS => {
            Context::of(call.task).set_gs_base(address);
            Ok(0)
        }
        ARCH_GET_FS => call.write(address, &context::fs_base()).map(|()| 0),
        ARCH_GET_GS => call.write(address, &context::gs_base()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// set_tid_address(2).
pub fn set_tid_address(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [address, ..] = call.args;
    call.task().clear_child_tid = address;
    Ok(u64::from(call.task().id))
}

/// set_robust_list(2).
pub fn set_robust_list(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [head, len, ..] = call.args;
    if len != HEAD_LEN {
        return Err(Errno::EINVAL);
    }
    call.task().robust_list = head;
    call.kernel.publish_robust_list(call.task);
    Ok(0)
}

/// get_robust_list(2), of whom the caller might trace: itself, its process, who has its user and group ids alone, and
/// for root everyone (ptrace(2), access mode checking).
pub fn get_robust_list(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, head, len, ..] = call.args;
    let task = match id as u32 {
        0 => call.task,
        id => call.kernel.find_task(id).ok_or(Errno::ESRCH)?,
    };
    let own = call.kernel.tasks[usize::from(call.task)].process;
    let target = call.kernel.tasks[usize::from(task)].process;
    let [own_ids, ids] = [own, target].map(|number| call.kernel.processes[usize::from(number)].credentials);
    let same = ids.uid == [own_ids.uid[0]; 3] && ids.gid == [own_ids.gid[0]; 3];
    if own != target && !own_ids.is_privileged() && !same {
        return Err(Errno::EPERM);
    }
    let list = call.kernel.tasks[usize::from(task)].robust_list;
    call.write(len, &HEAD_LEN)?;
    call.write(head, &list)?;
    Ok(0)
}

/// getcpu(2).
pub fn getcpu(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [cpu, node, ..] = call.args;
    let index = call.cpu.index.get();
    call.write_if(cpu, &index)?;
    call.write_if(node, &0u32)?;
    Ok(0)
}

/// membarrier(2): all threads that run pass a barrier before it returns, those of the caller's process or of all. Those
/// that don't run have passed one when they stopped.
pub fn membarrier(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [command, flags, ..] = call.args;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    match command as u32 as u64 {
        MEMBARRIER_QUERY => {
            Ok(MEMBARRIER_GLOBAL | MEMBARRIER_PRIVATE_EXPEDITED | MEMBARRIER_REGISTER_PRIVATE_EXPEDITED)
        }
        MEMBARRIER_REGISTER_PRIVATE_EXPEDITED => {
            call.process().wants_barriers = true;
            Ok(0)
        }
        MEMBARRIER_PRIVATE_EXPEDITED if !call.process().wants_barriers => Err(Errno::EPERM),
        MEMBARRIER_PRIVATE_EXPEDITED => {
            let space = call.task().space;
            tlb::flush_others(call.cpu, call.kernel.spaces[space].loaded);
            Ok(0)
        }
        MEMBARRIER_GLOBAL => {
            let running = call
                .kernel
                .tasks
                .iter()
                .filter(|task| task.state == State::Running);
            let vcpus = running.fold(0, |vcpus, task| vcpus | 1 << task.last_cpu);
            tlb::flush_others(call.cpu, vcpus);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
