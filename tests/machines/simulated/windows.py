"""Simulate Windows as it appears to Python code.

POSIX functions are missing, open files cannot be removed, text files are cp1252, clocks are coarse.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from typing import Any

import simulated_msvcrt
from hooks import Altered, for_our_code
from open_files import protect_open_files
from text_files import change_open

MISSING_IN_OS = """
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC PRIO_PROCESS SCHED_OTHER WNOHANG chown chroot
    confstr ctermid fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid geteuid
    getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid killpg lchown
    lockf mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread
    preadv pwrite pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield
    sendfile setegid seteuid setgid setpgid setpriority setsid setuid statvfs sync sysconf tcgetpgrp
    uname wait wait3 wait4 writev"""
MISSING_IN_SIGNAL = """
    SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGUSR1
    SIGUSR2 SIGWINCH alarm pause pthread_kill setitimer siginterrupt sigwait"""

real_open, real_kill, real_fsync = os.open, os.kill, os.fsync


CLOCK_TICK = 1 / 64
"""seconds; processor time is counted in such steps"""


def open_file(path: Any, flags: int, *rest: Any, **more: Any) -> int:
    """os.open, which opens no folder."""
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return real_open(path, flags, *rest, **more)


def fsync(number: int) -> None:
    """os.fsync, which needs a file that was opened for writing."""
    if os.get_blocking(number) and not _is_writable(number):
        raise OSError(9, "Bad file descriptor")
    real_fsync(number)


def kill(pid: int, number: int) -> None:
    """os.kill, which ends the process whatever the signal."""
    real_kill(pid, signal.SIGKILL)


def _is_writable(number: int) -> bool:
    import fcntl

    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


for_our_code("sys", Altered(sys, platform="win32"))
for_our_code(
    "os",
    Altered(os, MISSING_IN_OS, name="nt", linesep="\r\n", open=open_file, fsync=fsync, kill=kill),
)
for_our_code("signal", Altered(signal, MISSING_IN_SIGNAL))
for_our_code("msvcrt", simulated_msvcrt)
for_our_code(
    "time", Altered(time, thread_time=lambda: time.thread_time() // CLOCK_TICK * CLOCK_TICK)
)
for name in ("fcntl", "grp", "pty", "pwd", "readline", "resource", "termios", "tty"):
    for_our_code(name, None)
change_open(hidden=("/proc", "/sys"), encoding="cp1252", newline="\r\n")
shutil._use_fd_functions = False  # on Windows rmtree has no folder descriptors
protect_open_files()
