/* Sets one process' wall clock off by the seconds that the file WALLCLOCK_OFFSET holds, a 64-bit number in the machine's
 * byte order; its other clocks and its sleeps stay as they are. To be preloaded. (Debian's libfaketime breaks Python's
 * time.sleep where the monotonic clock is to stay.) */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset_s;

__attribute__((constructor)) static void map_offset(void)
{
    int file = open(getenv("WALLCLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
    offset_s = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, file, 0);
    if (offset_s == MAP_FAILED)
        abort();
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += *offset_s;
    return result;
}
