/* /proc/sysvipc/shm and /proc/sys/kernel/shm{max,all,mni}, as files. */
#include "conf.h"
#include <sys/uio.h>

static const char LIST[] = "/proc/sysvipc/shm";
static const char *const SETTINGS[] = {"/proc/sys/kernel/shmmax", "/proc/sys/kernel/shmall", "/proc/sys/kernel/shmmni"};
static char text[1 << 20], other[1 << 20];

/* The whole file, read in pieces. */
static long whole(const char *path, char *into, size_t piece) {
    int fd = open(path, O_RDONLY);
    need(fd >= 0, path);
    long length = 0, got;
    while ((got = read(fd, into + length, piece)) > 0) length += got;
    need(got == 0, "the end of the file");
    into[length] = 0;
    close(fd);
    return length;
}
static void shown(const char *name, const char *bytes, long length) {
    printf("%s: ", name);
    if (length < 0) printf("%s", errno_name(errno));
    for (long i = 0; i < length; i++)
        if (bytes[i] == '\n') printf("\\n");
        else putchar(bytes[i]);
    puts("");
}

/* The line the structure gives. */
static int expected(char *into, int id, unsigned long resident) {
    struct shmid_ds s = stat_of(id);
    return sprintf(into, "%10d %10d  %4o %21lu %5u %5u  %5lu %5u %5u %5u %5u %10llu %10llu %10llu %21lu %21lu\n", s.shm_perm.__key, id, s.shm_perm.mode,
                   (unsigned long)s.shm_segsz, s.shm_cpid, s.shm_lpid, (unsigned long)s.shm_nattch, s.shm_perm.uid, s.shm_perm.gid, s.shm_perm.cuid, s.shm_perm.cgid,
                   (unsigned long long)s.shm_atime, (unsigned long long)s.shm_dtime, (unsigned long long)s.shm_ctime, resident, 0UL);
}

