//! Guest kernels of a few instructions each, and the ELF files around them.
// UNSAFETY: the code is assembled into this test's own image and copied out of it.
#![expect(unsafe_code, reason = "global_asm and the symbols around it")]

use abi::ABI_VERSION;
use abi::boot::{HEADER_MAGIC, HEADER_SECTION, KernelHeader, VECTORS};
use abi::memory::KERNEL_VIRT;
use std::sync::Arc;
use zerocopy::IntoBytes;

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident: $($line:literal),+;)*) => {$(
        std::arch::global_asm!(
            ".pushsection .rodata",
            concat!("test_kernel_", stringify!($name), ":"),
            $($line,)+
            concat!("test_kernel_", stringify!($name), "_end:"),
            ".popsection",
        );

        $(#[$doc])*
        pub(crate) fn $name() -> Arc<[u8]> {
            unsafe extern "C" {
                #[link_name = concat!("test_kernel_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("test_kernel_", stringify!($name), "_end")]
                static END: u8;
            }
            // SAFETY: the two symbols enclose the bytes that the assembly above put into .rodata.
            let code = unsafe {
                let start = &raw const START;
                std::slice::from_raw_parts(start, (&raw const END).addr() - start.addr())
            };
            Arc::from(image(code, ABI_VERSION))
        }
    )*};
}

kernels! {
    /// Says at once that all is done.
    done:
        "xor eax, eax", "mov dx, 0x504", "out dx, eax";
    /// Loops for ever.
    spin:
        "2: jmp 2b";
    /// Sleeps for ever.
    sleep:
        "2: cli", "hlt", "jmp 2b";
    /// Uses what a vCPU is promised: stack, per-vCPU data, BootInfo, the hypercall page; then all but vCPU 0
    /// sleep, and vCPU 0 waits until the others have been here. Any disappointment is a write to port 0x99.
    promised:
        "push rsi", "pop rax", "cmp rax, rsi", "jne 9f",
        // The per-vCPU data is this vCPU's own, and zero.
        "cmp qword ptr gs:[0], 0", "jne 9f",
        "mov gs:[0], rsi",
        // BootInfo: magic, vCPUs, and the clock page's multiplier through the direct map.
        "mov rax, [rdi]", "mov rbx, 0x424f4c4f424d4f54", "cmp rax, rbx", "jne 9f",
        "mov r8, 0xffff800000000000",
        "mov rax, [rdi + 136]", "cmp qword ptr [r8 + rax + 8], 0", "je 9f",
        // The task register holds the TSS's selector.
        "str ax", "cmp ax, 0x40", "jne 9f",
        // A Nop in slot 3 answers 0; a call that does not exist ENOSYS.
        "mov rbx, 0xffffffffc000b000", "mov rax, rsi", "shl rax, 16", "add rbx, rax", "add rbx, 3 * 480",
        "mov dword ptr [rbx], 0", "mov qword ptr [rbx + 64], 77",
        "mov eax, 3", "mov dx, 0x500", "out dx, eax",
        "cmp qword ptr [rbx + 64], 0", "jne 9f",
        "mov dword ptr [rbx], 4711", "mov eax, 3", "out dx, eax",
        "cmp qword ptr [rbx + 64], -38", "jne 9f",
        // Count the vCPUs that came here, in the first word of the frame table.
        "mov rax, [rdi + 72]", "add rax, r8", "lock inc dword ptr [rax]",
        "test rsi, rsi", "jnz 8f",
        "2: pause", "mov ecx, [rax]", "cmp ecx, [rdi + 20]", "jne 2b",
        "xor eax, eax", "mov dx, 0x504", "out dx, eax",
        "8: cli", "hlt", "jmp 8b",
        "9: mov dx, 0x99", "out dx, eax";
    /// Writes where the frame behind its own stack would be.
    guard_page:
        "mov rax, 0xffffffffc0000800", "mov qword ptr [rax], 1",
        "xor eax, eax", "mov dx, 0x504", "out dx, eax";
    /// Writes to its own code.
    writes_to_text:
        "lea rax, [rip]", "mov qword ptr [rax], 1",
        "xor eax, eax", "mov dx, 0x504", "out dx, eax";
    /// Maps 2 MiB of the read-only window at 512 GiB and writes there.
    writes_read_only:
        "mov r9, [rdi + 112]", "mov r8, 0xffff800000000000",
        // In free_start: a page-directory pointer table, then a page directory.
        "mov rbx, [rdi + 64]",
        "lea rax, [rbx + 3]", "mov rcx, cr3", "mov [r8 + rcx + 8], rax",
        "lea rax, [rbx + 0x1003]", "mov [r8 + rbx], rax",
        "lea rax, [r9 + 0x83]", "mov [r8 + rbx + 0x1000], rax",
        "mov rax, 0x8000000000", "mov qword ptr [rax], 1",
        "xor eax, eax", "mov dx, 0x504", "out dx, eax";
    /// Maps 2 MiB of the empty read-write window at 512 GiB and writes there.
    writes_to_a_hole:
        "mov r9, [rdi + 96]", "mov r8, 0xffff800000000000",
        // In free_start: a page-directory pointer table, then a page directory.
        "mov rbx, [rdi + 64]",
        "lea rax, [rbx + 3]", "mov rcx, cr3", "mov [r8 + rcx + 8], rax",
        "lea rax, [rbx + 0x1003]", "mov [r8 + rbx], rax",
        "lea rax, [r9 + 0x83]", "mov [r8 + rbx + 0x1000], rax",
        "mov rax, 0x8000000000", "mov qword ptr [rax], 1",
        "xor eax, eax", "mov dx, 0x504", "out dx, eax";
    /// Reads a port that is not there.
    reads_a_port:
        "in al, 0x71";
    /// Asks for slot 8 of 8.
    bad_slot:
        "mov eax, 8", "mov dx, 0x500", "out dx, eax";
    /// Leaves an epitaph: message, one register set, a backtrace into itself.
    panics:
        "mov rbx, 0xffffffffc000d000",
        "mov qword ptr [rbx + 176], 0xffffffff80200001",
        "mov dword ptr [rbx + 432], 1000000",
        "mov dword ptr [rbx + 436], 5",
        "mov dword ptr [rbx + 440], 1",
        "mov dword ptr [rbx + 444], 42",
        "mov dword ptr [rbx + 448], 0x5b1b6f68", "mov byte ptr [rbx + 452], 0x21",
        "mov eax, 1", "mov dx, 0x504", "out dx, eax";
    /// Writes a page of its own code to stdout, for ever.
    writes:
        "mov r10, 0xffffffffc000b000", "mov dx, 0x500",
        "mov dword ptr [r10], 2",
        "mov qword ptr [r10 + 16], 1", "mov qword ptr [r10 + 24], 0x200000", "mov qword ptr [r10 + 32], 4096",
        "2: xor eax, eax", "out dx, eax", "jmp 2b";
    /// Sends requests made of nothing but pseudo-random words, small and large, then says that all is done.
    garbage:
        "mov r8, 0x9e3779b97f4a7c15", "mov r9d, 3000", "mov r10, 0xffffffffc000b000",
        "2: xor ecx, ecx",
        "3: mov rax, r8", "shl rax, 13", "xor r8, rax", "mov rax, r8", "shr rax, 7", "xor r8, rax",
        "mov rax, r8", "shl rax, 17", "xor r8, rax",
        // A quarter of the words are small numbers, a quarter lie in RAM, the rest are anything.
        "mov rax, r8", "mov edx, eax", "shr edx, 29",
        "cmp edx, 1", "ja 4f", "and eax, 31", "4: cmp edx, 3", "ja 5f", "and eax, 0xffffff",
        "5: mov [r10 + rcx * 8], rax", "inc ecx", "cmp ecx, 60", "jne 3b",
        "mov eax, r8d", "and eax, 31", "mov [r10], eax",
        "xor eax, eax", "mov dx, 0x500", "out dx, eax",
        "dec r9d", "jnz 2b",
        "xor eax, eax", "mov dx, 0x504", "out dx, eax";
}

