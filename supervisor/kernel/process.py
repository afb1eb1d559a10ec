"""Processes: subreaper, pidfd, out-of-memory score, capabilities (containerd: pkg/sys, pkg/oom)."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from supervisor.kernel import libc

_PR_SET_PDEATHSIG = 1
_MADV_POPULATE_WRITE = 23  # since Linux 5.14
_PR_SET_CHILD_SUBREAPER = 36
CAP_SYS_RESOURCE = 24
OOM_SCORE_ADJ_MIN, OOM_SCORE_ADJ_MAX = -1000, 1000


def set_child_subreaper(*, wanted: bool = True) -> None:
    """Make orphaned descendants children of this process, so that it can reap a container's init; or not."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), "prctl PR_SET_CHILD_SUBREAPER")


def set_parent_death_signal(number: int) -> None:
    """Have this process receive a signal when the thread that started it ends."""
    libc.prctl(_PR_SET_PDEATHSIG, number, "prctl PR_SET_PDEATHSIG")


def set_name(name: str) -> None:
    """Set the name that `ps` shows of this thread; the kernel keeps 15 bytes."""
    Path("/proc/thread-self/comm").write_bytes(name.encode()[:15])


def own_pages() -> None:
    """Have each page that this process may write to for itself at once, not one by one when it does.

    For a forked child that has time before its work. What the kernel cannot give is left as it is.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions = line.split(maxsplit=2)[:2]
        if permissions.startswith("rw") and permissions.endswith("p"):
            start, end = (int(address, 16) for address in addresses.split("-"))
            with suppress(OSError):
                libc.madvise(start, end - start, _MADV_POPULATE_WRITE)


def title_place() -> tuple[int, int]:
    """Where this process keeps the command line that `ps` shows, and how much room is there.

    The kernel keeps arguments and environment there, which the process must no longer need (man 5
    proc_pid_cmdline); forked children have it at the same address. No room is what a kernel has that
    does not say.
    """
    fields = _stat_fields("self")
    start, end = int(fields[45]), int(fields[48])
    return start, max(0, end - start)


def write_title(place: tuple[int, int], title: bytes, process: str = "self") -> None:
    """Set the command line that `ps` shows, in place of what the process was started with.

    `process` may name a relative by its pid, which has its title at the same place.
    It is cut where the room ends; words are set apart by blanks.
    """
    start, room = place
    if not room:
        return
    memory = os.open(f"/proc/{process}/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, title[: room - 1].ljust(room, b"\0"), start)
    finally:
        os.close(memory)


def title_of(place: tuple[int, int]) -> bytes:
    """What is written there now."""
    start, room = place
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(memory, max(0, room - 1), start)
    finally:
        os.close(memory)


def set_title(title: str) -> None:
    """`write_title` for who does it once."""
    write_title(title_place(), title.encode())


def exit_code(code: int) -> int:
    """The code of an ended process as shells and containerd tell it: 128 added to a signal's number."""
    return code if code >= 0 else 128 - code


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
