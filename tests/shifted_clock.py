"""A clock that is wrong, for one process: its host's other clocks and its timers go on as before.

libfaketime cannot do it: with its version of Debian 12, Python's `time.sleep` fails or never returns.
"""

import subprocess
from pathlib import Path

_SOURCE = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    const char *given = getenv("SHIFTED_CLOCK_SECONDS");
    return given ? atol(given) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *result) {
    int failed = syscall(SYS_clock_gettime, clock, result);
    if (!failed && clock == CLOCK_REALTIME) result->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *result, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    result->tv_sec = exact.tv_sec;
    result->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (result) *result = exact.tv_sec;
    return exact.tv_sec;
}
"""


def shifted_clock(folder: Path, seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is ahead by this many seconds.

    Args:
        folder: for the library that shifts it, which the system's C compiler makes.
        seconds: ahead; negative: behind.
    """
    source, library = folder / "shifted_clock.c", folder / "shifted_clock.so"
    source.write_text(_SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library), "SHIFTED_CLOCK_SECONDS": str(seconds)}
