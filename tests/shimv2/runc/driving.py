"""The shim's binary, driven as a daemon drives it: bundles, `start`, ttrpc, and a collector of events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from supervisor.api.events import task_pb2 as events
from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.services.ttrpc.events.v1 import events_pb2
from supervisor.api.types import event_pb2, mount_pb2
from supervisor.api.types.runc.options import oci_pb2
from supervisor.kernel.mounts import unmount_recursive
from supervisor.shimv2.bootstrap import BootstrapParams, encode_params, parse_answer
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.start import _bound
from supervisor.ttrpc.calls import Call, Method
from supervisor.ttrpc.looped import Server
from tests.ttrpc.client import Client

SHIM = str(Path(sys.executable).with_name("containerd-shim-oci-v2"))
TASK = "containerd.task.v3.Task"
PATIENCE = 20.0  # seconds until a test gives up waiting for a condition

M = TypeVar("M", bound=Message)

APPLETS = ("sh", "ls", "cat", "echo", "sleep", "true", "seq", "head", "yes", "tty", "stty", "kill")


def eventually(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Poll until `condition` answers something true, and answer that."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.01)
    return found


class Listening:
    """A loop in a thread of its own; what is given to `within` runs in it."""

    def __init__(self) -> None:
        self.loop = Loop().open()
        self._thread = threading.Thread(target=self.loop.run, daemon=True)
        self._thread.start()

    def within(self, function: Callable[[], None]) -> None:
        """Run in the loop's thread and wait for the end of it."""
        done = threading.Event()

        def run() -> None:
            function()
            done.set()

        self.loop.call(run)
        assert done.wait(PATIENCE)

    def end(self) -> None:
        self.loop.stop()
        self._thread.join(PATIENCE)
        self.loop.close()


class Events:
    """A daemon's socket for events, which can go away and come back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[event_pb2.Envelope] = []
        self.metadata: list[dict[str, tuple[str, ...]]] = []
        self._listening: Listening | None = None
        self._server: Server | None = None
        self.listen()

    def listen(self) -> None:
        """Serve at the path."""
        self._listening = Listening()
        methods = {"Forward": Method(events_pb2.ForwardRequest, self._forward)}
        services = {"containerd.services.events.ttrpc.v1.Events": methods}
        listener = _bound(str(self.path))

        def serve() -> None:
            assert self._listening is not None
            self._server = Server(services, self._listening.loop)
            self._server.listen(listener)

        self._listening.within(serve)

    def vanish(self) -> None:
        """End as a daemon does that is killed: connections break, the socket's file stays or goes."""
        if self._listening is not None and self._server is not None:
            self._listening.within(self._server.close)
            self._listening.end()
            self._listening = None
            self.path.unlink()

    def topics(self) -> list[str]:
        return [one.topic.removeprefix("/tasks/") for one in self.received]

    def decoded(self) -> list[Message]:
        return [_decode(one) for one in self.received]

    def wait_for(self, *topics: str) -> None:
        """Wait until exactly these have come, in this order."""
        eventually(lambda: len(self.received) >= len(topics), f"{topics}, only {self.topics()}")
        assert self.topics() == list(topics), self.topics()

    def _forward(self, request: events_pb2.ForwardRequest, call: Call) -> Empty:
        self.received.append(request.envelope)
        self.metadata.append(dict(call.metadata))
        return Empty()


def _decode(envelope: event_pb2.Envelope) -> Message:
    name = envelope.event.type_url.removeprefix("containerd.events.")
    message: Message = getattr(events, name).FromString(envelope.event.value)
    return message


def spec(
    args: list[str], *, terminal: bool = False, group: str = "", private_pids: bool = True
) -> dict[str, Any]:
    """An OCI spec that runs `args` in the bundle's rootfs."""
    kinds = ["mount", "ipc", "uts", *(["pid"] if private_pids else [])]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": {"path": "rootfs"},
        "annotations": {"io.containerd.runc.v2.group": group} if group else {},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {"namespaces": [{"type": kind} for kind in kinds]},
    }


