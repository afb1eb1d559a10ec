"""The command line of an OCI runtime: runc, crun and others (containerd: go-runc).

Commands are waited for, and are killed when the time is up (`limits`): so they are run by the shim's
children, not by the shim. `create` and `exec` hand the container's streams to the runtime, so that
their failure is read from the runtime's log; the others have their output captured.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from supervisor.errors import DeadlineExceeded, NotFound, SupervisorError
from supervisor.shimv2.runc.limits import remaining
from supervisor.shimv2.runc.options import Options
from supervisor.shimv2.runc.runtimelog import RuntimeLog
from supervisor.shimv2.runc.spawn import Child, spawn

_READ_SIZE = 64 << 10

_FINISHED = ("not running", "no such process", "already finished")
_ABSENT = ("does not exist", "error opening file")


class CommandFailed(SupervisorError):
    """A runtime's command ended with another code than 0."""


class Runtime:
    """One container's runtime: which binary, with which root, logging where."""

    def __init__(self, options: Options, namespace: str, bundle: str) -> None:
        self._options = options
        self._root = options.runtime_root(namespace)
        self._bundle = bundle
        self._log = RuntimeLog(f"{bundle}/log.json")

    @property
    def binary(self) -> str:
        """Name or path of the runtime."""
        return self._options.runtime_binary()

    def create(
        self, container: str, pid_file: str, descriptors: Mapping[int, int], console_socket: str = ""
    ) -> None:
        """Create the container with its init waiting to be started."""
        arguments = ["create", "--bundle", self._bundle, "--pid-file", pid_file]
        arguments += ["--console-socket", console_socket] if console_socket else []
        arguments += ["--no-pivot"] if self._options.no_pivot_root else []
        arguments += ["--no-new-keyring"] if self._options.no_new_keyring else []
        self._logged("OCI runtime create failed", [*arguments, container], descriptors)

    def start(self, container: str) -> None:
        """Let the created init go."""
        self._logged("OCI runtime start failed", ["start", container])

    def exec(
        self,
        container: str,
        process_file: str,
        pid_file: str,
        descriptors: Mapping[int, int],
        console_socket: str = "",
    ) -> None:
        """Start another process in the container."""
        arguments = ["exec", "--process", process_file]
        arguments += ["--console-socket", console_socket] if console_socket else []
        arguments += ["--detach", "--pid-file", pid_file, container]
        self._logged("OCI runtime exec failed", arguments, descriptors)

    def pause(self, container: str) -> None:
        """Freeze every process of the container."""
        self._logged("OCI runtime pause failed", ["pause", container])

    def resume(self, container: str) -> None:
        """Thaw the container."""
        self._logged("OCI runtime resume failed", ["resume", container])

    def delete(self, container: str, *, force: bool = False) -> None:
        """Remove what the runtime keeps of the container; one that it does not know is removed already."""
        arguments = ["delete", *(["--force"] if force else []), container]
        try:
            self._logged("failed to delete task", arguments)
        except CommandFailed as error:
            if "does not exist" not in str(error).lower():
                raise

    def kill(self, container: str, signal_number: int, everything: bool = False) -> None:
        """Signal init, or all processes; raises NotFound when there is nothing to signal any more."""
        arguments = ["kill", *(["--all"] if everything else []), container, str(signal_number)]
        try:
            self._captured(arguments)
        except CommandFailed as error:
            raise _kill_error(str(error)) from error

    def update(self, container: str, resources: bytes) -> None:
        """Apply resource limits, JSON of the OCI spec's `linux.resources`."""
        self._captured(["update", "--resources=-", container], resources)

    def checkpoint(self, container: str, path: str, flags: Sequence[str]) -> None:
        """Dump the container into the folder `path`."""
        self._captured(["checkpoint", "--image-path", path, *flags, container])

    def restore(
        self,
        container: str,
        path: str,
        pid_file: str,
        descriptors: Mapping[int, int],
        console_socket: str = "",
    ) -> None:
        """Make the container from a dump, running at once."""
        work = self._options.criu_work_path or f"{self._bundle}/work"
        arguments = ["restore", "--image-path", path, "--work-path", work, "--detach", "--pid-file", pid_file]
        arguments += ["--console-socket", console_socket] if console_socket else []
        # Both are runc's; crun refuses them.
        if os.path.basename(self.binary) != "crun":
            arguments += ["--no-pivot"] if self._options.no_pivot_root else []
            arguments += ["-no-subreaper"]
        arguments += ["--bundle", self._bundle, container]
        self._logged("OCI runtime restore failed", arguments, descriptors)

    def pids(self, container: str) -> list[int]:
        """Host pids of every process in the container."""
        output = self._captured(["ps", "--format", "json", container])
        try:
            return [int(pid) for pid in json.loads(output) or ()]
        except (ValueError, TypeError) as error:
            raise SupervisorError(f"{self.binary} ps printed no list of pids: {output[:200]!r}") from error

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        options = ["--root", self._root]
        # Without the folder no command would run for want of its log, and nothing could be ended or removed.
        if os.path.isdir(self._bundle):
            options += ["--log", self._log.path, "--log-format", "json"]
        options += ["--systemd-cgroup"] if self._options.systemd_cgroup else []
        return [self.binary, *options, *arguments]

    def _logged(
        self, failure: str, arguments: Sequence[str], descriptors: Mapping[int, int] | None = None
    ) -> None:
        """Run a command whose failure is told by the runtime's log; `failure` opens the error's text."""
        since = self._log.end()
        try:
            if descriptors is None:
                self._captured(arguments)
            else:
                self._check(self._spawn(arguments, descriptors), arguments[0], b"")
        except CommandFailed as error:
            raise CommandFailed(f"{failure}: {self._cause(since, error)}") from error
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{failure}: {error}") from error

    def _cause(self, since: int, error: CommandFailed) -> str:
        try:
            return self._log.last_error(since) or str(error)
        except OSError as unreadable:
            reason = f"open {self._log.path}: {(unreadable.strerror or '').lower()}"
            return f"unable to retrieve OCI runtime error ({reason}): {error}"

    def _captured(self, arguments: Sequence[str], stdin: bytes = b"") -> bytes:
        """Run a command and answer what it printed on stdout and stderr."""
        with ExitStack() as ours, ExitStack() as theirs:
            output, printed_to = os.pipe()
            ours.callback(os.close, output)
            theirs.callback(os.close, printed_to)
            streams = {1: printed_to, 2: printed_to}
            if stdin:
                streams[0] = _in_memory(stdin)
                theirs.callback(os.close, streams[0])
            child = self._spawn(arguments, streams)
            theirs.close()
            printed = _read_all(output)
            self._check(child, arguments[0], printed)
        return printed

    def _spawn(self, arguments: Sequence[str], descriptors: Mapping[int, int]) -> Child:
        env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        try:
            return spawn(self._argv(arguments), env=env, descriptors=descriptors)
        except FileNotFoundError:
            raise CommandFailed(_not_found(self.binary)) from None
        except OSError as error:
            raise CommandFailed(f'exec: "{self.binary}": {(error.strerror or str(error)).lower()}') from error

    def _check(self, child: Child, command: str, printed: bytes) -> None:
        """Wait for a command's end; raises CommandFailed, or DeadlineExceeded after killing it."""
        ended = child.wait(remaining())
        if ended is None:
            child.kill_group()
            raise DeadlineExceeded(f"{self.binary} {command} did not end in the time given, and was killed")
        if ended == 0:
            return
        text = f"{self.binary} did not terminate successfully: exit status {ended}"
        output = printed.decode(errors="replace").strip()
        raise CommandFailed(f"{text}: {output}" if output else text)


def _in_memory(content: bytes) -> int:
    """A file to read from that takes any length without somebody who reads."""
    descriptor = os.memfd_create("stdin")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read_all(descriptor: int) -> bytes:
    """What there is until the end, or until the time is up."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    pieces = []
    while poller.poll(_milliseconds(remaining())):
        piece = os.read(descriptor, _READ_SIZE)
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _kill_error(text: str) -> SupervisorError:
    lower = text.lower()
    if any(words in lower for words in _FINISHED):
        return NotFound("process already finished")
    if any(words in lower for words in _ABSENT):
        return NotFound("no such container")
    return SupervisorError(f"unknown error after kill: {text}")


def _not_found(binary: str) -> str:
    if "/" in binary:
        return f"fork/exec {binary}: no such file or directory"
    return f'exec: "{binary}": executable file not found in $PATH'