static void list(void) {
    long length = whole(LIST, text, 4096);
    shown("the list of none", text, length);
    int ids[4] = {made(0x1234, 5000, IPC_CREAT | 0640), made(-2, 1, IPC_CREAT | 0), made(IPC_PRIVATE, 12345678, 0777), made(7, 4096, IPC_CREAT | 0600)};
    char *p = attached(ids[0], NULL, 0), *q = attached(ids[3], NULL, 0);
    p[0] = p[PAGE] = 1;
    attached(ids[0], FREE_PLACE, SHM_RDONLY);
    removed(ids[3]);
    need(shmctl(ids[1], IPC_SET, &(struct shmid_ds){.shm_perm = {.uid = 1001, .gid = 123456, .mode = 0444}}) == 0, "IPC_SET");
    need(shmctl(ids[2], SHM_LOCK, NULL) == 0, "SHM_LOCK");
    AS_CHILD shmdt(p);
    length = whole(LIST, text, 4096);
    long header = strchr(text, '\n') - text + 1;
    shown("header", text, header);
    char *want = other;
    memcpy(want, text, header);
    want += header;
    /* Locking does not bring pages in by itself. */
    for (int i = 0; i < 4; i++) want += expected(want, ids[i], i == 0 ? 2 * PAGE : 0);
    holds("each line is what the state says", strcmp(text, other) == 0);
    if (strcmp(text, other)) printf("there:\n%sexpected:\n%s", text, other);
    printf("%ld bytes\n", length);
    static const size_t pieces[] = {1, 7, 100, 150, 300, 65536};
    for (int i = 0; i < 6; i++) {
        long again = whole(LIST, other, pieces[i]);
        printf("in pieces of %zu: %ld bytes, the same %s\n", pieces[i], again, strcmp(text, other) == 0 ? "yes" : "no");
    }
    int fd = open(LIST, O_RDONLY);
    static const long offsets[] = {0, 1, 100, 116, 117, 118, 300, 100000};
    for (int i = 0; i < 8; i++) {
        long count = pread(fd, other, 50, offsets[i]), have = length - offsets[i] < 0 ? 0 : length - offsets[i] > 50 ? 50 : length - offsets[i];
        printf("pread at %ld: %ld, right %s\n", offsets[i], count, count == have && memcmp(other, text + offsets[i], count < 0 ? 0 : count) == 0 ? "yes" : "no");
    }
    says("pread at -1", pread(fd, other, 10, -1));
    says_value("offset after preads", lseek(fd, 0, SEEK_CUR));
    says_value("read 10", read(fd, other, 10));
    says_value("offset", lseek(fd, 0, SEEK_CUR));
    says_value("seek to 100", lseek(fd, 100, SEEK_SET));
    says_value("read 20", read(fd, other, 20));
    holds("right", memcmp(other, text + 100, 20) == 0);
    says_value("seek back 50", lseek(fd, -50, SEEK_CUR));
    says_value("read 20", read(fd, other, 20));
    holds("right", memcmp(other, text + 70, 20) == 0);
    says_value("seek before the beginning", lseek(fd, -1, SEEK_SET));
    says_value("seek from the end", lseek(fd, 0, SEEK_END));
    says_value("seek in a bad way", lseek(fd, 0, 9));
    says_value("seek to the start", lseek(fd, 0, SEEK_SET));
    says_value("read 0", read(fd, other, 0));
    says("read to a bad address", syscall(SYS_read, fd, 16L, 100));
    says_value("seek to the start", lseek(fd, 0, SEEK_SET));
    /* An open file shows what is there when it is read. */
    int late = made(IPC_PRIVATE, 1, 0600);
    long count = 0, got;
    while ((got = read(fd, other + count, 4096)) > 0) count += got;
    other[count] = 0;
    printf("with one more: %ld bytes more, its line there %s\n", count - length, strstr(other, form("%10d %10d   600", 0, late)) ? "yes" : "no");
    removed(late);
    says_value("at its end", read(fd, other, 100));
    /* Children share the offset. */
    lseek(fd, 0, SEEK_SET);
    AS_CHILD {
        says_value("a child reads 30", read(fd, other, 30));
        close(fd);
    }
    says_value("offset after the child", lseek(fd, 0, SEEK_CUR));
    says("write to it", write(fd, "x", 1));
    says("close", close(fd));
    says("close again", close(fd));
    says("read what is closed", read(fd, other, 1));
    says("seek what is closed", lseek(fd, 0, SEEK_SET));
    says("pread what is closed", pread(fd, other, 1, 0));
    fd = open(LIST, O_WRONLY);
    says("root opens it for writing", fd);
    if (fd >= 0) {
        says("and writes", write(fd, "x", 1));
        says("and reads", read(fd, other, 1));
        close(fd);
    }
    struct stat s;
    says("stat", stat(LIST, &s));
    printf("mode %o size %ld owner %d:%d links %d\n", s.st_mode, (long)s.st_size, (int)s.st_uid, (int)s.st_gid, (int)s.st_nlink);
    AS_CHILD {
        become(1007, 2007, 0, NULL);
        says_value("another user sees everything", whole(LIST, other, 4096) == length);
        says("another user opens it for writing", open(LIST, O_WRONLY));
        says("another user opens it for both", open(LIST, O_RDWR));
    }
    says("exclusively", open(LIST, O_CREAT | O_EXCL | O_RDWR, 0600));
    says("as a directory", open(LIST, O_RDONLY | O_DIRECTORY));
    says("below it", open("/proc/sysvipc/shm/x", O_RDONLY));
    says("what is not", open("/proc/sysvipc/nothing", O_RDONLY));
    says("an empty name", open("", O_RDONLY));
    says("a name at a bad address", syscall(SYS_open, 16L, O_RDONLY));
    fd = openat(AT_FDCWD, LIST, O_RDONLY | O_CLOEXEC);
    says("openat", fd);
    holds("the lowest free descriptor", fd >= 0 && (close(fd), open(LIST, O_RDONLY)) == fd);
    close(fd);
    fd = openat(12345, LIST, O_RDONLY);
    says("openat, absolute, whatever the directory", fd);
    close(fd);
    /* Gone ones vanish, removed ones stay while attached. */
    shmdt(q);
    whole(LIST, text, 4096);
    holds("the removed one is gone", strstr(text, "16384") == NULL && strstr(text, form("%10d %10d", 0, ids[3])) == NULL);
    shmdt(p), shmdt(FREE_PLACE);
    for (int i = 0; i < 3; i++) removed(ids[i]);
    shown("none again", text, whole(LIST, text, 4096));
    /* More than a page of them. */
    static int many[100];
    for (int i = 0; i < 100; i++) many[i] = made(0x5000 + i, 100 * i + 1, IPC_CREAT | 0600);
    length = whole(LIST, text, 4096);
    int lines = 0;
    for (long i = 0; i < length; i++) lines += text[i] == '\n';
    printf("100 segments: %d lines, %ld bytes\n", lines, length);
    long position = header;
    int right = 1;
    for (int i = 0; i < 100; i++) {
        int n = expected(other, many[i], 0);
        right &= strncmp(text + position, other, n) == 0;
        position += n;
    }
    holds("all right", right);
    whole(LIST, other, 333);
    holds("in pieces of 333 the same", strcmp(text, other) == 0);
    for (int i = 0; i < 100; i++) removed(many[i]);
}

static void put(const char *path, const char *value) {
    int fd = open(path, O_WRONLY);
    need(fd >= 0, path);
    long written = write(fd, value, strlen(value));
    printf("%s < \"", strrchr(path, '/') + 1);
    for (const char *c = value; *c; c++)
        if (*c == '\n') printf("\\n");
        else if (*c == '\t') printf("\\t");
        else putchar(*c);
    if (written < 0) printf("\": %s", errno_name(errno));
    else printf("\": %ld", written);
    close(fd);
    long length = whole(path, text, 100);
    shown(", now", text, length);
}

