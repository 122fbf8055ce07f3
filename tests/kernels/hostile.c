/* A guest kernel that means no good: what it does is chosen by -DMODE=…. Nothing it does may harm the host.
 * Addresses and layouts are those of the crate abi; tests/hostile_kernel.rs checks the ones used here. */
#include <stdint.h>

#define GARBAGE 0
#define GARBAGE_PORTS 1
#define EPITAPH 2
#define NO_MEMORY 3
#define TRIPLE_FAULT 4
#define LOOP 5
#define HALT 6
#define UNKNOWN_EXIT 7
#define STRINGS 9
#define LIES 11
#define BAD_SLOT 12

enum { HYPERCALL_PORT = 0x500, EXIT_PORT = 0x504 };

__asm__(".globl start, trap_stubs\n"
        "start: call main\n"
        "1: hlt; jmp 1b\n"
        /* Any trap: exit as a panic. */
        ".balign 16\ntrap_stubs:\n"
        ".rept 48\n.balign 16, 0x90\nmov $1, %eax\nmov $0x504, %dx\nout %eax, %dx\nhlt\n.endr\n.balign 16, 0x90\n");

__asm__(".pushsection .tombolo.header, \"a\"\n"
        ".ascii \"TOMBOLOK\"\n.long " ABI_VERSION ", 16\n.quad trap_stubs, start\n.popsection\n");

static void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" ::"a"(value), "d"(port) : "memory"); }
static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "d"(port)); }

struct request {
    uint32_t call, pid, euid, egid;
    uint64_t args[6];
    int64_t result;
    uint64_t out[2];
    uint32_t group_count, groups[32], pad;
    uint8_t payload[256];
};
_Static_assert(sizeof(struct request) == 480, "as in abi::hypercall");

struct boot {
    uint64_t magic;
    uint32_t abi_version, guest, guests, vcpus;
    uint64_t flags, ram[4], free_start, frame_table[2], page_table, window_rw[2], window_ro[2];
};

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 16;
}

static uint64_t nasty(uint64_t *state, const struct boot *boot) {
    switch (next(state) % 24) {
    case 0: case 1: return 0;
    case 2: case 3: return 1;
    case 4: return 2;
    case 5: return 4096;
    case 6: return 4097;
    case 7: return -1;
    case 8: return 1ull << 63;
    case 9: return (1ull << 63) - 1;
    case 10: return boot->ram[0] + boot->ram[1] - 1;
    case 11: return boot->ram[0] + boot->ram[1];
    case 12: return boot->window_rw[0];
    case 13: return boot->window_ro[0] + boot->window_ro[1] - 8;
    case 14: return boot->free_start; /* Not the image: clearing itself would end it too soon. */
    case 15: return boot->free_start + (next(state) & 0xfffff8);
    case 16: return next(state) & 0xfff;
    case 17: return 1 << 20;
    case 18: return (1 << 20) + 1;
    case 19: return 0x1200; /* IPC_CREAT and a mode */
    case 20: return 0xffffffff;
    case 21: return 0x80000000;
    case 22: return next(state) & 7;
    default: return next(state) << 16 ^ next(state);
    }
}

static void garbage(const struct boot *boot, volatile struct request *slots, uint64_t seed, int rounds) {
    uint64_t state = seed;
    for (int i = 0; i < rounds; i++) {
        unsigned slot = next(&state) % 8;
        volatile struct request *r = &slots[slot];
        r->call = next(&state) % 24;
        if (next(&state) % 50 == 0) r->call = (uint32_t)nasty(&state, boot);
        r->pid = (uint32_t)nasty(&state, boot);
        if (next(&state) % 4 == 0) r->euid = (uint32_t)nasty(&state, boot), r->egid = (uint32_t)nasty(&state, boot);
        r->group_count = (uint32_t)nasty(&state, boot);
        for (int a = 0; a < 6; a++) r->args[a] = nasty(&state, boot);
        volatile uint64_t *payload = (volatile uint64_t *)r->payload;
        for (int p = 0; p < 6; p++) payload[p] = nasty(&state, boot);
        out32(HYPERCALL_PORT, slot);
    }
}

void main(const struct boot *boot, unsigned long index) {
    char *area = (char *)(0xffffffffc0000000 + index * 0x10000);
    volatile struct request *slots = (volatile struct request *)(area + 0xb000);
    volatile uint64_t *direct = (volatile uint64_t *)0xffff800000000000;
    (void)direct;
    (void)slots;
#if MODE == GARBAGE
    garbage(boot, slots, 7 + index * 1000 + SEED, 4000);
    out32(EXIT_PORT, 0);
#elif MODE == GARBAGE_PORTS
    uint64_t state = 3;
    for (int i = 0; i < 500; i++) out8((uint16_t)(next(&state)), 1);
    out32(EXIT_PORT, 0);
#elif MODE == EPITAPH
    /* Every count far too large, a message that is no text and would steer a terminal. */
    volatile uint8_t *epitaph = (volatile uint8_t *)(area + 0xd000);
    for (int i = 0; i < 4096; i++) epitaph[i] = i % 3 == 0 ? 0x1b : i % 3 == 1 ? 0xff : '[';
    out32(EXIT_PORT, 1);
#elif MODE == NO_MEMORY
    /* Its own page tables lead nowhere: the direct map's last large page, made to point far beyond RAM. */
    volatile uint64_t *root = (volatile uint64_t *)(0xffff800000000000 + boot->page_table);
    volatile uint64_t *pdpt = (volatile uint64_t *)(0xffff800000000000 + (root[256] & 0xffffffffff000));
    volatile uint64_t *pd = (volatile uint64_t *)(0xffff800000000000 + (pdpt[0] & 0xffffffffff000));
    pd[511] = 0x3fe00000ull << 8 | 0x83; /* no RAM, no window */
    __asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" ::: "rax", "memory");
    (void)direct[0x3fe00000 / 8 + 1];
    direct[0x3fe00000 / 8] = 1;
    out32(EXIT_PORT, 0);
#elif MODE == TRIPLE_FAULT
    struct __attribute__((packed)) { uint16_t limit; uint64_t base; } none = {0, 0};
    __asm__ volatile("lidt %0; ud2" ::"m"(none));
#elif MODE == LOOP
    for (;;) __asm__ volatile("");
#elif MODE == HALT
    for (;;) __asm__ volatile("hlt");
#elif MODE == UNKNOWN_EXIT
    out32(EXIT_PORT, 77);
    for (;;) __asm__ volatile("hlt");
#elif MODE == STRINGS
    __asm__ volatile("rep outsl" ::"S"(slots), "c"(100ul), "d"((uint16_t)HYPERCALL_PORT) : "memory");
    out8(HYPERCALL_PORT, 0);
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "d"((uint16_t)HYPERCALL_PORT));
    out32(EXIT_PORT, 0);
#elif MODE == BAD_SLOT
    out32(HYPERCALL_PORT, SEED);
    out32(EXIT_PORT, 0);
#elif MODE == LIES
    /* Says it is done although no process has run, and twice. */
    slots[0].call = 1;
    out32(HYPERCALL_PORT, 0);
    out32(HYPERCALL_PORT, 0);
    out32(EXIT_PORT, 0);
    out32(EXIT_PORT, 0);
#endif
    for (;;) __asm__ volatile("hlt");
}
