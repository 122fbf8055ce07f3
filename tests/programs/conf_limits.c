/* SHMMNI, SHMMAX and SHMALL, lowered and at their defaults; all segments there can be. */
#include "conf.h"

static int ids[5000];

/* Past musl, which makes sizes beyond PTRDIFF_MAX larger still. */
static long get(key_t key, size_t size, int flags) { return syscall(SYS_shmget, key, size, flags); }

static void set(const char *name, const char *value) {
    int fd = open(form("/proc/sys/kernel/%s", name), O_WRONLY);
    need(fd >= 0, name);
    need(write(fd, value, strlen(value)) == (long)strlen(value), value);
    close(fd);
    printf("%s is %s\n", name, value);
}

static void numbers(void) {
    set("shmmni", "3");
    for (int i = 0; i < 3; i++) ids[i] = made(0x100 + i, 1, IPC_CREAT | 0600);
    got("a fourth", shmget(0x104, 1, IPC_CREAT | 0600));
    got("a fourth, private", shmget(IPC_PRIVATE, 1, 0600));
    got("a fourth, size 0", shmget(0x104, 0, IPC_CREAT | 0600));
    got("a fourth, too large for memory", shmget(0x104, 1UL << 40, IPC_CREAT | 0600));
    got("one that is", shmget(0x101, 1, IPC_CREAT | 0600));
    got("one that is, exclusively", shmget(0x101, 1, IPC_CREAT | IPC_EXCL | 0600));
    got("one that is not", shmget(0x104, 1, 0600));
    char *p = attached(ids[0], NULL, 0);
    removed(ids[0]);
    got("one is being removed", shmget(0x104, 1, IPC_CREAT | 0600));
    shmdt(p);
    ids[0] = shmget(0x104, 1, IPC_CREAT | 0600);
    got("one is gone", ids[0]);
    set("shmmni", "1");
    says("fewer than there are: state", shmctl(ids[1], IPC_STAT, &(struct shmid_ds){0}));
    for (int i = 0; i < 3; i++) {
        got(form("with %d left", 3 - i), shmget(0x200, 1, IPC_CREAT | 0600));
        removed(ids[i]);
    }
    ids[0] = shmget(0x200, 1, IPC_CREAT | 0600);
    got("with none left", ids[0]);
    removed(ids[0]);
    set("shmmni", "0");
    got("none allowed", shmget(IPC_PRIVATE, 1, 0600));
    set("shmmni", "4096");
}

static void sizes(void) {
    set("shmmax", "10000");
    static const size_t values[] = {1, 9999, 10000, 10001, 12288, 1UL << 40};
    for (int i = 0; i < 6; i++) {
        int id = shmget(0x300, values[i], IPC_CREAT | 0600);
        got(form("size %zu", values[i]), id);
        if (id >= 0) removed(id);
    }
    int id = made(0x300, 10000, IPC_CREAT | 0600);
    set("shmmax", "5000");
    got("one that is larger", shmget(0x300, 10000, 0));
    got("one that is larger, creating", shmget(0x300, 10000, IPC_CREAT | 0600));
    tried("attach it", shmat(id, NULL, 0));
    removed(id);
    set("shmmax", "0");
    got("size 1", shmget(0x300, 1, IPC_CREAT | 0600));
    set("shmmax", "18446744073709551615");
    got("1 TiB", shmget(0x300, 1UL << 40, IPC_CREAT | 0600));
    got("everything", get(0x300, SIZE_MAX, IPC_CREAT | 0600));
    got("everything but a page", get(0x300, SIZE_MAX - PAGE, IPC_CREAT | 0600));
    got("everything but a page and a byte", get(0x300, SIZE_MAX - PAGE - 1, IPC_CREAT | 0600));
    set("shmmax", "18446744073692774399");
}

static void pages(void) {
    set("shmall", "10");
    ids[0] = made(IPC_PRIVATE, 3 * PAGE + 1, 0600);
    ids[1] = shmget(IPC_PRIVATE, 6 * PAGE, 0600);
    got("4 and 6 pages of 10", ids[1]);
    got("one byte more", shmget(IPC_PRIVATE, 1, 0600));
    got("size 0", shmget(IPC_PRIVATE, 0, 0600));
    removed(ids[0]);
    got("5 of 4", shmget(IPC_PRIVATE, 4 * PAGE + 1, 0600));
    ids[0] = shmget(IPC_PRIVATE, 4 * PAGE, 0600);
    got("4 of 4", ids[0]);
    char *p = attached(ids[0], NULL, 0);
    removed(ids[0]);
    got("being removed, it still counts", shmget(IPC_PRIVATE, 1, 0600));
    shmdt(p);
    ids[0] = shmget(IPC_PRIVATE, 1, 0600);
    got("gone, it does not", ids[0]);
    set("shmall", "2");
    says("fewer than there are: state", shmctl(ids[1], IPC_STAT, &(struct shmid_ds){0}));
    got("one more", shmget(IPC_PRIVATE, 1, 0600));
    removed(ids[1]);
    ids[1] = shmget(IPC_PRIVATE, 1, 0600);
    got("when they are gone", ids[1]);
    got("the third page", shmget(IPC_PRIVATE, 1, 0600));
    got("the third page, no reserve", shmget(IPC_PRIVATE, 1, SHM_NORESERVE | 0600));
    removed(ids[0]), removed(ids[1]);
    set("shmall", "0");
    got("none allowed", shmget(IPC_PRIVATE, 1, 0600));
    set("shmall", "18446744073692774399");
}

static void all_there_can_be(void) {
    struct shm_usage usage;
    int count = 0;
    while (count < 5000 && (ids[count] = shmget(0x10000 + count, 1 + count % 5000, IPC_CREAT | IPC_EXCL | 0600)) >= 0) count++;
    printf("%d segments, then %s\n", count, errno_name(errno));
    says_value("highest index", syscall(SYS_shmctl, 0, SHM_INFO, &usage));
    printf("used %d total %lu\n", usage.used_ids, usage.total);
    printf("the first is %d, the last %d\n", ids[0], ids[count - 1]);
    got("one that is", shmget(0x10000 + 4000, 0, 0));
    int right = 1;
    for (int i = 0; i < count; i += 17) {
        char *p = attached(ids[i], NULL, 0);
        *p = i;
        shmdt(p);
    }
    for (int i = 0; i < count; i += 17) {
        char *p = attached(ids[i], NULL, SHM_RDONLY);
        right &= *p == (char)i;
        shmdt(p);
    }
    holds("each holds its byte", right);
    removed(ids[2000]);
    ids[2000] = shmget(0x10000 + 2000, 1, IPC_CREAT | 0600);
    got("one anew", ids[2000]);
    printf("it is %d\n", ids[2000]);
    got("another", shmget(0x90000, 1, IPC_CREAT | 0600));
    for (int i = 0; i < count; i++) removed(ids[i]);
    says_value("highest index", syscall(SYS_shmctl, 0, SHM_INFO, &usage));
    printf("used %d total %lu resident %lu\n", usage.used_ids, usage.total, usage.resident);
    ids[0] = made(IPC_PRIVATE, 1, 0600);
    printf("the next is %d\n", ids[0]);
    removed(ids[0]);
}

int main(void) {
    numbers();
    sizes();
    pages();
    all_there_can_be();
    return 0;
}
