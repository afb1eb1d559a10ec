"""`sctr events`: what happens, as it happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from supervisor.cli.context import Context
from supervisor.client.events import Events, describe
from supervisor.model.event import Envelope
from supervisor.model.instant import format_rfc3339


async def show(context: Context) -> int:
    """Print events until interrupted; those of this namespace, unless all are wanted."""
    filters = context.args.filter or _own(context)
    async for envelope in _events(context.client.events, context.args.since, filters):
        value = _value(envelope)
        number = f"{envelope.sequence} " if envelope.sequence else ""
        text = (
            f"{number}{value['timestamp']} {envelope.namespace} {envelope.topic} {json.dumps(value['event'])}"
        )
        context.line(value, text)
    return 0


def _events(events: Events, since: int | None, filters: Sequence[str]) -> AsyncIterator[Envelope]:
    """Those behind a place in the journal, over restarts of the daemon too; or just those from now on."""
    return events.subscribe(filters) if since is None else events.follow(since, filters)


def _own(context: Context) -> list[str]:
    return [] if context.args.all else [f"namespace=={context.client.namespace}"]


def _value(envelope: Envelope) -> dict[str, object]:
    numbered = {"sequence": envelope.sequence} if envelope.sequence else {}
    return numbered | {
        "timestamp": format_rfc3339(envelope.timestamp),
        "namespace": envelope.namespace,
        "topic": envelope.topic,
        "type": envelope.event.type_url if envelope.event else None,
        "event": describe(envelope.event) if envelope.event else {},
    }
