"""Loading: order, failures, and what introspection is told."""

from contextlib import AsyncExitStack

import pytest

from supervisor.daemon.builtins import BUILTINS
from supervisor.daemon.config import Config
from supervisor.daemon.plugins import Context, Part, Plugin, load_all
from supervisor.errors import FailedPrecondition

HERE = "tests.daemon.test_plugins"


async def good(context: Context) -> Part:
    return Part(3.5, capabilities=("fast",))


async def bad(context: Context) -> Part:
    raise FailedPrecondition("no such kernel")


async def dependent(context: Context) -> Part:
    return Part([context.get(complex)])


async def test_failures_are_recorded_and_the_rest_is_loaded() -> None:
    async with AsyncExitStack() as stack:
        context = Context(Config(), stack)
        await load_all(
            [
                Plugin("t", "bad", f"{HERE}:bad"),
                Plugin("t", "dependent", f"{HERE}:dependent"),
                Plugin("t", "absent", f"{HERE}:nothing_of_that_name"),
                Plugin("t", "good", f"{HERE}:good"),
            ],
            context,
        )
    assert [record.id for record in context.records] == ["bad", "dependent", "absent", "good"]
    assert [record.error is None for record in context.records] == [False, False, False, True]
    assert context.get(float) == 3.5
    assert context.records[3].capabilities == ("fast",)
    assert list(context.of_type("t")) == ["good"]


async def test_without_an_essential_part_nothing_starts() -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(FailedPrecondition, match="no such kernel"):
            await load_all([Plugin("t", "bad", f"{HERE}:bad", essential=True)], Context(Config(), stack))


def test_builtins_have_distinct_names_and_existing_loaders() -> None:
    assert len({(plugin.type, plugin.id) for plugin in BUILTINS}) == len(BUILTINS)