/// An image whose ABI version is not ours.
pub(crate) fn of_another_version() -> Arc<[u8]> {
    Arc::from(image(&[0xf4], ABI_VERSION + 1))
}

const PAGE: usize = 4096;
const STUB_STRIDE: usize = 16;

/// `mov eax, vector; mov dx, 0x98; out dx, eax; hlt`.
fn stub(vector: u8) -> [u8; STUB_STRIDE] {
    let mut stub = [0xf4; STUB_STRIDE];
    stub[..10].copy_from_slice(&[0xb8, vector, 0, 0, 0, 0x66, 0xba, 0x98, 0, 0xef]);
    stub
}

/// An ELF file: `code` and, on a page of its own, trap stubs that write their vector to port 0x98; the header.
fn image(code: &[u8], abi_version: u32) -> Vec<u8> {
    assert!(code.len() <= PAGE);
    let stubs_at = PAGE;
    let stubs: Vec<u8> = (0..VECTORS as u8).flat_map(stub).collect();
    let header_at = 2 * PAGE;
    let header = KernelHeader {
        magic: HEADER_MAGIC,
        abi_version,
        stub_stride: STUB_STRIDE as u32,
        trap_stubs: KERNEL_VIRT + stubs_at as u64,
        syscall_entry: KERNEL_VIRT,
    };
    let names = format!("\0{HEADER_SECTION}\0");
    let names_at = header_at + size_of::<KernelHeader>();
    let sections_at = names_at + names.len().next_multiple_of(8);

    // The first page of the file is ELF's own; the image starts at the second.
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let half = |file: &mut Vec<u8>, value: u16| file.extend_from_slice(&value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend_from_slice(&value.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, 62);
    word(&mut file, 1);
    long(&mut file, KERNEL_VIRT);
    long(&mut file, 64);
    long(&mut file, (PAGE + sections_at) as u64);
    word(&mut file, 0);
    for value in [64, 56, 2, 64, 3, 2] {
        half(&mut file, value);
    }
    let code_len = stubs_at + stubs.len();
    for (flags, at, len) in [(5, 0, code_len), (4, header_at, size_of::<KernelHeader>())] {
        word(&mut file, 1);
        word(&mut file, flags);
        let (offset, virt, len) = ((PAGE + at) as u64, KERNEL_VIRT + at as u64, len as u64);
        for value in [offset, virt, virt, len, len, PAGE as u64] {
            long(&mut file, value);
        }
    }
    file.resize(PAGE, 0);
    file.extend_from_slice(code);
    file.resize(PAGE + stubs_at, 0x90);
    file.extend_from_slice(&stubs);
    file.resize(PAGE + header_at, 0);
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(names.as_bytes());
    file.resize(PAGE + sections_at + 64, 0);
    for (name, kind, at, len) in [
        (1, 1, header_at, size_of::<KernelHeader>()),
        (0, 3, names_at, names.len()),
    ] {
        word(&mut file, name);
        word(&mut file, kind);
        for value in [0, 0, (PAGE + at) as u64, len as u64] {
            long(&mut file, value);
        }
        word(&mut file, 0);
        word(&mut file, 0);
        long(&mut file, 8);
        long(&mut file, 0);
    }
    file
}
