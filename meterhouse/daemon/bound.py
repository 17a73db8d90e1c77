"""Runs a program that the kernel kills when its parent dies: `python -m meterhouse.daemon.bound PARENT PROGRAM …`.

A leader that is killed has no time to end its child. Linux does it then (prctl(2), PR_SET_PDEATHSIG), also after the
program has taken this process's place. Other systems lack this. There, what the child starts still checks the lease.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, program: list[str]) -> None:
    """Turn this process into a program that dies with its parent.

    Args:
        parent: the process id that started this one.
        program: path and arguments.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
