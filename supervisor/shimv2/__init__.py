"""Shims: processes that keep containers while daemons come and go (containerd: core/runtime/v2, pkg/shim).

Two sides that share only `bootstrap`: the daemon's (bundle, manager, client, tasks) and, in `runc`,
the shim process itself.
"""
