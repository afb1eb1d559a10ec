"""Blobs and ingests: records against files.

A record whose file is gone acts as absent and is whole again once the blob is written again, which every
pull does. It is kept where something refers to it: labels on it keep the layers that were unpacked, which
collection would take with it. One that nothing refers to is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from supervisor.content.local import LocalStore
from supervisor.errors import NotFound
from supervisor.metadata import content, edges, ingests
from supervisor.metadata.edges import Node
from supervisor.metadata.statements import driver
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace
from supervisor.recovery.findings import Finding, Report, Workshop
from supervisor.recovery.taking_up import matches

_USERS = """
    WITH RECURSIVE users(type, key) AS (
        VALUES ('content', :digest)
        UNION SELECT e.source_type, e.source_key FROM users u
            JOIN edges e ON e.namespace = :namespace AND e.target_type = u.type AND e.target_key = u.key
            WHERE e.kind NOT IN ('bref', 'root')
    )
    SELECT type, key FROM users WHERE NOT (type = 'content' AND key = :digest)
"""
MOST_NAMES = 3
"""How many images a message names."""


@dataclass(frozen=True, slots=True)
class _Users:
    """Who refers to a blob, by whatever many steps."""

    any: bool
    images: list[str]

    @property
    def advice(self) -> str:
        """What has a blob written again."""
        if not self.images:
            return "pull or write it again"
        more = " and others" * (len(self.images) > MOST_NAMES)
        return f"pull {', '.join(sorted(self.images)[:MOST_NAMES])}{more} again"


def blobs(connection: Connection, files: LocalStore, report: Report, *, deep: bool, kept: bool) -> None:
    """Look at every record and every file; files without records are left where they are `kept`."""
    sizes = {blob.digest: blob.size for blob in files.blobs()}
    recorded: dict[Digest, list[tuple[Namespace, int]]] = {}
    for namespace, digest, size in content.recorded_sizes(connection):
        recorded.setdefault(digest, []).append((namespace, size))
    report.looked_at |= {"blobs": len(sizes), "records of blobs": sum(map(len, recorded.values()))}
    for digest, records in sorted(recorded.items()):
        report.findings += _recorded(connection, files, digest, records, sizes.get(digest), deep=deep)
    if not kept:
        for digest in sorted(sizes.keys() - content.digests_in_use(connection)):
            report.findings.append(_unrecorded(files.blob_path(digest), f"blob {digest}"))


def writes(connection: Connection, files: LocalStore, report: Report, *, kept: bool) -> None:
    """Look at every ingest; folders without records are left where they are `kept`."""
    known = ingests.everywhere(connection)
    found = {status.ref: status for status in files.ingests()}
    report.looked_at["writes under way"] = len(known)
    for namespace, ref, shares in known:
        if shares is None and ingests.stored_ref(namespace, ref) not in found:
            report.findings.append(_empty_ingest(namespace, ref))
    if not kept:
        refs = {ingests.stored_ref(namespace, ref) for namespace, ref, _ in known}
        for ref in sorted(found.keys() - refs):
            report.findings.append(_unrecorded(files.ingest_path(ref), f"write under way {ref}"))


def _recorded(
    connection: Connection,
    files: LocalStore,
    digest: Digest,
    records: list[tuple[Namespace, int]],
    size: int | None,
    *,
    deep: bool,
) -> Iterator[Finding]:
    wrong = [(namespace, recorded) for namespace, recorded in records if recorded != size]
    if size is None:
        for namespace, _ in wrong:
            yield _lost(connection, namespace, digest)
    elif wrong:
        yield _damaged(connection, files, digest, records, f"has {size} bytes, not {wrong[0][1]}")
    elif deep and (problem := _unlike(files.blob_path(digest), digest)):
        yield _damaged(connection, files, digest, records, problem)


def _unlike(path: Path, digest: Digest) -> str:
    """Why a file is not what it is named after; empty when it is."""
    try:
        return "" if matches(path, digest) else "has bytes of another digest"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _lost(connection: Connection, namespace: Namespace, digest: Digest) -> Finding:
    name, users = f"blob {digest} of namespace {namespace}", _users(connection, namespace, digest)
    if users.any:
        return Finding(name, "its file is missing", then=users.advice)
    return Finding(
        name,
        "its file is missing, and nothing refers to it",
        plan="drop its record",
        mend=partial(_drop_record, namespace=namespace, digest=digest),
    )


def _drop_record(workshop: Workshop, namespace: Namespace, digest: Digest) -> str:
    workshop.database.write(partial(content.forget, namespace=namespace, digest=digest))
    return "dropped its record"


def _damaged(
    connection: Connection,
    files: LocalStore,
    digest: Digest,
    records: list[tuple[Namespace, int]],
    problem: str,
) -> Finding:
    users = [_users(connection, namespace, digest) for namespace, _ in records]
    images = sorted({name for one in users for name in one.images})
    return Finding(
        f"blob {digest} of namespace {', '.join(sorted(namespace for namespace, _ in records))}",
        f"its file {problem}",
        plan="set the file aside",
        then=_Users(any=True, images=images).advice,
        mend=partial(_set_aside, path=files.blob_path(digest), why=f"blob {digest}: it {problem}"),
    )


def _unrecorded(path: Path, name: str) -> Finding:
    return Finding(
        name,
        "no record of it is there",
        plan="set it aside before the daemon's next start removes it",
        mend=partial(_set_aside, path=path, why=f"{name}, which no record was of"),
    )


def _set_aside(workshop: Workshop, path: Path, why: str) -> str:
    return f"set aside as {workshop.aside.take(path, why)}"


def _empty_ingest(namespace: Namespace, ref: str) -> Finding:
    def drop(workshop: Workshop) -> str:
        with suppress(NotFound):
            workshop.database.write(partial(ingests.closed, namespace=namespace, ref=ref))
        return "dropped its record"

    name = f"write under way {ref} of namespace {namespace}"
    return Finding(name, "it has no bytes", plan="drop its record", mend=drop)


def _users(connection: Connection, namespace: Namespace, digest: Digest) -> _Users:
    rows = driver(connection).execute(_USERS, {"namespace": namespace, "digest": digest}).fetchall()
    users = [Node(namespace, type_, key) for type_, key in rows if type_ != edges.LEASE]
    return _Users(bool(users), [user.key for user in users if user.type == edges.IMAGE])
