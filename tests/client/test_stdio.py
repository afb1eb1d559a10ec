import asyncio
import os

import pytest

from supervisor.client.stdio import attached, fifos, remove_fifos
from supervisor.client.tasks import Streams
from supervisor.errors import FailedPrecondition, NotFound


def test_output_comes_through_and_ends_when_the_writers_have(tmp_path):
    async def scenario():
        async with fifos(tmp_path / "f") as ends:
            for path, data in ((ends.streams.stdout, b"to stdout"), (ends.streams.stderr, b"to stderr")):
                writer = os.open(path, os.O_WRONLY)
                os.write(writer, data)
                os.close(writer)
            return await ends.stdout.read(), await ends.stderr.read()

    assert asyncio.run(scenario()) == (b"to stdout", b"to stderr")
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_end_before_somebody_has_written(tmp_path):
    async def scenario():
        async with fifos(tmp_path / "f") as ends:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ends.stdout.read(1), 0.05)

    asyncio.run(scenario())


def test_a_terminal_has_one_stream(tmp_path):
    async def scenario():
        async with fifos(tmp_path / "f", stdin=True, terminal=True) as ends:
            assert ends.streams.terminal
            assert ends.streams.stderr == ""
            assert ends.stderr is None
            assert os.path.exists(ends.streams.stdin)  # noqa: ASYNC240

    asyncio.run(scenario())


def test_input_larger_than_a_pipe_arrives_whole_and_ends(tmp_path):
    data = os.urandom(300_000)

    def read_all(path):
        with open(path, "rb") as stdin:
            return stdin.read()

    async def scenario():
        async with fifos(tmp_path / "f", stdin=True) as ends:
            reading = asyncio.create_task(asyncio.to_thread(read_all, ends.streams.stdin))
            await ends.stdin.write(data)
            await ends.stdin.drained()
            ends.stdin.close()
            return await reading

    assert asyncio.run(scenario()) == data


def test_fifos_can_be_kept_and_attached_to_again(tmp_path):
    async def scenario():
        async with fifos(tmp_path / "f", keep=True) as ends:
            streams = ends.streams
        # The shim's way: it holds both ends, so nothing is lost between two clients.
        held = os.open(streams.stdout, os.O_RDWR)
        os.write(held, b"written while nobody listened")
        async with attached(streams) as again:
            data = await again.stdout.read(100)
        os.close(held)
        remove_fifos(streams)
        return data

    assert asyncio.run(scenario()) == b"written while nobody listened"
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_made_here_is_removed(tmp_path):
    other = tmp_path / "fifo"
    os.mkfifo(other)
    file = tmp_path / "io-x" / "stdout"
    file.parent.mkdir()
    file.write_text("data")
    remove_fifos(Streams(str(other), str(file), "file:///etc/passwd"))
    assert other.exists()
    assert file.exists()


def test_attaching_to_a_log_or_to_what_is_gone_says_why(tmp_path):
    async def attach(streams):
        async with attached(streams):
            pass

    with pytest.raises(FailedPrecondition, match="file:///log"):
        asyncio.run(attach(Streams(stdout="file:///log")))
    with pytest.raises(NotFound, match="deleted"):
        asyncio.run(attach(Streams(stdout=str(tmp_path / "none"))))
