# Entry and exit paths; described in entry.rs. AT&T syntax.

    .section .text.entry, "ax", @progbits
    .globl _start
    .type _start, @function
_start:                                 # every vCPU: rdi = BootInfo, rsi = index, rsp = its kernel stack
    xorl %ebp, %ebp                     # end of the backtrace
    call {kernel_start}
    ud2
    .size _start, . - _start

    .balign 16
    .globl trap_stubs
    .type trap_stubs, @function
trap_stubs:
    .set vector, 0
    .rept {vectors}
    .balign {stride}
    # Vectors at which the CPU pushes an error code (SDM 3A, table 6-1); elsewhere a 0 keeps the frame's shape.
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    pushq $0
    .endif
    .if vector == 2 || vector == 8
    pushq $vector
    jmp fatal_entry
    .elseif vector >= {first_interrupt}
    pushq $vector
    jmp interrupt_entry
    .else
    pushq $vector
    jmp exception_entry
    .endif
    .set vector, vector + 1
    .endr
    .size trap_stubs, . - trap_stubs

    .macro push_registers
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    .endm

    .balign 16
interrupt_entry:
    testb $3, 24(%rsp)                  # the interrupted code segment's privilege level
    jnz from_user
    # The idle loop's HLT was interrupted: only what a call destroys needs saving.
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movq 72(%rsp), %rdi                 # the vector; with it, the error and the CPU's 5 words: 16, so rsp is aligned
    cld
    call {interrupt_in_kernel}
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .balign 16
exception_entry:
    testb $3, 24(%rsp)
    jz fatal_entry
from_user:
    swapgs
    push_registers
    cld
    movq %rsp, %rdi
enter_kernel:
    movq %gs:{stack_top}, %rsp
    xorl %ebp, %ebp
    call {trap_from_user}
    movq %rax, %rdi
resume_frame:
    .globl resume_frame
    movq %rdi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    addq $16, %rsp
    swapgs
    iretq

    # An exception in ring 0, #DF or NMI: the kernel is broken. GS may be the program's.
    .balign 16
fatal_entry:
    push_registers
    cld
    movq %rsp, %rdi
    andq $-16, %rsp
    call {fault_in_kernel}
    ud2

    # SYSCALL on a CPU where it arrives in ring 0: builds the same frame.
    .balign 16
    .globl syscall_entry
    .type syscall_entry, @function
syscall_entry:
    swapgs
    movq %rsp, %gs:{scratch}
    movq %gs:{frame_end}, %rsp
    pushq ${user_ss}
    pushq %gs:{scratch}
    pushq %r11
    pushq ${user_cs}
    pushq %rcx
    pushq $0
    pushq ${syscall_vector}
    push_registers
    movq %rsp, %rdi
    jmp enter_kernel
    .size syscall_entry, . - syscall_entry
