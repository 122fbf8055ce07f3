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
#define FUTEXES 13
#define OBJECTS 14

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
    uint64_t tsc_khz, clock, files;
    uint32_t file_count, process_count;
    uint64_t processes, probe, seed[4];
    uint32_t uid, gid;
    uint64_t tree_id, tasks;
};
_Static_assert(__builtin_offsetof(struct boot, tasks) == 224, "as in abi::boot");

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
        r->call = next(&state) % 3 ? next(&state) % 29 : 50 + next(&state) % 16;
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

static int64_t ask(volatile struct request *r, uint32_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    r->call = call, r->pid = 0, r->euid = 0, r->group_count = 0;
    r->args[0] = a, r->args[1] = b, r->args[2] = c, r->args[3] = d, r->args[4] = e, r->args[5] = f;
    out32(HYPERCALL_PORT, 0);
    return r->result;
}

/* Waits with every task at once, moves, wakes and cancels without sense, writes its own wake bits; and leaves task
 * records whose page tables and robust lists lead everywhere. */
static void futexes(const struct boot *boot, volatile struct request *r, uint64_t seed) {
    uint64_t state = seed;
    int64_t id = ask(r, 16, 0x707, 1 << 16, 01600, 0, 0, 0);
    if (id < 0) id = ask(r, 16, 0x707, 0, 0, 0, 0, 0);
    ask(r, 17, id, 0, -1ull, 22, -1ull, 12);
    volatile uint64_t *tasks = (volatile uint64_t *)(0xffff800000000000 + boot->tasks);
    for (int task = 0; task < 300; task++) ask(r, 25, id, task % 8 * 4, 0, 1 + task, task, 0);
    for (int i = 0; i < 2000; i++) {
        uint64_t offset = next(&state) % 3 ? next(&state) % 8 * 4 : nasty(&state, boot), other = next(&state) % 9 * 4;
        switch (next(&state) % 6) {
        case 0: ask(r, 25, id, offset, next(&state) % 2, nasty(&state, boot), next(&state) % 260, 0); break;
        case 1: ask(r, 26, id, offset, nasty(&state, boot), nasty(&state, boot), 0, 0); break;
        case 2: case 3: ask(r, 27, id, offset, id, other, nasty(&state, boot), nasty(&state, boot)); break;
        case 4: ask(r, 28, next(&state) % 260, 0, 0, 0, 0, 0); break;
        default: tasks[next(&state) % 4] = nasty(&state, boot);
        }
    }
    /* Ids of this guest (0) and of others; real page tables and wild ones; lists in the kernel's memory, anywhere. */
    for (int task = 0; task < 256; task++) {
        tasks[4 + task * 3] = next(&state) % 2 ? 2 + next(&state) % 9 : nasty(&state, boot);
        tasks[5 + task * 3] = next(&state) % 3 ? boot->page_table : nasty(&state, boot);
        tasks[6 + task * 3] = next(&state) % 2 ? 0xffff800000000000 + boot->free_start + (next(&state) & 0xff8) : nasty(&state, boot);
    }
    /* A low half for ring 3 that shows RAM and the window in 2 MiB pages, and a list in it that never ends: each of
     * 256 walks is as long as can be. */
    volatile uint64_t *frames = (volatile uint64_t *)(0xffff800000000000 + boot->free_start);
    uint64_t pdpt = boot->free_start, pd = pdpt + 4096, list = 0x200000 - 8192;
    frames[0] = pd | 7;
    for (int i = 0; i < 512; i++) frames[512 + i] = ((i < 256 ? (uint64_t)i << 21 : boot->window_rw[0]) & ~0x1fffffull) | 0x87;
    ((volatile uint64_t *)(0xffff800000000000 + boot->page_table))[0] = pdpt | 7;
    volatile uint64_t *entries = (volatile uint64_t *)(0xffff800000000000 + list);
    entries[0] = list + 8, entries[1] = list + 32, entries[2] = list + 8;
    for (int i = 3; i < 64; i++) entries[i] = list + (3 + next(&state) % 61) * 8;
    for (int task = 0; task < 256; task += 2) {
        tasks[4 + task * 3] = 7;
        tasks[5 + task * 3] = boot->page_table;
        tasks[6 + task * 3] = list;
    }
}

/* Objects. Guest 0 makes one of 16 pages, which guest 1 has in a window; then guest 0 makes it smaller. Whether guest 1
 * says that it has let go of the pages, and whether it has, is chosen by SEED: 0 it doesn't say so; 1 it does, and reads
 * what is gone; 2 it does, and ends. Guest 0 waits for the outcome. */
static void objects(const struct boot *boot, volatile struct request *r, uint64_t seed) {
    volatile char *frames = (volatile char *)(0xffff800000000000 + boot->free_start);
    uint64_t name = boot->free_start, pdpt = name + 4096, pd = pdpt + 4096;
    frames[0] = 'o';
    int64_t made;
    do made = ask(r, 50, 7, 0, name, 1, 0600, 0); while (made < 0);
    uint64_t serial = *(volatile uint64_t *)r->payload;
    volatile uint64_t *flag = (volatile uint64_t *)(frames + 2048);
    if (boot->guest == 0) {
        ask(r, 53, serial, 16 << 12, 0, 0, 0, 0);
        flag[0] = 1;
        ask(r, 55, serial, 0, name + 2048, 8, 0, 0);
        /* The other one's range is there when the second word is. */
        do ask(r, 54, serial, 8, name + 2048, 8, 0, 0); while (flag[0] != 1);
        int64_t answer = ask(r, 53, serial, 4096, 0, 0, 0, 0);
        uint64_t number = r->out[0];
        if (answer != -11 || !number) out32(EXIT_PORT, 1);
        do answer = ask(r, 53, serial, 4096, number, 0, 0, 0); while (answer == -11);
        out32(EXIT_PORT, answer == 0 ? 0 : 1);
    }
    do ask(r, 54, serial, 0, name + 2048, 8, 0, 0); while (flag[0] != 1);
    if (ask(r, 60, serial, 0, 0, 16 << 12, 0, 0) != 0) out32(EXIT_PORT, 1);
    uint64_t gpa = r->out[0];
    /* In its own tables, at 1 GiB of the lower half: all 16 pages, and it touches the last one. */
    volatile uint64_t *root = (volatile uint64_t *)(0xffff800000000000 + boot->page_table);
    volatile uint64_t *tables = (volatile uint64_t *)(frames + 4096), *pages = tables + 1024;
    tables[1] = pd | 7;
    tables[512] = (pd + 4096) | 7;
    for (int i = 0; i < 16; i++) pages[i] = (gpa + i * 4096ull) | 7;
    root[0] = pdpt | 7;
    volatile char *seen = (volatile char *)0x40000000;
    seen[15 << 12] = 1;
    ask(r, 55, serial, 8, name + 2048, 8, 0, 0);
    if (seed == 0) for (;;) ask(r, 0, 0, 0, 0, 0, 0, 0);
    while (ask(r, 62, 0, 0, 0, 0, 0, 0) != 1);
    ask(r, 63, serial, 0, 0, 0, 0, 0);
    if (seed == 2) out32(EXIT_PORT, 0);
    for (;;) seen[15 << 12] = seen[14 << 12];
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
#elif MODE == OBJECTS
    objects(boot, slots, SEED);
#elif MODE == FUTEXES
    futexes(boot, slots, SEED + index * 1000);
    out32(EXIT_PORT, 0);
#endif
    for (;;) __asm__ volatile("hlt");
}
