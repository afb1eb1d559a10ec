"""`sctr gc`: why something stays, what would go, and making it go."""

from __future__ import annotations

from dataclasses import asdict

from supervisor.cli import words
from supervisor.cli.context import Context
from supervisor.client.collection import Collected
from supervisor.model.instant import format_rfc3339

UNREACHABLE = "unreachable, goes at the next run"


async def explain(context: Context) -> int:
    """Show the path from a root to an object."""
    hops = await context.client.collection.explain(context.args.type, context.args.key)
    if context.as_json:
        context.document({"reachable": bool(hops), "hops": [asdict(hop) for hop in hops]})
    elif hops:
        context.table(("type", "key", "reason"), [asdict(hop) for hop in hops])
    else:
        print(UNREACHABLE)
    return 0


async def plan(context: Context) -> int:
    """Show what a run would remove."""
    made = await context.client.collection.plan()
    rows = [asdict(planned) for planned in made.objects]
    if context.as_json:
        expires = format_rfc3339(made.expires_at) if made.expires_at else None
        context.document({"id": made.id, "expires_at": expires, "size": made.size, "objects": rows})
        return 0
    if rows:
        shown = [row | {"size": words.size(int(str(row["size"])))} for row in rows]
        context.table(("namespace", "type", "key", "size"), shown)
    print(f"{len(rows)} objects, {words.size(made.size)}; remove exactly these with: sctr gc run {made.id}")
    return 0


async def run(context: Context) -> int:
    """Collect, all or a plan."""
    done = await context.client.collection.run(context.args.plan or "")
    context.answer(asdict(done), _in_words(done))
    return 0


def _in_words(done: Collected) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(done.removed.items())) or "nothing"
    seconds = done.mark_seconds + done.sweep_seconds
    return f"removed {counts}; {words.size(done.size)} freed in {seconds:.2f} s"
