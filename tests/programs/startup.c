/* What a program finds at its first instruction: auxiliary vector, stack, thread-local storage, constructors. */
#include "common.h"
#include <elf.h>
#include <stdalign.h>
#include <sys/auxv.h>

static _Thread_local int counted = 41;
static _Thread_local alignas(64) char aligned[64];
static _Thread_local char zeroed[3000];
static int constructed;
static char bss[3 * PAGE + 17];
static const char text[] = "read-only";
static int relocated_target = 7;
static int *relocated = &relocated_target;

__attribute__((constructor)) static void construct(void) { constructed = 1; }
static void leave(void) { puts("atexit ran"); }

static int deep(int levels, volatile char *above) {
    volatile char room[1024];
    room[0] = above ? above[0] : 1;
    if (levels == 0) return room[0];
    return deep(levels - 1, room) + (room[1023] = 0);
}

int main(int argc, char **argv, char **environment) {
    (void)argc;
    atexit(leave);
    says_value("AT_PAGESZ", (long)getauxval(AT_PAGESZ));
    says_value("AT_PHENT", (long)getauxval(AT_PHENT));
    says_value("AT_CLKTCK", (long)getauxval(AT_CLKTCK));
    says_value("AT_SECURE", (long)getauxval(AT_SECURE));
    says_value("AT_UID", (long)getauxval(AT_UID));
    says_value("AT_EUID", (long)getauxval(AT_EUID));
    says_value("AT_GID", (long)getauxval(AT_GID));
    says_value("AT_EGID", (long)getauxval(AT_EGID));
    says_value("AT_BASE", (long)getauxval(AT_BASE));
    says_value("AT_FLAGS", (long)getauxval(AT_FLAGS));

    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    unsigned long count = getauxval(AT_PHNUM), loads = 0, entry = getauxval(AT_ENTRY), base = 0;
    int entry_in_text = 0;
    holds("AT_PHDR is there", headers != NULL && count > 0);
    /* The headers lie in the file's first page, and that is where its first byte was loaded. */
    const Elf64_Ehdr *file = (const Elf64_Ehdr *)((uintptr_t)headers & ~(PAGE - 1));
    for (unsigned long i = 0; i < count; i++)
        if (headers[i].p_type == PT_LOAD && headers[i].p_offset == 0) base = (uintptr_t)file - headers[i].p_vaddr;
    for (unsigned long i = 0; i < count; i++)
        if (headers[i].p_type == PT_LOAD) {
            loads++;
            unsigned long start = base + headers[i].p_vaddr;
            if ((headers[i].p_flags & PF_X) && entry >= start && entry < start + headers[i].p_memsz) entry_in_text = 1;
        }
    holds("it has segments", loads >= 2);
    holds("AT_ENTRY lies in the text", entry_in_text);
    holds("the headers are where the file says",
          memcmp(file->e_ident, ELFMAG, SELFMAG) == 0 && (const char *)file + file->e_phoff == (const char *)headers);
    holds("AT_ENTRY is the file's", base + file->e_entry == entry);

    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    int random_bits = 0;
    for (int i = 0; random && i < 16; i++) random_bits |= random[i];
    holds("AT_RANDOM is random", random_bits != 0);
    const char *name = (const char *)getauxval(AT_EXECFN);
    holds("AT_EXECFN names this program", name && strstr(name, "startup") != NULL);
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    printf("AT_PLATFORM %s\n", platform ? platform : "none");

    holds("constructors ran", constructed);
    holds("initialised thread-local is 41", counted == 41);
    holds("aligned thread-local is aligned", (uintptr_t)aligned % 64 == 0);
    int dirty = 0;
    for (size_t i = 0; i < sizeof zeroed; i++) dirty |= zeroed[i];
    for (size_t i = 0; i < sizeof bss; i++) dirty |= bss[i];
    holds("bss and thread-local bss are zero", !dirty);
    memset(bss, 1, sizeof bss);
    memset(zeroed, 2, sizeof zeroed);
    holds("bss does not overlap its neighbours", counted == 41 && constructed == 1 && strcmp(text, "read-only") == 0);
    holds("a relocated pointer points right", relocated == &relocated_target && *relocated == 7);
    holds("arguments lie above the stack pointer", (char *)argv > (char *)&dirty);
    holds("the environment follows the arguments", environment > argv);
    holds("the stack holds 4 MiB", deep(4000, NULL) == 1);
    alignas(64) volatile char stack_aligned[64];
    stack_aligned[0] = 1;
    holds("the stack can be aligned", (uintptr_t)stack_aligned % 64 == 0);
    uint32_t control_word = 0;
    __asm__ volatile("stmxcsr %0" : "=m"(control_word));
    holds("MXCSR is as Linux starts it", control_word == 0x1f80);
    unsigned short fpu = 0;
    __asm__ volatile("fnstcw %0" : "=m"(fpu));
    holds("the x87 control word is as Linux starts it", fpu == 0x37f);
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    holds("interrupts on, IOPL 0", (flags & 0x200) && !(flags & 0x3000));
    unsigned short cs, ss, ds, es;
    __asm__("mov %%cs,%0; mov %%ss,%1; mov %%ds,%2; mov %%es,%3" : "=r"(cs), "=r"(ss), "=r"(ds), "=r"(es));
    printf("cs %x ss %x ds %x es %x\n", cs, ss, ds, es);
    return 0;
}