@dataclass
class Stdio:
    """A client's fifos, its read ends opened before the shim is asked, as clients do."""

    folder: Path
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    _collected: dict[str, bytearray] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def with_fifos(self, *names: str) -> Stdio:
        """Make fifos for `names`; outputs are read to their end in threads."""
        for name in names:
            path = str(self.folder / f"{name}-{uuid4().hex[:6]}")
            os.mkfifo(path, 0o700)
            setattr(self, name, path)
            if name != "stdin":
                self._collect(name, path)
        return self

    def output(self, name: str = "stdout") -> bytes:
        """All of an output, once it has ended."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{name} has not ended"
        return bytes(self._collected[name])

    def so_far(self, name: str = "stdout") -> bytes:
        return bytes(self._collected[name])

    def _collect(self, name: str, path: str) -> None:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        found = self._collected[name] = bytearray()

        def run() -> None:
            # A blocking open first: without it there is no writer yet, and reading would end at once.
            with open(path, "rb", buffering=0) as again:
                os.close(reader)
                while data := again.read(1 << 16):
                    found.extend(data)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)


class Shim:
    """One shim process, reached over its socket, and the bundles of its containers."""

    namespace = "shimtest"

    def __init__(self, folder: Path, rootfs: Path, sink: Events) -> None:
        self.folder = folder
        self.rootfs = rootfs
        self.sink = sink
        self.runtime_root = folder / "runtime"
        self.pids: set[int] = set()
        self.client: Client | None = None
        self.address = ""
        self._clients: list[Client] = []

    def bundle(self, container: str, config: dict[str, Any]) -> Path:
        path = self.folder / "b" / container
        (path / "rootfs").mkdir(parents=True)
        config["linux"]["cgroupsPath"] = f"/{self.folder.name}-{container}"
        (path / "config.json").write_text(json.dumps(config))
        return path

    def run_binary(
        self, container: str, action: str, *flags: str, stdin: bytes = b"", **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run an action of the binary as a daemon would, with the bundle as its folder."""
        argv = [SHIM, "-namespace", self.namespace, "-address", str(self.folder / "d.sock"), "-id", container]
        return subprocess.run(
            [*argv, *flags, action],
            cwd=self.folder / "b" / container,
            input=stdin,
            capture_output=True,
            env={**os.environ, "TTRPC_ADDRESS": str(self.sink.path), **env},
            timeout=PATIENCE,
        )

    def params(self, container: str) -> bytes:
        return encode_params(
            BootstrapParams(
                instance_id=container,
                namespace=self.namespace,
                ttrpc_address=str(self.sink.path),
                socket_dir=str(self.folder / "s"),
            )
        )

    def start(self, container: str) -> str:
        """Run `start` and connect; answers the address."""
        done = self.run_binary(container, "start", stdin=self.params(container))
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        self.connect(parse_answer(done.stdout).address, container)
        return self.address

    def connect(self, address: str, container: str) -> None:
        """Call on the shim at `address` from now on."""
        self.address = address
        self.client = Client(address)
        self._clients.append(self.client)
        self.pids.add(self.call("Connect", task.ConnectRequest(id=container), task.ConnectResponse).shim_pid)

    def call(
        self,
        method: str,
        request: Message,
        kind: type[M],
        *,
        service: str = TASK,
        timeout: float | None = 30.0,
    ) -> M:
        assert self.client is not None
        return self.client.call(service, method, request, kind, timeout=timeout)

    def options(self, **changed: Any) -> AnyMessage:
        value = oci_pb2.Options(root=str(self.runtime_root), **changed)
        return AnyMessage(type_url=value.DESCRIPTOR.full_name, value=value.SerializeToString())

    def create(
        self, container: str, stdio: Stdio | None = None, *, terminal: bool = False, **options: Any
    ) -> int:
        """Create with the rootfs bound into the bundle; answers the pid of init."""
        bound = mount_pb2.Mount(type="bind", source=str(self.rootfs), options=["rbind", "ro"])
        request = task.CreateTaskRequest(
            id=container,
            bundle=str(self.folder / "b" / container),
            rootfs=[bound],
            terminal=terminal,
            stdin=stdio.stdin if stdio else "",
            stdout=stdio.stdout if stdio else "",
            stderr=stdio.stderr if stdio else "",
            options=self.options(**options),
        )
        return self.call("Create", request, task.CreateTaskResponse).pid

    def begin(self, container: str, args: list[str], stdio: Stdio | None = None, **kinds: Any) -> int:
        """Bundle, start of the shim, Create and Start at one go."""
        options = kinds.pop("options", {})
        self.bundle(container, spec(args, **kinds))
        self.start(container)
        pid = self.create(container, stdio, terminal=kinds.get("terminal", False), **options)
        self.start_process(container)
        return pid

    def start_process(self, container: str, exec_id: str = "") -> int:
        return self.call("Start", task.StartRequest(id=container, exec_id=exec_id), task.StartResponse).pid

    def exec(
        self, container: str, exec_id: str, args: list[str], stdio: Stdio | None = None, **more: Any
    ) -> None:
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        request = task.ExecProcessRequest(
            id=container,
            exec_id=exec_id,
            stdin=stdio.stdin if stdio else "",
            stdout=stdio.stdout if stdio else "",
            stderr=stdio.stderr if stdio else "",
            spec=AnyMessage(type_url="any", value=json.dumps(process).encode()),
            **more,
        )
        self.call("Exec", request, Empty)

    def wait(self, container: str, exec_id: str = "") -> task.WaitResponse:
        return self.call("Wait", task.WaitRequest(id=container, exec_id=exec_id), task.WaitResponse)

    def state(self, container: str, exec_id: str = "") -> task.StateResponse:
        return self.call("State", task.StateRequest(id=container, exec_id=exec_id), task.StateResponse)

    def kill(
        self, container: str, signal_number: int = signal.SIGKILL, exec_id: str = "", **more: Any
    ) -> None:
        request = task.KillRequest(id=container, exec_id=exec_id, signal=signal_number, **more)
        self.call("Kill", request, Empty)

    def delete(self, container: str, exec_id: str = "") -> task.DeleteResponse:
        return self.call("Delete", task.DeleteRequest(id=container, exec_id=exec_id), task.DeleteResponse)

    def close_stdin(self, container: str, exec_id: str = "") -> None:
        self.call("CloseIO", task.CloseIORequest(id=container, exec_id=exec_id, stdin=True), Empty)

    def shutdown(self, container: str) -> None:
        self.call("Shutdown", task.ShutdownRequest(id=container), Empty)

    def end(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        for client in self._clients:
            client.close()
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for bundle in (self.folder / "b").glob("*"):
            root = str(self.runtime_root / self.namespace)
            subprocess.run(["runc", "--root", root, "delete", "--force", bundle.name], capture_output=True)
            eventually(lambda bundle=bundle: _unmounted(bundle / "rootfs"), f"the unmounting of {bundle}")


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there; `os.path.ismount` does not see binds within one filesystem."""
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _unmounted(path: Path) -> bool:
    try:
        unmount_recursive(path)
    except OSError:
        return False
    return True
