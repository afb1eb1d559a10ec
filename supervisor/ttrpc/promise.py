"""Results that are still to come, and coroutines that wait for them, in a process of one thread.

What asyncio would be asked for in the shim, without what it costs there: two megabytes for each
container. A loop settles promises; `begin` runs a coroutine from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Promise(Generic[T]):
    """Settled once, with a result or an error; whoever awaits it, or asked to be called, goes on at once."""

    __slots__ = ("_done", "_error", "_result", "_waiting")

    def __init__(self) -> None:
        self._done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[Callable[[Promise[T]], None]] = []

    def done(self) -> bool:
        """Whether it is settled."""
        return self._done

    def result(self) -> T:
        """What it was settled with; raises the error if it was one."""
        assert self._done, "not settled yet"
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def settle(self, result: T) -> None:
        """Give the result."""
        self._result = result
        self._end()

    def settle_once(self, _other: object = None) -> None:
        """Give no result, unless there is one; whatever called this is of no interest."""
        if not self._done:
            self._end()

    def fail(self, error: BaseException) -> None:
        """Give an error."""
        self._error = error
        self._end()

    def then(self, call: Callable[[Promise[T]], None]) -> None:
        """Have `call` called with this promise when it is settled, or now if it is."""
        if self._done:
            call(self)
        else:
            self._waiting.append(call)

    def forget(self, call: Callable[[Promise[T]], None]) -> None:
        """Undo `then`: a promise that is never settled would keep all who have ever asked."""
        if call in self._waiting:
            self._waiting.remove(call)

    def __await__(self) -> Generator[Promise[T], None, T]:
        if not self._done:
            yield self
        return self.result()

    def _end(self) -> None:
        assert not self._done, "settled twice"
        self._done = True
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call(self)


def begin(work: Coroutine[Promise[Any], None, T]) -> Promise[T]:
    """Run a coroutine up to its first unsettled promise, later on from there; its outcome is promised."""
    outcome: Promise[T] = Promise()
    _go_on(work, outcome)
    return outcome


def _go_on(work: Coroutine[Promise[Any], None, T], outcome: Promise[T]) -> None:
    try:
        awaited = work.send(None)
    except StopIteration as end:
        outcome.settle(end.value)
    # The border of the coroutine: its error is the promise's.
    except Exception as error:
        outcome.fail(error)
    else:
        awaited.then(lambda _: _go_on(work, outcome))


class Turns:
    """One after the other, in the order of asking: `async with` waits for those who came before."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[Promise[None]] = []

    async def __aenter__(self) -> None:
        if self._taken:
            turn: Promise[None] = Promise()
            self._waiting.append(turn)
            await turn
        self._taken = True

    async def __aexit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.pop(0).settle(None)
        else:
            self._taken = False
