/* The vDSO: that it is there, has what Linux's has, agrees with the system calls, and is a mapping like another. */
#include "common.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <sys/wait.h>

static const Elf64_Ehdr *image;
static const Elf64_Phdr *load;
static const Elf64_Sym *symbols;
static const char *strings;
static const Elf64_Half *versions;
static const char *version_names[16];
static uint32_t symbol_count;

static const void *at(uint64_t address) { return (const char *)image - load->p_vaddr + address; }

static uint32_t count_by_gnu_hash(const uint32_t *table) {
    uint32_t buckets = table[0], first = table[1], bloom = table[2], last = 0;
    const uint32_t *bucket = table + 4 + 2 * bloom, *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last) last = bucket[i];
    if (last < first) return first;
    while (!(chain[last - first] & 1)) last++;
    return last + 1;
}

static void parse(void) {
    const Elf64_Phdr *headers = (const void *)((const char *)image + image->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    for (int i = 0; i < image->e_phnum; i++)
        if (headers[i].p_type == PT_LOAD && !load) load = &headers[i];
    need(load != NULL, "a segment");
    for (int i = 0; i < image->e_phnum; i++)
        if (headers[i].p_type == PT_DYNAMIC) dynamic = at(headers[i].p_vaddr);
    need(dynamic != NULL, "a dynamic section");
    const Elf64_Verdef *definition = NULL;
    uint64_t soname = 0;
    int relocations = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) switch (dynamic->d_tag) {
        case DT_SYMTAB: symbols = at(dynamic->d_un.d_ptr); break;
        case DT_STRTAB: strings = at(dynamic->d_un.d_ptr); break;
        case DT_VERSYM: versions = at(dynamic->d_un.d_ptr); break;
        case DT_VERDEF: definition = at(dynamic->d_un.d_ptr); break;
        case DT_SONAME: soname = dynamic->d_un.d_val; break;
        case DT_HASH: symbol_count = ((const uint32_t *)at(dynamic->d_un.d_ptr))[1]; break;
        case DT_GNU_HASH:
            if (!symbol_count) symbol_count = count_by_gnu_hash(at(dynamic->d_un.d_ptr));
            break;
        case DT_RELA: case DT_REL: case DT_JMPREL: case DT_NEEDED: relocations++;
    }
    need(symbols && strings && versions && definition, "symbols with versions");
    printf("soname %s\n", strings + soname);
    holds("nothing to relocate", relocations == 0);
    for (;;) {
        const Elf64_Verdaux *name = (const void *)((const char *)definition + definition->vd_aux);
        if (definition->vd_ndx < 16) version_names[definition->vd_ndx] = strings + name->vda_name;
        if (!definition->vd_next) break;
        definition = (const void *)((const char *)definition + definition->vd_next);
    }
}

static const void *symbol(const char *name) {
    for (uint32_t i = 1; i < symbol_count; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && strcmp(strings + symbols[i].st_name, name) == 0) {
            const char *version = version_names[versions[i] & 0x7fff & 15];
            printf("%s %s\n", name, version ? version : "without a version");
            return at(symbols[i].st_value);
        }
    printf("%s missing\n", name);
    return NULL;
}

