"""Shims: the processes that keep containers while the daemon comes and goes (containerd: core/runtime/v2, pkg/shim).

Two sides that share only `bootstrap`: the daemon's (bundle, manager, client, tasks) and, in `runc`,
the shim process itself.
"""
