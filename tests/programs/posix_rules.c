/* Files in /dev/shm, alone: names, modes, sizes, bytes, mappings. One line a case, the same on the host. */
#include "posix.h"

static void names(void) {
    int fd = shm_open(named("a"), O_RDWR, 0600);
    says("open what is not there", fd);
    fd = shm_open(named("a"), O_RDWR | O_CREAT | O_EXCL, 0640);
    says("make", fd < 0 ? -1 : 0);
    fd_facts("a", fd);
    says("make it again", shm_open(named("a"), O_RDWR | O_CREAT | O_EXCL, 0640));
    int again = shm_open(named("a"), O_RDWR | O_CREAT, 0777);
    fd_facts("opened with O_CREAT", again);
    struct stat s, t;
    fstat(fd, &s), fstat(again, &t);
    holds("the same file", s.st_ino == t.st_ino && s.st_dev == t.st_dev);
    stat("/dev/shm", &t);
    holds("on the file system of the directory", s.st_dev == t.st_dev);
    stat("/tmp", &t);
    holds("which is not that of /tmp", s.st_dev != t.st_dev);
    says("link", link(path_of("a"), path_of("b")));
    says("link to what is there", link(path_of("a"), path_of("b")));
    says("link to elsewhere", link(path_of("a"), form("/tmp/%s", prefix)));
    fd_facts("a", fd);
    ours("two names");
    says("rename", rename(path_of("b"), path_of("c")));
    says("rename to elsewhere", rename(path_of("c"), form("/tmp/%s", prefix)));
    says("rename what is not there", rename(path_of("b"), path_of("d")));
    says("rename to another name of the same", rename(path_of("a"), path_of("c")));
    ours("as before");
    says("rename without replacing", rename2(path_of("a"), path_of("c"), RENAME_NOREPLACE));
    close(opened("d", O_RDWR | O_CREAT, 0600));
    says("exchange", rename2(path_of("a"), path_of("d"), RENAME_EXCHANGE));
    facts(path_of("c"));
    says("exchange with what is not there", rename2(path_of("a"), path_of("e"), RENAME_EXCHANGE));
    says("replace", rename(path_of("c"), path_of("a")));
    ours("replaced");
    says("unlink", shm_unlink(named("a")));
    says("unlink again", shm_unlink(named("a")));
    says("rmdir a file", rmdir(path_of("d")));
    says("unlink with a slash", unlink(form("%s/", path_of("d"))));
    fd_facts("by descriptor", fd);
    shm_unlink(named("d"));
    ours("none");
    fd_facts("without a name", fd);
    says("it gets none again", link(form("/proc/self/fd/%d", fd), path_of("f")));
    says("nor by linkat", linkat(AT_FDCWD, form("/proc/self/fd/%d", fd), AT_FDCWD, path_of("f"), AT_SYMLINK_FOLLOW));
    close(fd), close(again);
    says("a slash in a name", shm_open("/a/b", O_RDWR | O_CREAT, 0600));
    says("no name", shm_open("/", O_RDWR | O_CREAT, 0600));
    char name[300];
    memset(name, 'n', sizeof name);
    name[0] = '/', name[256] = 0;
    memcpy(name + 1, prefix, strlen(prefix));
    fd = shm_open(name, O_RDWR | O_CREAT, 0600);
    says("a name of 255", fd < 0 ? -1 : 0);
    says("unlink it", shm_unlink(name));
    close(fd);
    name[256] = 'n', name[257] = 0;
    says("a name of 256", shm_open(name, O_RDWR | O_CREAT, 0600));
    says("open through a file", open(form("%s/x", path_of("a")), O_RDONLY));
    says("the directory for writing", open("/dev/shm", O_RDWR));
    says("remove the directory", rmdir("/dev/shm"));
    says("rename the directory", rename("/dev/shm", "/dev/shm2"));
    says("unlink the directory", unlink("/dev/shm"));
    stat("/dev/shm", &s);
    printf("the directory: %o %d:%d\n", s.st_mode, (int)s.st_uid, (int)s.st_gid);
    fd = open("/dev/shm", O_RDONLY | O_DIRECTORY);
    int inside = openat(fd, form("%s.z", prefix), O_RDWR | O_CREAT, 0600);
    says("openat", inside < 0 ? -1 : 0);
    says("fstatat", fstatat(fd, form("%s.z", prefix), &s, 0));
    says("unlinkat", unlinkat(fd, form("%s.z", prefix), 0));
    close(inside), close(fd);
    says("chdir", chdir("/dev/shm"));
    fd = open(form("%s.r", prefix), O_RDWR | O_CREAT, 0600);
    says("relative", fd < 0 ? -1 : 0);
    says("by dots", access(form("../../dev/./shm/%s.r", prefix), F_OK));
    char link[100] = {0};
    readlink(form("/proc/self/fd/%d", fd), link, sizeof link - 1);
    holds("its path", !strcmp(link, form("/dev/shm/%s.r", prefix)));
    unlink(form("%s.r", prefix));
    memset(link, 0, sizeof link);
    readlink(form("/proc/self/fd/%d", fd), link, sizeof link - 1);
    holds("its last path", !strcmp(link, form("/dev/shm/%s.r (deleted)", prefix)));
    close(fd), chdir("/");
}

