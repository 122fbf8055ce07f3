/* Locks on files: fcntl's of processes and of open files, flock's; who waits, and who gets them when. */
#include "fs.h"
#include <sys/file.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

static int fd;

static long lock_of(int descriptor, int command, int type, long start, long length) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(descriptor, command, &l);
}
static void looks(const char *name, int command, int type, long start, long length) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(fd, command, &l)) says(name, -1);
    else if (l.l_type == F_UNLCK) printf("%s: free\n", name);
    else printf("%s: %s from %ld, %ld, by %s\n", name, l.l_type == F_RDLCK ? "shared" : "exclusive", (long)l.l_start, (long)l.l_len, l.l_pid == -1 ? "an open file" : who(l.l_pid));
}

int main(void) {
    enter_home();
    fd = open("f", O_RDWR | O_CREAT, 0644);
    write(fd, "0123456789", 10);
    puts("-- processes");
    says("lock", lock_of(fd, F_SETLK, F_WRLCK, 2, 4));
    looks("one's own is not in the way", F_GETLK, F_WRLCK, 0, 0);
    AS_CHILD {
        looks("a child finds it", F_GETLK, F_RDLCK, 0, 0);
        looks("before it", F_GETLK, F_WRLCK, 0, 2);
        looks("at its end", F_GETLK, F_WRLCK, 5, 1);
        looks("after it", F_GETLK, F_WRLCK, 6, 0);
        says("and can't have it", lock_of(fd, F_SETLK, F_RDLCK, 0, 3));
        says("but what is beside", lock_of(fd, F_SETLK, F_WRLCK, 6, 0));
        says("write past it all the same", pwrite(fd, "x", 1, 3) == 1 ? 0 : -1);
    }
    AS_CHILD says("the child's is gone with it", lock_of(fd, F_SETLK, F_WRLCK, 6, 1));
    says("make the middle shared", lock_of(fd, F_SETLK, F_RDLCK, 3, 1));
    AS_CHILD {
        says("a child shares it", lock_of(fd, F_SETLK, F_RDLCK, 3, 1));
        says("only", lock_of(fd, F_SETLK, F_WRLCK, 3, 1));
        looks("first", F_GETLK, F_WRLCK, 2, 1);
        looks("last", F_GETLK, F_WRLCK, 4, 1);
    }
    says("unlock a part", lock_of(fd, F_SETLK, F_UNLCK, 0, 3));
    AS_CHILD says("then it is free", lock_of(fd, F_SETLK, F_WRLCK, 0, 3));
    /* Closing any descriptor of the file gives them up. */
    close(dup(fd));
    AS_CHILD says("all gone by a close", lock_of(fd, F_SETLK, F_WRLCK, 0, 0));
    says("lock all", lock_of(fd, F_SETLK, F_WRLCK, 0, 0));
    AS_CHILD looks("to the end", F_GETLK, F_RDLCK, 1L << 40, 1);
    close(open("f", O_RDONLY));
    AS_CHILD looks("all gone by another close", F_GETLK, F_RDLCK, 0, 0);
    puts("-- refused");
    int ro = open("f", O_RDONLY), wo = open("f", O_WRONLY);
    says("exclusive on read-only", lock_of(ro, F_SETLK, F_WRLCK, 0, 0));
    says("shared on read-only", lock_of(ro, F_SETLK, F_RDLCK, 0, 0));
    says("shared on write-only", lock_of(wo, F_SETLK, F_RDLCK, 0, 0));
    says("a bad type", lock_of(fd, F_SETLK, 7, 0, 0));
    says("look for nothing", lock_of(fd, F_GETLK, F_UNLCK, 0, 0));
    says("before the start", lock_of(fd, F_SETLK, F_RDLCK, -1, 0));
    says("length before the start", lock_of(fd, F_SETLK, F_RDLCK, 5, -6));
    says("backwards", lock_of(fd, F_SETLK, F_RDLCK, 5, -5));
    says("too far", lock_of(fd, F_SETLK, F_RDLCK, 0x7fffffffffffffff, 2));
    says("no descriptor", lock_of(99, F_SETLK, F_RDLCK, 0, 0));
    says("at a bad address", fcntl(fd, F_SETLK, 16));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -3, .l_len = 2};
    says("from the end", fcntl(fd, F_SETLK, &l));
    AS_CHILD looks("there", F_GETLK, F_RDLCK, 6, 0);
    lseek(fd, 4, SEEK_SET);
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -1, .l_len = 1};
    says("from here", fcntl(fd, F_SETLK, &l));
    AS_CHILD looks("there", F_GETLK, F_RDLCK, 2, 3);
    l.l_whence = 9;
    says("from nowhere", fcntl(fd, F_SETLK, &l));
    close(ro), close(wo);
    puts("-- waiting");
    int ends[2];
    pipe(ends);
    need(lock_of(fd, F_SETLK, F_WRLCK, 0, 0) == 0, "a lock");
    pid_t child = forked();
    if (child == 0) {
        write(ends[1], "w", 1);
        long got = lock_of(fd, F_SETLKW, F_WRLCK, 0, 0);
        write(ends[1], got ? "!" : "g", 1);
        nap(30000);
        _exit(0);
    }
    char byte;
    read(ends[0], &byte, 1);
    struct pollfd p = {ends[0], POLLIN, 0};
    says_value("a child waits", poll(&p, 1, 50));
    says("unlock", lock_of(fd, F_SETLK, F_UNLCK, 0, 0));
    read(ends[0], &byte, 1);
    printf("and has it: %c\n", byte);
    says("not before it ends", lock_of(fd, F_SETLK, F_WRLCK, 0, 1));
    says("then", lock_of(fd, F_SETLKW, F_WRLCK, 0, 1));
    waited(child);
    lock_of(fd, F_SETLK, F_UNLCK, 0, 0);
    puts("-- open files");
    int other = open("f", O_RDWR), same = dup(fd);
    says("lock", lock_of(fd, F_OFD_SETLK, F_WRLCK, 0, 5));
    says("by another open file", lock_of(other, F_OFD_SETLK, F_WRLCK, 4, 1));
    says("by the same", lock_of(same, F_OFD_SETLK, F_RDLCK, 4, 1));
    says("by the process", lock_of(fd, F_SETLK, F_WRLCK, 0, 1));
    looks("who", F_GETLK, F_WRLCK, 0, 1);
    AS_CHILD says("a child has the same open file", lock_of(fd, F_OFD_SETLK, F_WRLCK, 0, 5));
    close(same);
    says("a close of one descriptor changes nothing", lock_of(other, F_OFD_SETLK, F_WRLCK, 0, 1));
    l = (struct flock){.l_type = F_WRLCK, .l_pid = 5};
    says("with a process", fcntl(other, F_OFD_SETLK, &l));
    int third = open("f", O_RDWR);
    need(lock_of(fd, F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && lock_of(third, F_OFD_SETLK, F_WRLCK, 0, 0) == 0, "locks");
    says("held by a third", lock_of(other, F_OFD_SETLK, F_WRLCK, 0, 1));
    close(third);
    says("gone with it", lock_of(other, F_OFD_SETLK, F_WRLCK, 0, 1));
    lock_of(other, F_OFD_SETLK, F_UNLCK, 0, 0);
    puts("-- flock");
    says("shared", flock(fd, LOCK_SH));
    says("by another", flock(other, LOCK_SH | LOCK_NB));
    says("exclusive, not yet", flock(fd, LOCK_EX | LOCK_NB));
    says("unlock", flock(other, LOCK_UN));
    says("exclusive", flock(fd, LOCK_EX | LOCK_NB));
    says("by another", flock(other, LOCK_SH | LOCK_NB));
    says("has nothing to do with fcntl's", lock_of(other, F_SETLK, F_WRLCK, 0, 0));
    AS_CHILD says("a child has the same", flock(fd, LOCK_EX | LOCK_NB));
    child = forked();
    if (child == 0) {
        int own = open("f", O_RDONLY);
        write(ends[1], "w", 1);
        long got = flock(own, LOCK_EX);
        write(ends[1], got ? "!" : "g", 1);
        _exit(0);
    }
    read(ends[0], &byte, 1);
    says_value("another waits", poll(&p, 1, 50));
    says("unlock", flock(fd, LOCK_UN));
    read(ends[0], &byte, 1);
    printf("and has it: %c\n", byte);
    waited(child);
    says("bad operation", flock(fd, 3));
    says("no operation", flock(fd, 0));
    says("no descriptor", flock(99, LOCK_SH));
    close(fd), close(other), close(ends[0]), close(ends[1]);
    unlink("f");
    leave_home();
    return 0;
}