static int (*vdso_gettime)(clockid_t, struct timespec *);
static int (*vdso_getres)(clockid_t, struct timespec *);
static int (*vdso_gettimeofday)(struct timeval *, struct timezone *);
static time_t (*vdso_time)(time_t *);
static long (*vdso_getcpu)(unsigned *, unsigned *, void *);

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }
static int64_t by_vdso(clockid_t clock) {
    struct timespec t = {0, -1};
    return vdso_gettime(clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000 ? ns(t) : -1;
}
static int64_t by_call(clockid_t clock) {
    struct timespec t = {0, -1};
    return syscall(SYS_clock_gettime, (long)clock, &t) == 0 ? ns(t) : -1;
}

static const struct { clockid_t id; const char *name; } clocks[] = {
    {CLOCK_REALTIME, "REALTIME"}, {CLOCK_MONOTONIC, "MONOTONIC"}, {CLOCK_BOOTTIME, "BOOTTIME"},
    {CLOCK_MONOTONIC_RAW, "MONOTONIC_RAW"}, {CLOCK_TAI, "TAI"}, {CLOCK_REALTIME_COARSE, "REALTIME_COARSE"},
    {CLOCK_MONOTONIC_COARSE, "MONOTONIC_COARSE"}, {CLOCK_PROCESS_CPUTIME_ID, "PROCESS_CPUTIME"},
    {CLOCK_THREAD_CPUTIME_ID, "THREAD_CPUTIME"},
};

/* Both ways of reading a clock, by turns: time never goes back. */
static void agree(clockid_t clock) {
    int64_t last = by_call(clock);
    int back = 0, failed = last < 0;
    for (int i = 0; i < 1000; i++) {
        int64_t here = i % 3 == 2 ? by_call(clock) : by_vdso(clock);
        failed |= here < 0;
        back += here < last;
        last = here;
    }
    holds("  it can be read in both ways", !failed);
    holds("  and never goes back", back == 0);
    struct timespec fine = {9, 9}, same = {8, 8};
    int error = vdso_getres(clock, &fine);
    int called = (int)syscall(SYS_clock_getres, (long)clock, &same);
    printf("  resolution %ld s %ld ns\n", (long)fine.tv_sec, fine.tv_nsec);
    holds("  and the system call says the same", error == called && ns(fine) == ns(same));
    says_value("  without a place for it", vdso_getres(clock, NULL));
}

static void behind(const char *name, clockid_t coarse, clockid_t fine) {
    struct timespec tick;
    need(clock_getres(coarse, &tick) == 0, "a resolution");
    int ahead = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t a = by_vdso(coarse), b = by_vdso(fine);
        ahead += a > b;
    }
    holds(name, ahead == 0);
}

/* In a child, since it may end badly: its status. */
static void child(const char *name, void (*act)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) {
        act();
        fflush(stdout);
        _exit(0);
    }
    int status = -1;
    need(waitpid(pid, &status, 0) == pid, "waitpid");
    if (WIFSIGNALED(status)) printf("%s: signal %d\n", name, WTERMSIG(status));
    else printf("%s: status %d\n", name, WEXITSTATUS(status));
}

static size_t image_len(void) { return (load->p_memsz + PAGE - 1) & ~(PAGE - 1); }

