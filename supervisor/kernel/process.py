"""Processes: subreaper, pidfd, out-of-memory score, capabilities (containerd: pkg/sys, pkg/oom)."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from supervisor.kernel import libc

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
CAP_SYS_RESOURCE = 24
OOM_SCORE_ADJ_MIN, OOM_SCORE_ADJ_MAX = -1000, 1000


def set_child_subreaper() -> None:
    """Make orphaned descendants children of this process, so that it can reap a container's init."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, "prctl PR_SET_CHILD_SUBREAPER")


def set_parent_death_signal(number: int) -> None:
    """Have this process receive a signal when the thread that started it ends."""
    libc.prctl(_PR_SET_PDEATHSIG, number, "prctl PR_SET_PDEATHSIG")


def set_name(name: str) -> None:
    """Set the name that `ps` shows of this thread; the kernel keeps 15 bytes."""
    Path("/proc/thread-self/comm").write_bytes(name.encode()[:15])


def set_title(title: str) -> None:
    """Set the command line that `ps` shows of this process, in place of what it was started with.

    It goes where the kernel keeps arguments and environment, which the process must no longer need,
    and is cut where that ends; words are set apart by blanks (man 5 proc_pid_cmdline).
    """
    fields = _stat_fields("self")
    start, end = int(fields[45]), int(fields[48])
    room = end - start
    if room <= 0:
        return  # the kernel does not say where
    text = title.encode()[: room - 1]
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, text.ljust(room, b"\0"), start)
    finally:
        os.close(memory)


def wait_for_exit(pidfd: int, seconds: float | None = None) -> bool:
    """Wait until the process of a pidfd has ended; False when the time ran out first. Does not reap."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if seconds is None else seconds * 1000))


def terminate_and_wait(pid: int, number: int = signal.SIGKILL, seconds: float = 10.0) -> bool:
    """Signal a process and wait for its end; True if it ended. Does not reap."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(pidfd, number)
        return wait_for_exit(pidfd, seconds)
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names one process for ever."""
    return int(_stat_fields(str(pid))[19])


def _stat_fields(process: str) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on."""
    text = Path(f"/proc/{process}/stat").read_bytes()
    # The second field, the name, may hold spaces and parentheses.
    return text[text.rindex(b")") + 2 :].split()


def has_capability(number: int) -> bool:
    """Whether the effective set of this process holds a capability."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def oom_score_adj(pid: int | None = None) -> int:
    """The out-of-memory score adjustment of a process, by default this one."""
    return int(Path(f"/proc/{pid or 'self'}/oom_score_adj").read_text())


def allowed_oom_score_adj(wanted: int) -> int:
    """`wanted`, raised to what this process may set.

    Without CAP_SYS_RESOURCE a process cannot go below its own value; runtimes that try die without a word.
    """
    lowest = OOM_SCORE_ADJ_MIN if has_capability(CAP_SYS_RESOURCE) else oom_score_adj()
    return min(max(wanted, lowest), OOM_SCORE_ADJ_MAX)


def set_oom_score_adj(pid: int, wanted: int) -> int:
    """Set a process's adjustment as near to `wanted` as is allowed; answers what was set."""
    value = allowed_oom_score_adj(wanted)
    Path(f"/proc/{pid}/oom_score_adj").write_text(str(value))
    return value
