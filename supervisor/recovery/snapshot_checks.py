"""Snapshots: rows against folders and parents.

A snapshot whose folder, or an ancestor's, is gone cannot be mounted, and as long as its row is there a pull
believes that it need not unpack again. Those that no container's data lies in are taken out, children
first, so that the next pull unpacks them anew; folders that are still there are set aside. What a
container is on stays, with all below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from sqlalchemy import Connection

from supervisor.metadata import snapshot_rules
from supervisor.metadata.snapshot_rows import READY, Place
from supervisor.metadata.statements import driver
from supervisor.model.identifiers import Namespace
from supervisor.recovery.findings import Finding, Report, Workshop
from supervisor.recovery.layout import Layout
from supervisor.snapshots.snapshotter import Kind

_ROWS = "SELECT id, namespace, snapshotter, key, parent_id, kind FROM snapshots WHERE state = ? ORDER BY id"
_NUMBERS = "SELECT id FROM snapshots WHERE snapshotter = ?"
_USERS = "SELECT namespace, snapshotter, snapshot_key, id FROM containers WHERE snapshot_key <> ''"
UNPACK_AGAIN = "pull its image again, which unpacks it anew"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    number: int
    place: Place
    key: str
    parent: int | None
    kind: Kind

    @property
    def name(self) -> str:
        return f'snapshot {self.number} "{self.key}" of {self.place.snapshotter} in {self.place.namespace}'


class _Tree:
    """All snapshots with what is wrong with each, and whether it can be taken out."""

    def __init__(
        self, found: list[_Snapshot], folders: Mapping[str, set[int]], users: Mapping[int, str]
    ) -> None:
        self.snapshots = {one.number: one for one in found}
        self._folders = folders
        self._users = users
        self._children: dict[int, list[int]] = {}
        for one in found:
            if one.parent is not None:
                self._children.setdefault(one.parent, []).append(one.number)

    def has_folder(self, one: _Snapshot) -> bool:
        return one.number in self._folders.get(one.place.snapshotter, set())

    @cached_property
    def broken(self) -> list[_Snapshot]:
        """Those that cannot be mounted, children before their parents."""
        broken: dict[int, _Snapshot] = {}
        for one in sorted(self.snapshots.values(), key=self._depth):
            lacks_parent = one.parent is not None and one.parent not in self.snapshots
            if lacks_parent or one.parent in broken or not self.has_folder(one):
                broken[one.number] = one
        return list(reversed(broken.values()))

    def _depth(self, one: _Snapshot) -> int:
        depth, seen = 0, {one.number}
        while one.parent in self.snapshots and one.parent not in seen:
            one = self.snapshots[one.parent]
            seen.add(one.number)
            depth += 1
        return depth

    def problem(self, one: _Snapshot) -> str:
        if not self.has_folder(one):
            return "its folder is missing"
        if one.parent is not None and one.parent not in self.snapshots:
            return f"its parent, snapshot {one.parent}, has no row"
        return "an ancestor of it has lost its folder"

    def holders(self, one: _Snapshot) -> list[str]:
        """What must go first: containers, and data of theirs, on it or on what builds on it."""
        mine = [f"container {self._users[one.number]}"] if one.number in self._users else []
        if not mine and one.kind is Kind.ACTIVE and self.has_folder(one):
            mine = [f'the active snapshot "{one.key}"']
        return mine + [
            holder
            for child in self._children.get(one.number, ())
            for holder in self.holders(self.snapshots[child])
        ]


def snapshots(connection: Connection, layout: Layout, report: Report, *, kept: bool) -> None:
    """Look at every row and every folder; folders without rows are left where they are `kept`."""
    tree = _tree(connection, layout)
    report.looked_at["snapshots"] = len(tree.snapshots)
    for one in tree.broken:
        report.findings.append(_broken(tree, one))
    if kept:
        return
    for name in layout.drivers():
        known = {number for (number,) in driver(connection).execute(_NUMBERS, (name,))}
        for number in sorted(layout.numbers(name) - known):
            report.findings.append(_folder_alone(layout, name, number))


def _tree(connection: Connection, layout: Layout) -> _Tree:
    rows = driver(connection).execute(_ROWS, (READY,)).fetchall()
    found = [
        _Snapshot(number, Place(Namespace(namespace), name), key, parent, Kind(kind))
        for number, namespace, name, key, parent, kind in rows
    ]
    by_key = {(one.place.namespace, one.place.snapshotter, one.key): one.number for one in found}
    users = {
        by_key[namespace, name, key]: container
        for namespace, name, key, container in driver(connection).execute(_USERS)
        if (namespace, name, key) in by_key
    }
    return _Tree(found, {name: layout.numbers(name) for name in layout.drivers()}, users)


def _broken(tree: _Tree, one: _Snapshot) -> Finding:
    holders = tree.holders(one)
    if holders:
        told = ", ".join(dict.fromkeys(holders))
        return Finding(one.name, tree.problem(one), then=f"remove {told}, then run fsck --repair again")
    there = tree.has_folder(one)
    return Finding(
        one.name,
        tree.problem(one),
        plan="set its folder aside and drop its row" if there else "drop its row",
        then=UNPACK_AGAIN if one.kind is Kind.COMMITTED else "",
        mend=partial(_take_out, one=one, there=there),
    )


def _take_out(workshop: Workshop, one: _Snapshot, there: bool) -> str:
    """The folder first: a row without one is found again, a folder without a row is deleted at start."""
    done = "dropped its row"
    if there:
        folder = workshop.layout.snapshot(one.place.snapshotter, one.number)
        done = f"set aside as {workshop.aside.take(folder, one.name)}; {done}"
    forget = partial(snapshot_rules.forget, place=one.place, key=one.key, number=one.number)
    workshop.database.write(forget)
    return done


def _folder_alone(layout: Layout, name: str, number: int) -> Finding:
    def set_aside(workshop: Workshop) -> str:
        why = f"snapshot {number} of {name}, which no row was of"
        return f"set aside as {workshop.aside.take(layout.snapshot(name, number), why)}"

    return Finding(
        f"folder of snapshot {number} of {name}",
        "no row of it is there",
        plan="set it aside before the daemon's next start deletes it",
        mend=set_aside,
    )
