/* Which CPUs there are and where this process runs. */
#include "common.h"

int main(void) {
    cpu_set_t mine, one;
    CPU_ZERO(&mine);
    says("sched_getaffinity", sched_getaffinity(0, sizeof mine, &mine));
    int count = CPU_COUNT(&mine);
    holds("there is a CPU", count >= 1);
    holds("sysconf agrees", sysconf(_SC_NPROCESSORS_ONLN) == count);
    unsigned cpu = 999, node = 999;
    says("getcpu", syscall(SYS_getcpu, &cpu, &node, NULL));
    holds("it is one of those", cpu < CPU_SETSIZE && CPU_ISSET(cpu, &mine));
    says_value("node", node);
    says("getcpu of nothing", syscall(SYS_getcpu, NULL, NULL, NULL));
    says("getcpu to a bad address", syscall(SYS_getcpu, 16L, NULL, NULL));
    says("sched_yield", sched_yield());
    for (int i = 0; i < 100; i++) sched_yield();

    int followed = 1;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &mine)) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
            if (sched_setaffinity(0, sizeof one, &one)) followed = 0;
            syscall(SYS_getcpu, &cpu, NULL, NULL);
            followed &= cpu == (unsigned)i;
        }
    holds("it runs where it is sent", followed);
    says("go anywhere", sched_setaffinity(0, sizeof mine, &mine));
    cpu_set_t again;
    sched_getaffinity(0, sizeof again, &again);
    holds("it may go anywhere again", CPU_EQUAL(&mine, &again));
    CPU_ZERO(&one);
    says("nowhere to run", sched_setaffinity(0, sizeof one, &one));
    says("too small a set", syscall(SYS_sched_getaffinity, 0, 1UL, &mine));
    says("an odd size", syscall(SYS_sched_getaffinity, 0, 12UL, &mine));
    says("set at a bad address", syscall(SYS_sched_getaffinity, 0, sizeof mine, 16L));
    says("no such process", sched_getaffinity(0x3fffff, sizeof mine, &mine));
    return 0;
}
