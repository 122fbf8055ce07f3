//! What belongs to one thread: segment bases, ids the libraries register, where it may run.

use super::Call;
use crate::arch::context::{self, Context};
use ::futex::robust::HEAD_LEN;
use abi::Errno;
use abi::memory::USER_END;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
/// Size of the kernel's CPU sets in bytes: one word, since there are at most 16 vCPUs.
const CPU_SET: u64 = 8;

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

/// get_robust_list(2), of the caller only.
pub fn get_robust_list(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, head, len, ..] = call.args;
    if id != 0 && id != u64::from(call.task().id) {
        return Err(Errno::ESRCH);
    }
    let list = call.task().robust_list;
    call.write(len, &HEAD_LEN)?;
    call.write(head, &list)?;
    Ok(0)
}

/// sched_yield(2).
pub fn sched_yield(call: &mut Call<'_>) -> Result<u64, Errno> {
    call.kernel.yield_now(call.cpu, call.task);
    Ok(0)
}

fn is_self(call: &mut Call<'_>, id: u64) -> Result<(), Errno> {
    if id as i32 == 0 || id as u32 == call.task().id {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// sched_getaffinity(2): returns the size of the kernel's set.
pub fn sched_getaffinity(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, len, set, ..] = call.args;
    if len < CPU_SET || len % 8 != 0 {
        return Err(Errno::EINVAL);
    }
    is_self(call, id)?;
    let mask = u64::from(call.task().affinity);
    call.write(set, &mask)?;
    Ok(CPU_SET)
}

/// sched_setaffinity(2): takes effect before it returns.
pub fn sched_setaffinity(call: &mut Call<'_>) -> Result<u64, Errno> {
    let [id, len, set, ..] = call.args;
    let mut bytes = [0u8; 8];
    let take = (len as usize).min(bytes.len());
    call.with_space(|space, memory, world| space.read(memory, world, set, &mut bytes[..take]))?;
    is_self(call, id)?;
    let all = u32::MAX >> (32 - call.kernel.vcpus);
    let mask = u64::from_le_bytes(bytes) as u32 & all;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    call.task().affinity = mask;
    if mask & call.cpu.bit() == 0 {
        call.kernel.give_away(call.cpu, call.task);
    }
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
