"""Entry of `containerd-shim-oci-v2`: read the flags, do the action (containerd: pkg/shim, `Run`)."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence


def main() -> int:
    """Run one action of the shim; answers the exit code."""
    # Callers take stderr for part of the answer: a stray warning there would break every start.
    warnings.simplefilter("ignore")
    return act(sys.argv[1:])


def act(arguments: Sequence[str]) -> int:
    """Do what a command line asks for. Whatever goes wrong is one line on stderr."""
    from supervisor.errors import SupervisorError
    from supervisor.shimv2.runc.flags import parse

    try:
        flags = parse(arguments)
    except SupervisorError as error:
        sys.stderr.write(f"{error}\nusage: containerd-shim-oci-v2 [flags] start|delete\n")
        return 2
    try:
        if flags.version or flags.info:
            from supervisor.shimv2.runc import info

            info.info() if flags.info else info.version()
        elif flags.action == "start":
            from supervisor.shimv2.runc.start import start

            start(flags)
        elif flags.action == "delete":
            from supervisor.shimv2.runc.delete import delete

            delete(flags)
        elif flags.action == "launch":
            from supervisor.shimv2.runc.launcher import launch

            launch(act)
        else:
            raise SupervisorError(f"unknown action {flags.action!r}: start and delete are offered")
    except (SupervisorError, OSError) as error:
        sys.stderr.write(f"containerd-shim-oci-v2: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