static void reads(void) { holds("  a child reads the clock", by_vdso(CLOCK_MONOTONIC) > 0); }
static void writes_code(void) { *(volatile char *)(uintptr_t)image = 1; }
static void unmaps(void) {
    says("  munmap", munmap((void *)(uintptr_t)image, image_len()));
    holds("  the system call still answers", by_call(CLOCK_MONOTONIC) > 0);
    /* The C library has found the function before: if it uses it, this ends here. */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    puts("  the C library asks the kernel");
    fflush(stdout);
}
static void unmaps_and_calls(void) {
    munmap((void *)(uintptr_t)image, image_len());
    by_vdso(CLOCK_MONOTONIC);
}
static void changes(void) {
    says("  mprotect", mprotect((void *)(uintptr_t)image, image_len(), PROT_READ | PROT_WRITE | PROT_EXEC));
    holds("  it still runs", by_vdso(CLOCK_MONOTONIC) > 0);
    *(volatile unsigned char *)(uintptr_t)image = 0;
    holds("  a change is seen", *(const volatile unsigned char *)image == 0);
}
static void moves(void) {
    void *room = mmap(NULL, image_len(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(room != MAP_FAILED, "mmap");
    void *there = mremap((void *)(uintptr_t)image, image_len(), image_len(), MREMAP_MAYMOVE | MREMAP_FIXED, room);
    holds("  mremap moves it", there == room);
    holds("  whole", there != MAP_FAILED && memcmp(there, ELFMAG, SELFMAG) == 0);
}

static void on_every_cpu(void) {
    cpu_set_t all;
    need(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    int right = 1, some = 0;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
        unsigned told = 9999, node = 9999, by_call = 9999, node_by_call = 9999;
        right &= vdso_getcpu(&told, &node, NULL) == 0;
        right &= syscall(SYS_getcpu, &by_call, &node_by_call, NULL) == 0;
        right &= told == cpu && by_call == cpu && node == node_by_call && sched_getcpu() == (int)cpu;
        some++;
    }
    need(sched_setaffinity(0, sizeof all, &all) == 0, "sched_setaffinity");
    holds("getcpu is right on every CPU", right && some > 0);
    says_value("getcpu without a place", vdso_getcpu(NULL, NULL, NULL));
}

int main(int argc, char **argv) {
    image = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    holds("AT_SYSINFO_EHDR", image != NULL);
    need(image && memcmp(image->e_ident, ELFMAG, SELFMAG) == 0 && (uintptr_t)image % PAGE == 0, "an image");
    printf("type %d machine %d\n", image->e_type, image->e_machine);
    parse();
    printf("flags %x, offset %ld\n", load->p_flags, (long)load->p_offset);
    *(const void **)&vdso_gettime = symbol("__vdso_clock_gettime");
    *(const void **)&vdso_getres = symbol("__vdso_clock_getres");
    *(const void **)&vdso_gettimeofday = symbol("__vdso_gettimeofday");
    *(const void **)&vdso_time = symbol("__vdso_time");
    *(const void **)&vdso_getcpu = symbol("__vdso_getcpu");
    need(vdso_gettime && vdso_getres && vdso_gettimeofday && vdso_time && vdso_getcpu, "all functions");
    if (argc > 1) {
        /* After execve. */
        reads();
        return 0;
    }

    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        puts(clocks[i].name);
        agree(clocks[i].id);
    }
    clockid_t own;
    need(clock_getcpuclockid(0, &own) == 0, "a clock of this process");
    puts("this process's time");
    agree(own);
    behind("coarse monotonic time is not ahead", CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC);
    behind("coarse real time is not ahead", CLOCK_REALTIME_COARSE, CLOCK_REALTIME);
    struct timespec t;
    for (int i = 0; i < 2; i++) {
        clockid_t none = i ? 99 : 10;
        printf("clock %d: %d %d\n", none, vdso_gettime(none, &t), vdso_getres(none, &t));
    }

    struct timeval now;
    struct timezone zone = {77, 77};
    int64_t before = by_call(CLOCK_REALTIME);
    int error = vdso_gettimeofday(&now, &zone);
    time_t seconds = vdso_time(NULL), stored = 0;
    int64_t after = by_call(CLOCK_REALTIME);
    int64_t micro = now.tv_sec * 1000000000LL + now.tv_usec * 1000LL;
    holds("gettimeofday agrees", error == 0 && micro >= before - before % 1000 && micro <= after);
    printf("zone %d %d\n", zone.tz_minuteswest, zone.tz_dsttime);
    says_value("gettimeofday without a place", vdso_gettimeofday(NULL, NULL));
    /* Linux's is as coarse as its tick. */
    holds("time agrees", seconds >= before / 1000000000 - 1 && seconds <= after / 1000000000);
    vdso_time(&stored);
    holds("time stores what it returns", stored == seconds || stored == seconds + 1);
    on_every_cpu();

    int64_t last = by_vdso(CLOCK_MONOTONIC);
    clock_gettime(CLOCK_MONOTONIC, &t);
    holds("the C library's clock is the same", ns(t) >= last && ns(t) <= by_vdso(CLOCK_MONOTONIC));
    child("a child", reads);
    child("a write to it", writes_code);
    child("without it", unmaps);
    child("a call without it", unmaps_and_calls);
    child("changed", changes);
    child("moved", moves);
    reads();
    fflush(stdout);
    execv("/proc/self/exe", (char *[]){argv[0], "again", NULL});
    return 98;
}
