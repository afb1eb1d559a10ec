"""Tell systemd how the daemon stands (man 3 sd_notify); does nothing outside of systemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one state line, such as READY=1 or STOPPING=1, to the service manager that started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall(state.encode())
