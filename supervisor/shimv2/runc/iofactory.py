"""Which kind of streams a request asks for (containerd: process/io.go, `createIO`).

The terminal flag decides, then the form of the stdout path alone; stderr's is never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.reaper import Reaper
from supervisor.shimv2.runc.stdio import FileIO, PipeIO, ProcessIO, StdioPaths

_LOGGERS = ("binary", "binary-v2")


@dataclass(frozen=True, slots=True)
class IOFactory:
    """Makes the streams of one container's processes."""

    loop: Loop
    reaper: Reaper
    namespace: str
    owner: tuple[int, int]
    drops: bool = False
    """Whether output that nobody reads is dropped, after a while, in place of stopping the process."""

    def make(self, paths: StdioPaths, process_id: str) -> ProcessIO:
        """The streams for one process; raises SupervisorError. The rarer kinds are imported when needed."""
        scheme = _scheme_of(paths.stdout)
        if scheme in _LOGGERS:
            return self._logged(paths, process_id)
        if paths.terminal:
            return self._terminal(paths)
        match scheme:
            case "" if paths.stdin or paths.stdout or paths.stderr:
                return PipeIO(self.loop, paths, self.owner, drops=self.drops)
            case "":
                return ProcessIO()
            case "file":
                return self._file(paths)
        raise SupervisorError(f"unknown STDIO scheme {scheme}")

    def _file(self, paths: StdioPaths) -> ProcessIO:
        if "?" in paths.stdout:
            from supervisor.shimv2.runc.logoptions import log_options

            options = log_options(paths.stdout)
            if options is not None:
                from supervisor.shimv2.runc.logio import LogIO

                return LogIO(self.loop, paths, self.owner, options)
        return FileIO(self.loop, paths, self.owner)

    def _terminal(self, paths: StdioPaths) -> ProcessIO:
        from supervisor.shimv2.runc.terminal import TerminalIO

        return TerminalIO(self.loop, paths, drops=self.drops)

    def _logged(self, paths: StdioPaths, process_id: str) -> ProcessIO:
        from supervisor.shimv2.runc.logger import LoggedTerminalIO, LoggerCommand, LoggerIO

        command = LoggerCommand(paths.stdout, process_id, self.namespace)
        if paths.terminal:
            return LoggedTerminalIO(self.loop, paths, command, self.reaper)
        return LoggerIO(command, self.reaper)


def _scheme_of(path: str) -> str:
    scheme, separator, _ = path.partition("://")
    return scheme if separator else ""