static void users(void) {
    close(opened("u", O_RDWR | O_CREAT, 0640));
    close(opened("w", O_RDWR | O_CREAT, 0666));
    says("chmod", chmod(path_of("w"), 0666));
    says("chown", chown(path_of("u"), 1001, 2001));
    facts(path_of("u"));
    const gid_t groups[] = {2001};
    for (int who = 0; who < 3; who++) AS_CHILD {
        if (who == 0) become(1001, 7, 0, NULL);
        if (who == 1) become(1002, 7, 1, groups);
        if (who == 2) become(1003, 7, 0, NULL);
        printf("user %d\n", who);
        tries(path_of("u"), O_RDONLY, 0), tries(path_of("u"), O_RDWR, 0), tries(path_of("w"), O_RDWR, 0);
        tries(path_of("w"), O_RDWR | O_TRUNC, 0);
        says("access", access(path_of("u"), R_OK));
        says("truncate", truncate(path_of("u"), 5));
        says("chmod", chmod(path_of("u"), 0644));
        says("chown to another", chown(path_of("u"), 1003, -1));
        says("chown to the group", chown(path_of("u"), -1, 7));
        says("utime now", utimensat(AT_FDCWD, path_of("w"), NULL, 0));
        struct timespec then[2] = {{1000, 5}, {2000, 6}};
        says("utime then", utimensat(AT_FDCWD, path_of("w"), then, 0));
        says("link", link(path_of("u"), path_of("v")));
        says("unlink the link", unlink(path_of("v")));
        says("rename", rename(path_of("w"), path_of("x")));
        says("unlink", unlink(path_of("w")));
        int fd = shm_open(named("mine"), O_RDWR | O_CREAT | O_EXCL, 0600);
        says("make", fd < 0 ? -1 : 0);
        fd_facts("mine", fd);
        says("replace another's", rename(path_of("mine"), path_of("w")));
        says("unlink mine", shm_unlink(named("mine")));
        close(fd);
        facts(path_of("u")), facts(path_of("w"));
    }
    struct timespec then[2] = {{1000, 5}, {2000, 6}};
    struct stat s;
    says("utime then", utimensat(AT_FDCWD, path_of("u"), then, 0));
    stat(path_of("u"), &s);
    printf("times %ld.%ld %ld.%ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    then[0].tv_nsec = UTIME_OMIT, then[1].tv_sec = 3000;
    says("utime one", utimensat(AT_FDCWD, path_of("u"), then, 0));
    stat(path_of("u"), &s);
    printf("times %ld.%ld %ld.%ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    shm_unlink(named("u")), shm_unlink(named("w"));
    umask(027);
    close(opened("m", O_RDWR | O_CREAT, 0666));
    facts(path_of("m"));
    umask(022);
    shm_unlink(named("m"));
    ours("none");
}

static void bytes(void) {
    static char big[3 * PAGE];
    char text[100];
    int fd = opened("t", O_RDWR | O_CREAT, 0600);
    says_value("write", write(fd, "hello", 5));
    says_value("size", size_of(fd));
    says_value("read at the end", read(fd, text, 5));
    says_value("pread", pread(fd, text, 100, 1));
    printf("%.4s\n", text);
    says_value("seek end", lseek(fd, 2, SEEK_END));
    says_value("write there", write(fd, "x", 1));
    says_value("pread over the gap", pread(fd, text, 100, 0));
    holds("zeros in it", text[5] == 0 && text[6] == 0 && text[7] == 'x');
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i / 7);
    says_value("a long write", pwrite(fd, big, sizeof big, 1000));
    memset(big, 0, sizeof big);
    says_value("a long read", pread(fd, big, sizeof big, 1000));
    int same = 1;
    for (size_t i = 0; i < sizeof big; i++) same &= big[i] == (char)(i / 7);
    holds("the same", same);
    int append = shm_open(named("t"), O_WRONLY | O_APPEND, 0);
    if (append < 0) append = open(path_of("t"), O_WRONLY | O_APPEND);
    says_value("append", write(append, "end", 3));
    says_value("its offset", lseek(append, 0, SEEK_CUR));
    says_value("size", size_of(fd));
    says_value("read for writing only", read(append, text, 1));
    close(append);
    int reader = opened("t", O_RDONLY, 0);
    says_value("write for reading only", write(reader, "x", 1));
    says("ftruncate for reading only", ftruncate(reader, 1));
    close(reader);
    struct iovec parts[3] = {{"ab", 2}, {big, 0}, {"cd", 2}};
    says_value("pwritev", pwritev(fd, parts, 3, 10));
    parts[0].iov_base = text, parts[2].iov_base = text + 2;
    says_value("preadv", preadv(fd, parts, 3, 10));
    printf("%.4s\n", text);
    says("ftruncate", ftruncate(fd, 3));
    says_value("pread", pread(fd, text, 100, 0));
    says("longer", ftruncate(fd, PAGE + 7));
    says_value("pread", pread(fd, text, 10, 0));
    holds("zeros", text[3] == 0 && text[9] == 0);
    says("truncate", truncate(path_of("t"), 10));
    says_value("size", size_of(fd));
    says("ftruncate to less than nothing", ftruncate(fd, -1));
    says("posix_fallocate", posix_fallocate(fd, 0, 100) ? -1 : 0);
    says_value("size", size_of(fd));
    says("fallocate keeping the size", fallocate(fd, 1, 0, 1000));
    says_value("size", size_of(fd));
    says("fsync", fsync(fd));
    int copy = open(form("/tmp/%s", prefix), O_RDWR | O_CREAT | O_TRUNC, 0600);
    off_t at = 0;
    says_value("sendfile from it", sendfile(copy, fd, &at, 50));
    lseek(copy, 0, SEEK_SET), lseek(fd, 200, SEEK_SET);
    says_value("sendfile to it", sendfile(fd, copy, NULL, 50));
    says_value("size", size_of(fd));
    close(copy), unlink(form("/tmp/%s", prefix));
    says_value("write from nowhere", write(fd, (void *)1, 10));
    says_value("read to nowhere", pread(fd, (void *)1, 10, 0));
    int trunc = open(path_of("t"), O_RDWR | O_TRUNC);
    says_value("O_TRUNC", size_of(trunc));
    close(trunc);
    /* Bytes that lie in shared memory, the file's own. */
    sized(fd, 2 * PAGE);
    char *p = mapped(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    strcpy(p, "within");
    says_value("write from a mapping", pwrite(fd, p, 6, PAGE));
    holds("seen there", !memcmp(p + PAGE, "within", 6));
    says_value("read into a mapping", pread(fd, p + 100, 6, PAGE));
    holds("seen there", !memcmp(p + 100, "within", 6));
    munmap(p, 2 * PAGE), close(fd), shm_unlink(named("t"));
    ours("none");
}

static void mappings(void) {
    int fd = opened("m", O_RDWR | O_CREAT, 0600);
    char *p = mapped(fd, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    printf("load from nothing: %s\n", load(p));
    sized(fd, PAGE + 1);
    printf("load: %s\n", load(p + PAGE));
    printf("store: %s\n", store(p + PAGE + 100));
    printf("load past the end: %s\n", load(p + 2 * PAGE));
    says_value("write from past the end", write(fd, p + 2 * PAGE, 5));
    strcpy(p, "shared");
    char *q = mapped(fd, PAGE, PROT_READ, MAP_SHARED);
    holds("the same bytes", !strcmp(q, "shared"));
    AS_CHILD strcpy(p, "child");
    holds("a child's bytes", !strcmp(q, "child"));
    char *private = mapped(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    holds("a private mapping shows them", !strcmp(private, "child"));
    strcpy(p, "later");
    holds("also later", !strcmp(private, "later"));
    private[0] = 'L';
    strcpy(p, "even later");
    holds("but not when it was written to", !strcmp(private, "Later") && !strcmp(q, "even later"));
    AS_CHILD { private[0] = 'C'; need(p[0] == 'e', "private in the child"); }
    holds("private in the parent", private[0] == 'L');
    /* Shrinking. */
    p[PAGE] = 'x', p[200] = 'y';
    says("shrink", ftruncate(fd, 100));
    printf("load: %s\n", load(p + PAGE));
    printf("load within the page: %s\n", load(p + 200));
    holds("which is zero", p[200] == 0 && p[0] == 'e');
    printf("private past the end: %s\n", load(private + PAGE));
    says("grow", ftruncate(fd, 3 * PAGE));
    holds("zeros", p[PAGE] == 0 && p[2 * PAGE] == 0 && p[100] == 0);
    p[2 * PAGE] = 1;
    says("shrink to nothing", ftruncate(fd, 0));
    printf("load: %s\n", load(p));
    sized(fd, 3 * PAGE);
    holds("zeros", p[0] == 0 && p[2 * PAGE] == 0);
    /* Rights. */
    int reader = opened("m", O_RDONLY, 0);
    says("shared and writable without the right", (long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0));
    char *r = mapped(reader, PAGE, PROT_READ, MAP_SHARED);
    says("mprotect of such", mprotect(r, PAGE, PROT_READ | PROT_WRITE));
    printf("store: %s\n", store(r));
    p[0] = 'z';
    holds("it shows what is written", r[0] == 'z');
    char *copy = mapped(reader, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    copy[0] = 'c';
    holds("a private one may be written", copy[0] == 'c' && r[0] == 'z');
    says("mprotect to none", mprotect(p, PAGE, PROT_NONE));
    printf("load: %s\n", load(p));
    says("mprotect back", mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    p[0] = 'w';
    holds("as before", r[0] == 'w');
    /* Moving, splitting. */
    char *moved = mremap(p, 3 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
    says("mremap", moved == MAP_FAILED ? -1 : 0);
    holds("the same bytes", moved[0] == 'w');
    printf("load past the end: %s\n", load(moved + 3 * PAGE));
    sized(fd, 5 * PAGE);
    moved[4 * PAGE] = 'g';
    char got = 0;
    pread(fd, &got, 1, 4 * PAGE);
    holds("grown", got == 'g');
    says("munmap the middle", munmap(moved + PAGE, PAGE));
    moved[2 * PAGE] = 'h';
    pread(fd, &got, 1, 2 * PAGE);
    holds("the rest is there", got == 'h');
    char *second = mremap(moved + 2 * PAGE, 0, PAGE, MREMAP_MAYMOVE);
    holds("a second one of the same", second != MAP_FAILED && second[0] == 'h');
    char *offset = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * PAGE);
    holds("at an offset", offset[0] == 'h');
    /* Unlinked while mapped. */
    shm_unlink(named("m"));
    close(fd), close(reader);
    offset[0] = 'u';
    holds("unlinked and closed, it is still shared", second[0] == 'u' && moved[2 * PAGE] == 'u');
    AS_CHILD { offset[1] = 'v'; }
    holds("with a child, too", second[1] == 'v');
    says("a new one has the name", (fd = shm_open(named("m"), O_RDWR | O_CREAT | O_EXCL, 0600)) < 0 ? -1 : 0);
    holds("and is empty", size_of(fd) == 0 && second[0] == 'u');
    close(fd), shm_unlink(named("m"));
    /* A large one. */
    fd = opened("big", O_RDWR | O_CREAT, 0600);
    sized(fd, 9 * MIB);
    char *big = mapped(fd, 9 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (size_t i = 0; i < 9; i++) big[i * MIB] = (char)(i + 1);
    sized(fd, 5 * MIB + PAGE);
    int right = 1;
    for (size_t i = 0; i < 6; i++) right &= big[i * MIB] == (char)(i + 1);
    holds("cut in a large page", right);
    printf("load: %s\n", load(big + 5 * MIB + PAGE));
    says("munmap a part", munmap(big + MIB, 3 * MIB));
    holds("the rest", big[0] == 1 && big[4 * MIB] == 5);
    shm_unlink(named("big"));
    ours("none");
}

static void *waits(void *argument) {
    sem_t *sem = argument;
    sem_wait(sem);
    return NULL;
}

static void semaphores(void) {
    says("sem_open what is not there", sem_open(named("s"), 0) == SEM_FAILED ? -1 : 0);
    sem_t *sem = sem_open(named("s"), O_CREAT | O_EXCL, 0600, 2);
    says("make", sem == SEM_FAILED ? -1 : 0);
    says("again", sem_open(named("s"), O_CREAT | O_EXCL, 0600, 2) == SEM_FAILED ? -1 : 0);
    sem_t *same = sem_open(named("s"), O_CREAT, 0600, 9);
    holds("the same", same == sem);
    int value;
    sem_getvalue(sem, &value);
    says_value("value", value);
    ours("semaphores");
    sem_wait(sem), sem_wait(sem);
    says("trywait", sem_trywait(sem));
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
    says("timedwait", sem_timedwait(sem, &soon));
    pthread_t thread;
    pthread_create(&thread, NULL, waits, sem);
    nap(20000);
    sem_post(sem);
    says("a thread was woken", pthread_join(thread, NULL));
    IN_CHILD("a child waits and posts") {
        sem_t *mine = sem_open(named("s"), 0);
        need(mine != SEM_FAILED, "sem_open in a child");
        for (int i = 0; i < 50; i++) sem_post(mine);
    }
    for (int i = 0; i < 50; i++) sem_wait(sem);
    says("close", sem_close(sem));
    says("unlink", sem_unlink(named("s")));
    says("unlink again", sem_unlink(named("s")));
    ours("none");
}

/* Mutexes and condition variables in an object, between processes. */
static void words(void) {
    struct { pthread_mutex_t lock; pthread_cond_t changed; int turn; } *box;
    int fd = opened("words", O_RDWR | O_CREAT, 0600);
    sized(fd, sizeof *box);
    box = (void *)mapped(fd, sizeof *box, PROT_READ | PROT_WRITE, MAP_SHARED);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&box->lock, &attr);
    pthread_condattr_t cond;
    pthread_condattr_init(&cond);
    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&box->changed, &cond);
    pid_t child = forked();
    int me = child == 0;
    if (me) {
        /* Elsewhere in memory. */
        box = (void *)mapped(fd, sizeof *box, PROT_READ | PROT_WRITE, MAP_SHARED);
    }
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&box->lock);
        while (box->turn % 2 != me) pthread_cond_wait(&box->changed, &box->lock);
        box->turn++;
        pthread_cond_signal(&box->changed);
        pthread_mutex_unlock(&box->lock);
    }
    if (me) {
        pthread_mutex_lock(&box->lock);
        _exit(0);
    }
    waited(child);
    says_value("turns", box->turn);
    int error = pthread_mutex_lock(&box->lock);
    printf("the lock of the dead: %s\n", errno_name(error));
    pthread_mutex_consistent(&box->lock), pthread_mutex_unlock(&box->lock);
    close(fd), shm_unlink(named("words"));
}

/* What the process's own maps say of it. */
static void maps(void) {
    int fd = opened("maps", O_RDWR | O_CREAT, 0600);
    sized(fd, 3 * PAGE);
    char *p = mmap(FREE_PLACE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, PAGE);
    need(p == FREE_PLACE, "mmap");
    for (int gone = 0; gone < 2; gone++) {
        char line[600];
        FILE *file = fopen("/proc/self/maps", "r");
        while (fgets(line, sizeof line, file)) {
            unsigned long start, end, offset, inode;
            unsigned major, minor;
            char rights[5], path[400] = "";
            sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %399[^\n]", &start, &end, rights, &offset, &major, &minor, &inode, path);
            struct stat s;
            if ((char *)start != p || fstat(fd, &s)) continue;
            printf("%lx %s %lx %d %d\n", end - start, rights, offset, inode == s.st_ino, minor == (s.st_dev & 0xff));
            holds("path", !strcmp(path, form("/dev/shm/%s.maps%s", prefix, gone ? " (deleted)" : "")));
        }
        fclose(file);
        shm_unlink(named("maps"));
    }
    close(fd);
}

int main(int argc, char **argv) {
    if (argc > 1) prefix = argv[1];
    umask(022);
    names();
    users();
    bytes();
    mappings();
    semaphores();
    words();
    maps();
    return 0;
}
