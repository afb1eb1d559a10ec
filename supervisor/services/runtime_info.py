"""What a runtime can do, asked of its shim with `-info` (containerd: core/runtime/v2, `PluginInfo`).

Contract 12.1.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from supervisor.api.types.introspection_pb2 import RuntimeInfo, RuntimeRequest
from supervisor.blocking import in_thread
from supervisor.errors import InvalidArgument, SupervisorError, Unimplemented
from supervisor.shimv2.naming import shim_path

TIMEOUT = 10.0  # seconds; a shim answers within some tens of milliseconds
_REQUEST = RuntimeRequest.DESCRIPTOR.full_name


async def runtime_info(configured: Mapping[str, str], options: AnyMessage) -> AnyMessage:
    """The RuntimeInfo that a RuntimeRequest asks for; `configured` maps runtimes' names as for tasks.

    Raises Unimplemented for options of another type, SupervisorError when the shim cannot be asked.
    """
    if options.type_url.rpartition("/")[2] != _REQUEST:
        raise Unimplemented(f"plugin information for options of type {options.type_url!r}")
    try:
        request = RuntimeRequest.FromString(options.value)
    except DecodeError as error:
        raise SupervisorError(f"the options are no {_REQUEST}: {error}") from None
    answer = await in_thread(_ask, configured, request)
    return AnyMessage(type_url=answer.DESCRIPTOR.full_name, value=answer.SerializeToString())


def _ask(configured: Mapping[str, str], request: RuntimeRequest) -> RuntimeInfo:
    name = request.runtime_path
    try:
        binary = shim_path(name, configured)
        sent = request.options.SerializeToString() if request.HasField("options") else b""
        done = subprocess.run([binary, "-info"], input=sent, capture_output=True, timeout=TIMEOUT, check=True)
        return RuntimeInfo.FromString(done.stdout)
    except InvalidArgument as error:
        raise SupervisorError(f"information about runtime {name!r}: {error}") from None
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip()
        raise SupervisorError(f"information about runtime {name!r}: {binary} -info failed: {told}") from error
    except subprocess.TimeoutExpired as error:
        raise SupervisorError(f"information about runtime {name!r}: {binary} -info took too long") from error
    except (OSError, DecodeError) as error:
        raise SupervisorError(f"information about runtime {name!r} from {binary} -info: {error}") from error