static void settings(void) {
    static char old[3][100];
    struct shm_limits limits;
    for (int i = 0; i < 3; i++) {
        long length = whole(SETTINGS[i], old[i], 99);
        shown(SETTINGS[i], old[i], length);
        struct stat s;
        says("stat", stat(SETTINGS[i], &s));
        printf("mode %o size %ld owner %d:%d\n", s.st_mode, (long)s.st_size, (int)s.st_uid, (int)s.st_gid);
        int fd = open(SETTINGS[i], O_RDWR);
        says_value("read 2", read(fd, text, 2));
        says_value("read on", read(fd, text, 2));
        says_value("pread at 1", pread(fd, text, 2, 1));
        says_value("seek to the start", lseek(fd, 0, SEEK_SET));
        says_value("read all", read(fd, text, 100));
        says_value("read at the end", read(fd, text, 100));
        says("read to a bad address", (lseek(fd, 0, SEEK_SET), syscall(SYS_read, fd, 16L, 10)));
        says("write from a bad address", (lseek(fd, 0, SEEK_SET), syscall(SYS_write, fd, 16L, 10)));
        close(fd);
        fd = open(SETTINGS[i], O_RDONLY);
        says("write to what is open for reading", write(fd, "1", 1));
        close(fd);
        fd = open(SETTINGS[i], O_WRONLY);
        says("read from what is open for writing", read(fd, text, 1));
        close(fd);
        static const char *const values[] = {"100\n", "200", "  300 \n", "400 500\n", "\t600\n", "", "\n", "abc\n", "7x\n", "-1\n", "-5\n", "0x10\n", "010\n", "0\n", "99999999999\n", "18446744073709551615\n", "18446744073709551616\n", "4096\n", "32768\n", "32769\n", "+5\n", "1\n2\n"};
        for (int v = 0; v < 22; v++) put(SETTINGS[i], values[v]);
        put(SETTINGS[i], old[i]);
        AS_CHILD {
            become(1007, 2007, 0, NULL);
            says("another user reads it", whole(SETTINGS[i], text, 100) > 0 ? 0 : -1);
            says("another user opens it for writing", open(SETTINGS[i], O_WRONLY));
        }
    }
    /* What is written is what IPC_INFO says and what counts. */
    put(SETTINGS[0], "10000\n");
    put(SETTINGS[1], "5\n");
    put(SETTINGS[2], "2\n");
    syscall(SYS_shmctl, 0, IPC_INFO, &limits);
    printf("IPC_INFO: max %lu all %lu mni %lu seg %lu\n", limits.max, limits.all, limits.mni, limits.seg);
    for (int i = 0; i < 3; i++) put(SETTINGS[i], old[i]);
    syscall(SYS_shmctl, 0, IPC_INFO, &limits);
    printf("IPC_INFO: max %lu all %lu mni %lu seg %lu\n", limits.max, limits.all, limits.mni, limits.seg);
    int fd = open(SETTINGS[2], O_WRONLY);
    says_value("write in pieces: 12", write(fd, "12", 2));
    says_value("then 34", write(fd, "34\n", 3));
    shown("gives", text, whole(SETTINGS[2], text, 100));
    close(fd);
    put(SETTINGS[2], old[2]);
    /* A text in pieces is one text. */
    static const struct { const char *name, *pieces[3]; } gathered[] = {
        {"and an empty one", {"12\n", "", NULL}}, {"after an empty one", {"", "13\n", NULL}}, {"a number in two", {"1", "4\n", NULL}}, {"three", {"1", "5", "x"}}, {"all empty", {"", "", ""}}};
    for (int i = 0; i < 5; i++) {
        struct iovec vectors[3];
        int count = 0;
        for (; count < 3 && gathered[i].pieces[count]; count++) vectors[count] = (struct iovec){(char *)gathered[i].pieces[count], strlen(gathered[i].pieces[count])};
        fd = open(SETTINGS[2], O_WRONLY);
        says_value(form("writev: %s", gathered[i].name), writev(fd, vectors, count));
        says_value("then at", lseek(fd, 0, SEEK_CUR));
        close(fd);
        shown("gives", text, whole(SETTINGS[2], text, 100));
    }
    fd = open(SETTINGS[2], O_RDWR);
    says("writev from a bad address", syscall(SYS_writev, fd, (struct iovec[]){{"1", 1}, {(void *)16, 1}}, 2));
    says_value("writev of none", writev(fd, NULL, 0));
    char a[2], b[20];
    lseek(fd, 0, SEEK_SET);
    long length = readv(fd, (struct iovec[]){{a, 2}, {b, 20}}, 2);
    says_value("readv", length);
    close(fd);
    /* As C programs do it. */
    FILE *stream = fopen(SETTINGS[2], "w");
    says_value("fprintf", fprintf(stream, "%d", 77));
    says_value("fclose", fclose(stream));
    stream = fopen(SETTINGS[2], "r");
    int number = -1;
    says_value("fscanf", fscanf(stream, "%d", &number));
    says_value("gives", number);
    fclose(stream);
    put(SETTINGS[2], old[2]);
}

int main(void) {
    list();
    settings();
    /* Who ends leaves nothing open. */
    says("left open", open(LIST, O_RDONLY));
    AS_CHILD says("a child's, left open", open(LIST, O_RDONLY));
    return 0;
}
