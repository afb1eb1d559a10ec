"""Whom a container runs as: names of the image's user database as numbers (containerd: pkg/oci)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from supervisor.client import rootfs
from supervisor.errors import InvalidArgument, NotFound
from supervisor.model.mount import Mount
from supervisor.oci.runtime import User

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_MAX_ID = (1 << 31) - 1


def resolve(text: str, mounts: Sequence[Mount]) -> User:
    """The user that `user[:group]` means in the root that `mounts` make; root when empty.

    Two numbers are taken as they are; a number is never looked up as a name. A user brings the groups
    that list it, unless a group was given.
    """
    if not text:
        return User()
    name, colon, group = text.partition(":")
    if text.isascii() and name.isdigit() and group.isdigit():
        return User(_number(name), _number(group))
    uid, gid, login = _account(name, mounts)
    if colon:
        return User(uid, _group(group, mounts))
    return User(uid, gid, tuple(_memberships(login, gid, mounts)))


def _account(name: str, mounts: Sequence[Mount]) -> tuple[int, int, str]:
    """Number, group and login name of a user; a number that nobody has is fine."""
    wanted = _number(name) if name.isascii() and name.isdigit() else None
    for login, uid, gid in _rows(mounts, _PASSWD, 4):
        if (login == name) if wanted is None else (uid == str(wanted)):
            return _number(uid), _number(gid), login
    if wanted is None:
        raise NotFound(f"user {name!r} is not in {_PASSWD} of the image; give a number")
    return wanted, 0, ""


def _group(name: str, mounts: Sequence[Mount]) -> int:
    if name.isascii() and name.isdigit():
        return _number(name)
    for group, gid, _ in _rows(mounts, _GROUP, 3):
        if group == name:
            return _number(gid)
    raise NotFound(f"group {name!r} is not in {_GROUP} of the image; give a number")


def _memberships(login: str, primary: int, mounts: Sequence[Mount]) -> Iterator[int]:
    for _, gid, members in _rows(mounts, _GROUP, 4):
        if login and login in members.split(",") and _number(gid) != primary:
            yield _number(gid)


def _rows(mounts: Sequence[Mount], path: str, fields: int) -> Iterator[tuple[str, str, str]]:
    """First, third and fourth field of each row with enough fields."""
    for line in rootfs.read_file(mounts, path).decode(errors="replace").splitlines():
        row = line.strip().split(":")
        if len(row) >= fields and row[0] and row[2].isascii() and row[2].isdigit():
            yield row[0], row[2], row[3] if len(row) > 3 else ""


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID):
        raise InvalidArgument(f"user or group number {text[:40]!r} must lie between 0 and {_MAX_ID}")
    return int(text)
