/* Fills the file system of a small guest, again and again: what fails says why, and all comes back. Guests only. */
#include "fs.h"

static char page[16 * PAGE];

static long fill(const char *name) {
    int fd = open(name, O_RDWR | O_CREAT, 0644);
    need(fd >= 0, "a file");
    long written = 0, got;
    while ((got = write(fd, page, sizeof page)) > 0) written += got;
    holds("the end is ENOSPC", got == -1 && errno == ENOSPC);
    close(fd);
    return written;
}

int main(void) {
    struct statfs before, after;
    statfs("/tmp", &before);
    memset(page, 'x', sizeof page);
    long first = 0;
    for (int i = 0; i < 4; i++) {
        long written = fill("/tmp/full");
        if (i == 0) first = written;
        holds("as much as before", written == first);
        statfs("/tmp", &after);
        holds("nearly nothing is left", after.f_bfree < 64);
        says("a new file still", open("/tmp/more", O_CREAT | O_WRONLY, 0600) < 0 ? -1 : 0);
        int fd = open("/tmp/more", O_RDWR);
        long got = 0, more = 0;
        while ((got = write(fd, page, 100)) > 0) more += got;
        holds("it has no room", more < 64 * (long)PAGE && errno == ENOSPC);
        ftruncate(fd, 100 * PAGE);
        volatile char *p = mmap(NULL, 100 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        pid_t child = fork();
        if (child == 0) {
            for (int j = 0; j < 100; j++) p[j * PAGE] = 1;
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        holds("a page that can't be had is SIGBUS", WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
        munmap((void *)p, 100 * PAGE);
        close(fd);
        says("memory for programs is left", (p = malloc(1 << 20), memset((void *)p, 1, 1 << 20), free((void *)p), 0));
        unlink("/tmp/more");
        if (i % 2) unlink("/tmp/full");
        else truncate("/tmp/full", 0);
        statfs("/tmp", &after);
        holds("all is back", after.f_bfree + 8 >= before.f_bfree);
    }
    unlink("/tmp/full");
    /* Names, inodes, open files, pipes. */
    statfs("/tmp", &before);
    int made = 0;
    char name[300];
    while (sprintf(name, "/tmp/f%d", made), mknod(name, S_IFREG | 0600, 0) == 0) made++;
    holds("inodes run out with ENOSPC", made > 3000 && errno == ENOSPC);
    statfs("/tmp", &after);
    holds("and statfs says so", after.f_ffree == 0);
    while (made) sprintf(name, "/tmp/f%d", --made), unlink(name);
    statfs("/tmp", &after);
    holds("all are back", after.f_ffree == before.f_ffree);
    struct rlimit limit = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &limit);
    int last = 0, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0) last = fd;
    holds("open files run out", last > 3000 && (errno == ENFILE || errno == EMFILE));
    for (fd = 3; fd <= last; fd++) close(fd);
    int count = 0, ends[2];
    while (pipe(ends) == 0) count++, last = ends[1];
    holds("pipes run out with ENFILE", count > 100 && errno == ENFILE);
    for (fd = 3; fd <= last; fd++) close(fd);
    says("and then there are some", pipe(ends));
    return 0;
}
