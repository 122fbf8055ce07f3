/* Files that travel with a guest (tests/tests/files.rs gives them). Guests only; every line is the same in all. */
#include "fs.h"

static char text[30000];

static int right(const char *bytes, long from, long length) {
    for (long i = 0; i < length; i++)
        if ((unsigned char)bytes[i] != (unsigned char)((from + i) * 7)) return 0;
    return 1;
}

int main(int argc, char **argv) {
    if (argc == 2) return 0;
    facts("/data/deep/long"), facts("/data/short"), facts("/data/empty"), facts("/data"), facts("/data/deep"), facts("/etc/passwd");
    lists("/data"), lists("/data/deep"), lists("/etc");
    shows("/data/short"), shows("/etc/passwd"), shows("/tmp/in");
    static const char *const since[] = {"/", "/etc", "/etc/passwd", "/data/short", "/tmp/in"};
    for (int i = 0; i < 5; i++) {
        struct stat s;
        long ago = stat(since[i], &s) ? -1 : time(NULL) - s.st_mtime;
        holds(form("%s is as old as the guest", since[i]), ago >= 0 && ago < 300);
    }
    int fd = open("/data/deep/long", O_RDWR), other = open("/data/deep/long", O_RDONLY);
    says_value("read", pread(fd, text, sizeof text, 0));
    holds("right", right(text, 0, 20000));
    char *ro = mmap(NULL, 5 * PAGE, PROT_READ, MAP_SHARED, other, 0), *private = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, other, 0);
    holds("mapped", right(ro, 0, 20000) && right(private, 0, 20000));
    holds("zeros follow", ro[20000] == 0 && ro[5 * PAGE - 1] == 0);
    private[PAGE] = 'p';
    /* A page becomes the file's own: everyone sees that but who has a copy. */
    says_value("write", pwrite(fd, "changed", 7, PAGE + 100));
    holds("seen by read", pread(other, text, 20000, 0) == 20000 && !memcmp(text + PAGE + 100, "changed", 7) && right(text, 0, PAGE + 100) && right(text + PAGE + 107, PAGE + 107, 10000));
    holds("seen through the mapping", !memcmp(ro + PAGE + 100, "changed", 7) && right(ro + 2 * PAGE, 2 * PAGE, PAGE));
    holds("not by the copy", private[PAGE] == 'p' && right(private + PAGE + 1, PAGE + 1, 1000));
    says_value("another page", pwrite(fd, "too", 3, 2 * PAGE));
    holds("seen privately, too", !memcmp(private + 2 * PAGE, "too", 3));
    AS_CHILD holds("and by a child", !memcmp(ro + 2 * PAGE, "too", 3) && !memcmp(private + 2 * PAGE, "too", 3));
    char *rw = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rw[0] = '!';
    holds("written through a mapping", ro[0] == '!' && private[0] == '!' && pread(other, text, 1, 0) == 1 && text[0] == '!');
    AS_CHILD rw[3 * PAGE] = '?';
    holds("by a child", ro[3 * PAGE] == '?');
    says("cut", ftruncate(fd, 2 * PAGE + 10));
    printf("%s %s\n", load(ro + 2 * PAGE), load(ro + 3 * PAGE));
    says("grown", ftruncate(fd, 5 * PAGE));
    holds("with zeros", ro[2 * PAGE + 10] == 0 && ro[3 * PAGE] == 0 && ro[4 * PAGE] == 0);
    munmap(ro, 5 * PAGE), munmap(private, 5 * PAGE), munmap(rw, 5 * PAGE);
    close(fd), close(other);
    says("append to another", (fd = open("/data/short", O_WRONLY | O_APPEND), write(fd, "more\n", 5)) == 5 ? 0 : -1);
    close(fd);
    shows("/data/short");
    says("cut by open", close(open("/data/short", O_WRONLY | O_TRUNC)));
    shows("/data/short");
    says("rename", rename("/data/deep/long", "/tmp/moved"));
    says("unlink", unlink("/tmp/moved"));
    says("rmdir", rmdir("/data/deep"));
    lists("/data");
    /* The program's own file. */
    char exe[300] = "";
    readlink("/proc/self/exe", exe, 299);
    says("open it to write", open(exe, O_RDWR));
    says("truncate it", truncate(exe, 0));
    says("unlink it", unlink(exe));
    ssize_t n = readlink("/proc/self/exe", exe, 299);
    exe[n] = 0;
    holds("it is gone by name", strstr(exe, " (deleted)") != NULL);
    says("and can still be run", 0);
    AS_CHILD {
        char *const none[] = {"again", "x", NULL};
        if (proc() >= 0) execve("/proc/self/exe", none, none + 2);
        _exit(1);
    }
    return 0;
}
