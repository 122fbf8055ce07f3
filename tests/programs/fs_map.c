/* Mappings of files: shared and private, against read and write, across fork, beyond the end, after truncation, and
 * what mmap refuses. */
#include "fs.h"

static char bytes[1 << 17];

static int file_of(const char *name, long size) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    need(fd >= 0, name);
    for (long i = 0; i < size; i++) bytes[i % sizeof bytes] = 'a' + i / PAGE % 26;
    need(write(fd, bytes, size) == size, name);
    return fd;
}
static char *mapped(long length, int prot, int flags, int fd, long offset) {
    char *p = mmap(NULL, length, prot, flags, fd, offset);
    need(p != MAP_FAILED, "mmap");
    return p;
}

static void refused(void) {
    puts("-- refused");
    int fd = file_of("f", 3 * PAGE), ro = open("f", O_RDONLY), wo = open("f", O_WRONLY), dir = open(".", O_RDONLY), place = open("f", O_PATH), ends[2];
    pipe(ends);
#define TRY(name, ...) do { void *p = mmap(__VA_ARGS__); says(name, p == MAP_FAILED ? -1 : 0); if (p != MAP_FAILED) munmap(p, PAGE); } while (0)
    TRY("shared", NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY("private", NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    TRY("read-only file, shared, reading", NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    TRY("read-only file, shared, writing", NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0);
    TRY("read-only file, private, writing", NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0);
    TRY("read-only file, executing", NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, ro, 0);
    TRY("write-only file, shared", NULL, PAGE, PROT_WRITE, MAP_SHARED, wo, 0);
    TRY("write-only file, private", NULL, PAGE, PROT_READ, MAP_PRIVATE, wo, 0);
    TRY("write-only file, nothing", NULL, PAGE, PROT_NONE, MAP_SHARED, wo, 0);
    TRY("directory", NULL, PAGE, PROT_READ, MAP_PRIVATE, dir, 0);
    TRY("place", NULL, PAGE, PROT_READ, MAP_PRIVATE, place, 0);
    TRY("pipe", NULL, PAGE, PROT_READ, MAP_SHARED, ends[0], 0);
    TRY("no descriptor", NULL, PAGE, PROT_READ, MAP_SHARED, 99, 0);
    TRY("-1", NULL, PAGE, PROT_READ, MAP_SHARED, -1, 0);
    TRY("no length", NULL, 0, PROT_READ, MAP_SHARED, fd, 0);
    TRY("neither", NULL, PAGE, PROT_READ, 0, fd, 0);
    TRY("validated", NULL, PAGE, PROT_READ, 3, fd, 0);
    TRY("beyond the end", NULL, PAGE, PROT_READ, MAP_SHARED, fd, 100 * PAGE);
    TRY("too far", NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0x7ffffffffffff000);
    says("crooked offset", syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, fd, 100));
    says("offset at the very end", syscall(SYS_mmap, NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0xfffffffffffff000));
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    TRY("/dev/null", NULL, PAGE, PROT_READ, MAP_PRIVATE, null, 0);
    char *z = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0), *y = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    AS_CHILD z[0] = y[0] = 'c';
    printf("zero: %d %d\n", z[0], y[0]);
    close(null), close(zero), munmap(z, PAGE), munmap(y, PAGE);
    int proc = open("/proc/self/stat", O_RDONLY);
    TRY("/proc", NULL, PAGE, PROT_READ, MAP_PRIVATE, proc, 0);
    /* What mprotect may give. */
    char *p = mapped(PAGE, PROT_READ, MAP_SHARED, ro, 0);
    says("mprotect of a read-only one", mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    says("to execute", mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    munmap(p, PAGE);
    p = mapped(PAGE, PROT_READ, MAP_PRIVATE, ro, 0);
    says("mprotect of a private one", mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    p[0] = 'P';
    printf("%c, the file has %.1s\n", p[0], text_of("f"));
    munmap(p, PAGE);
    close(fd), close(ro), close(wo), close(dir), close(place), close(ends[0]), close(ends[1]), close(proc);
    unlink("f");
}

static void shared(void) {
    puts("-- shared");
    int fd = file_of("f", 5 * PAGE);
    char *p = mapped(5 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *q = mapped(2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
    char *r = mapped(5 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), *w = mapped(5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("%c%c%c%c%c %c%c\n", p[0], p[PAGE], p[2 * PAGE], p[3 * PAGE], p[4 * PAGE], q[0], q[PAGE]);
    w[0] = w[0];
    p[0] = 'X', p[PAGE + 7] = 'Y';
    pwrite(fd, "Z", 1, 2 * PAGE + 9);
    printf("%c%c%c %c%c %c%c%c %c%c%c\n", p[0], p[PAGE + 7], p[2 * PAGE + 9], q[7], q[PAGE + 9], r[0], r[PAGE + 7], r[2 * PAGE + 9], w[0], w[PAGE + 7], w[2 * PAGE + 9]);
    char c[3];
    pread(fd, c, 1, 0), pread(fd, c + 1, 1, PAGE + 7), pread(fd, c + 2, 1, 2 * PAGE + 9);
    printf("%.3s\n", c);
    w[2 * PAGE] = 'W';
    pwrite(fd, "later", 5, 2 * PAGE);
    printf("%.5s %.5s %.5s\n", p + 2 * PAGE, r + 2 * PAGE, w + 2 * PAGE);
    /* read and write with a mapping as the buffer, of the same file, too. */
    says_value("pread into it", pread(fd, p + 3 * PAGE + 10, 5, 2 * PAGE));
    printf("%.5s\n", q - 0 == NULL ? "" : p + 3 * PAGE + 10);
    says_value("pwrite from it", pwrite(fd, p + PAGE, PAGE, 4 * PAGE));
    printf("%c%c\n", p[4 * PAGE], p[4 * PAGE + 7]);
    says_value("pwrite from itself", pwrite(fd, p, PAGE, 0));
    printf("%c\n", p[0]);
    /* Fork. */
    AS_CHILD {
        p[0] = 'C', r[PAGE] == 'b' ? p[1] = 'r' : 0, w[4 * PAGE] = 'c';
        pwrite(fd, "child", 5, 3 * PAGE);
        says("and maps it anew", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    }
    printf("%.2s %.5s %c %c\n", p, p + 3 * PAGE, w[4 * PAGE], r[0]);
    /* Pages that come after the fork. */
    ftruncate(fd, 40 * PAGE);
    char *m = mapped(40 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    AS_CHILD for (int i = 5; i < 40; i += 3) m[i * PAGE] = '0' + i % 10;
    for (int i = 5; i < 40; i++) printf("%c", m[i * PAGE] ? m[i * PAGE] : '.');
    puts("");
    /* The descriptor and the name are not needed. */
    close(fd);
    unlink("f");
    m[0] = 'u';
    printf("%c%c\n", p[0], m[PAGE]);
    AS_CHILD m[1] = 'v';
    printf("%c\n", p[1]);
    munmap(p, 5 * PAGE), munmap(q, 2 * PAGE), munmap(r, 5 * PAGE), munmap(w, 5 * PAGE);
    printf("%.2s\n", m);
    munmap(m, 40 * PAGE);
    /* Two processes that know each other by name only. */
    fd = file_of("g", PAGE);
    p = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    AS_CHILD {
        munmap(p, PAGE), close(fd);
        int own = open("g", O_RDWR);
        char *there = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
        there[5] = '!';
    }
    printf("%.6s\n", p);
    munmap(p, PAGE);
    close(fd), unlink("g");
}

static void ends(void) {
    puts("-- ends");
    int fd = file_of("f", 2 * PAGE + 100);
    char *p = mapped(5 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *w = mapped(5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("after the end in its page: %d\n", p[2 * PAGE + 100]);
    printf("read beyond: %s, write: %s, private: %s, %s\n", load(p + 3 * PAGE), store(p + 3 * PAGE), load(w + 3 * PAGE), store(w + 4 * PAGE));
    says("a kernel that reads there", write(open("/dev/null", O_WRONLY), p + 3 * PAGE, 1));
    says("pwrite from there", pwrite(fd, p + 3 * PAGE, 1, 0));
    says("pread to there", pread(fd, p + 3 * PAGE, 1, 0));
    says("grow", ftruncate(fd, 4 * PAGE));
    printf("then: %s %s %d\n", load(p + 3 * PAGE), load(p + 4 * PAGE), p[3 * PAGE]);
    p[3 * PAGE] = 'n';
    w[PAGE] = 'w', w[0] = 'v';
    printf("%c%c%c\n", w[0], w[PAGE], w[3 * PAGE]);
    says("cut", ftruncate(fd, PAGE + 10));
    printf("cut: %s %s; private: %s %s\n", load(p + PAGE), load(p + 2 * PAGE), load(w + PAGE), load(w + 2 * PAGE));
    printf("%c %d %c %c\n", p[PAGE], p[PAGE + 10], w[0], w[PAGE]);
    says("grow again", ftruncate(fd, 5 * PAGE));
    int wrong = 0;
    for (int i = PAGE + 10; i < 5 * PAGE; i++) wrong += p[i] != 0;
    says_value("bytes that came back", wrong);
    wrong = 0;
    for (int i = 2 * PAGE; i < 5 * PAGE; i++) wrong += w[i] != 0;
    says_value("privately", wrong);
    /* Cut to nothing, in another process, by open. */
    AS_CHILD close(open("f", O_WRONLY | O_TRUNC));
    printf("all gone: %s %s\n", load(p), load(w));
    says_value("size", lseek(fd, 0, SEEK_END));
    says_value("write", pwrite(fd, "x", 1, 0));
    printf("%c: %s\n", p[0], load(p + PAGE));
    munmap(p, 5 * PAGE), munmap(w, 5 * PAGE);
    /* Holes. */
    ftruncate(fd, 0), ftruncate(fd, 100 * PAGE);
    p = mapped(100 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *r = mapped(100 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    printf("%d%d%d\n", r[50 * PAGE], p[51 * PAGE], r[99 * PAGE]);
    p[50 * PAGE] = '5', p[99 * PAGE] = '9';
    printf("%c%c\n", r[50 * PAGE], r[99 * PAGE]);
    pread(fd, bytes, 1, 99 * PAGE);
    printf("%c\n", bytes[0]);
    munmap(p, 100 * PAGE), munmap(r, 100 * PAGE);
    close(fd), unlink("f");
}

static void parts(void) {
    puts("-- parts");
    int fd = file_of("f", 10 * PAGE);
    char *p = mmap(FREE_PLACE, 10 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    need(p == FREE_PLACE, "a place");
    says("unmap the middle", munmap(p + 3 * PAGE, 2 * PAGE));
    printf("%c %s %s %c\n", p[2 * PAGE], load(p + 3 * PAGE), load(p + 4 * PAGE), p[5 * PAGE]);
    says("map another part there", mmap(p + 3 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ? -1 : 0);
    p[3 * PAGE] = '*';
    printf("%c\n", p[0]);
    says("protect a part", mprotect(p + PAGE, PAGE, PROT_READ));
    printf("%s %s %s\n", store(p), store(p + PAGE), store(p + 2 * PAGE));
    says("and back", mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
    printf("%s\n", store(p + PAGE));
    p[PAGE] = '+';
    says("none", mprotect(p + 5 * PAGE, 2 * PAGE, PROT_NONE));
    printf("%s %s\n", load(p + 5 * PAGE), load(p + 7 * PAGE));
    says("all", mprotect(p + 5 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
    printf("%c\n", p[5 * PAGE]);
    /* mremap. */
    char *q = mremap(p + 7 * PAGE, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 50 * PAGE);
    at("moved", q);
    printf("%c%c%c %s\n", q[0], q[PAGE], q[2 * PAGE], load(p + 7 * PAGE));
    q[0] = '#';
    pread(fd, bytes, 1, 7 * PAGE);
    printf("%c\n", bytes[0]);
    at("grown", mremap(q, 3 * PAGE, 6 * PAGE, 0));
    printf("%c %s\n", q[2 * PAGE], load(q + 3 * PAGE));
    ftruncate(fd, 12 * PAGE);
    printf("%s %s\n", load(q + 4 * PAGE), load(q + 5 * PAGE));
    at("shrunk", mremap(q, 6 * PAGE, PAGE, 0));
    char *second = mremap(q, 0, PAGE, MREMAP_MAYMOVE);
    at("a second view", second);
    second[1] = '2';
    printf("%.2s\n", q);
    says("madvise", madvise(q, PAGE, MADV_DONTNEED));
    printf("%.2s\n", q);
    char *w = mapped(10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    w[PAGE] = '-', w[2 * PAGE] = '-';
    says("madvise of a private one", madvise(w, 2 * PAGE, MADV_DONTNEED));
    printf("%c%c\n", w[PAGE], w[2 * PAGE]);
    char *x = mremap(w, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 70 * PAGE);
    printf("%c%c%c\n", x[0], x[PAGE], x[2 * PAGE]);
    x[0] = 'x';
    printf("%c\n", p[0]);
    AS_CHILD {
        x[PAGE] = 'y';
        p[2 * PAGE] = '=';
    }
    printf("%c%c\n", x[PAGE], p[2 * PAGE]);
    says("MADV_WILLNEED", madvise(p, 3 * PAGE, MADV_WILLNEED));
    says("MADV_FREE", madvise(p, 3 * PAGE, MADV_FREE));
    says("msync", msync(p, 3 * PAGE, MS_SYNC));
    says("msync of nothing", msync(p + 30 * PAGE, PAGE, MS_SYNC));
    says("msync, crooked", msync(p + 1, PAGE, MS_SYNC));
    says("msync, both", msync(p, PAGE, MS_SYNC | MS_ASYNC));
    munmap(p, 200 * PAGE), munmap(w, 10 * PAGE), munmap(second, PAGE);
    close(fd), unlink("f");
}

/* Random writes through everything, against a copy. */
static void random_ones(void) {
    puts("-- random");
    enum { PAGES = 24, SIZE = PAGES * PAGE };
    static unsigned char copy[SIZE];
    int fd = open("f", O_RDWR | O_CREAT, 0644), second = open("f", O_RDWR);
    ftruncate(fd, SIZE);
    unsigned char *p = (unsigned char *)mapped(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *q = (unsigned char *)mapped(SIZE / 2, PROT_READ | PROT_WRITE, MAP_SHARED, second, SIZE / 2);
    unsigned seed = 12345;
    int wrong = 0;
    for (int i = 0; i < 400; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned offset = (seed >> 8) % SIZE, length = (seed >> 3) % 5000, value = seed >> 24;
        if (offset + length > SIZE) length = SIZE - offset;
        switch (seed >> 16 & 7) {
        case 0: memset(p + offset, value, length), memset(copy + offset, value, length); break;
        case 1:
            if (offset >= SIZE / 2) memset(q + offset - SIZE / 2, value, length), memset(copy + offset, value, length);
            break;
        case 2: memset(bytes, value, length), pwrite(second, bytes, length, offset), memset(copy + offset, value, length); break;
        case 3: pread(fd, bytes, length, offset), wrong += memcmp(bytes, copy + offset, length) != 0; break;
        case 4: wrong += memcmp(p + offset, copy + offset, length) != 0; break;
        case 5:
            AS_CHILD memset(p + offset, value, length);
            memset(copy + offset, value, length);
            break;
        case 6:
            if (i % 5 == 0) ftruncate(fd, offset), ftruncate(fd, SIZE), memset(copy + offset, 0, SIZE - offset);
            break;
        case 7: munmap(p, SIZE), p = (unsigned char *)mapped(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, i % 2 ? fd : second, 0); break;
        }
    }
    says_value("wrong", wrong);
    holds("all the same at the end", memcmp(p, copy, SIZE) == 0);
    munmap(p, SIZE), munmap(q, SIZE / 2);
    close(fd), close(second), unlink("f");
}

/* A line of /proc/self/maps stays one, whatever the file is called. */
static void crooked_names(void) {
    puts("-- names");
    for (int i = 0; i < 2; i++) {
        const char *name = (const char *[]){"two\nlines \\ \t and\n", "/dev/shm/fs-map\n\n2"}[i];
        int fd = file_of(name, PAGE);
        char *p = mapped(PAGE, PROT_READ, MAP_SHARED, fd, 0);
        for (int gone = 0; gone < 2; gone++) {
            static char text[1 << 16];
            const char *file = (const char *[]){"/proc/self/maps", "/proc/self/smaps"}[gone];
            int maps = open(file, O_RDONLY), length = 0;
            for (int got; (got = (int)read(maps, text + length, sizeof text - 1 - (size_t)length)) > 0;) length += got;
            text[length] = 0;
            close(maps);
            char *line = strstr(text, form("%lx-", (long)p));
            need(line != NULL, "a line");
            line[strcspn(line, "\n")] = 0;
            char *shown = strstr(line, home);
            printf("%s\n", shown ? shown + strlen(home) : strstr(line, "/dev") ? strstr(line, "/dev") : line);
            if (!gone) unlink(name);
        }
        munmap(p, PAGE), close(fd);
    }
}

int main(void) {
    enter_home();
    refused();
    shared();
    ends();
    parts();
    random_ones();
    crooked_names();
    leave_home();
    return 0;
}
