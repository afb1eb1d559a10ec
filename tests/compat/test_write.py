"""Content.Write: a blob in pieces, and what becomes of it when the client breaks off."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from supervisor.api.services.content.v1 import content_pb2 as pb
from supervisor.api.services.leases.v1 import leases_pb2 as leases
from tests.compat.api import Api, connected
from tests.compat.ctr import Ctr, eventually
from tests.compat.target import Target

DATA = bytes(range(256)) * 4096
HALF = len(DATA) // 2
LEASE = "held"  # what no lease holds, and nothing names, is collected
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


class Stream:
    """One Write call, message by message."""

    def __init__(self, api: Api) -> None:
        self._requests: queue.SimpleQueue[pb.WriteContentRequest | None] = queue.SimpleQueue()
        requests = iter(self._requests.get, None)
        self.call = api.content.Write(requests, metadata=api.metadata(LEASE), timeout=60)

    def send(self, action: Any, **fields: Any) -> pb.WriteContentResponse:
        """Send one message and return its answer."""
        self._requests.put(pb.WriteContentRequest(action=action, **fields))
        answer: pb.WriteContentResponse = next(self.call)
        return answer

    def refused(self, action: Any, **fields: Any) -> str:
        """The code that a message ends the stream with."""
        with pytest.raises(grpc.RpcError) as caught:
            self.send(action, **fields)
        return str(caught.value.code().name)

    def finish(self) -> None:
        """Say that nothing more comes, and read to the end."""
        self._requests.put(None)
        list(self.call)

    def break_off(self) -> None:
        """Cancel, as a client that dies does."""
        self.call.cancel()
        self._requests.put(None)


@contextmanager
def writing(api: Api) -> Iterator[Stream]:
    """A stream that is broken off at the end, unless it has ended."""
    if LEASE not in [lease.id for lease in api.call(api.leases.List, leases.ListRequest()).leases]:
        api.call(api.leases.Create, leases.CreateRequest(id=LEASE))
    stream = Stream(api)
    try:
        yield stream
    finally:
        stream.break_off()


def status(api: Api, ref: str = "mine") -> Any:
    """The state of an ingest."""
    return api.call(api.content.Status, pb.StatusRequest(ref=ref)).status


def test_pieces_make_a_blob(api: Api) -> None:
    with writing(api) as stream:
        first = stream.send(pb.WRITE, ref="mine", total=len(DATA), expected=DIGEST, data=DATA[:HALF])
        assert first.offset == HALF
        assert stream.send(pb.WRITE, offset=HALF, data=DATA[HALF:]).offset == len(DATA)
        done = stream.send(pb.COMMIT, offset=len(DATA), total=len(DATA), expected=DIGEST, labels={"a": "b"})
        assert (done.action, done.offset, done.digest) == (pb.COMMIT, len(DATA), DIGEST)
    info = api.call(api.content.Info, pb.InfoRequest(digest=DIGEST)).info
    assert (info.size, dict(info.labels)) == (len(DATA), {"a": "b"})
    read = api.call(api.content.Read, pb.ReadContentRequest(digest=DIGEST))
    assert b"".join(piece.data for piece in read) == DATA


def test_a_broken_write_is_resumed(api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", total=len(DATA), data=DATA[:HALF])
    assert (status(api).offset, status(api).total) == (HALF, len(DATA))
    assert eventually(lambda: open_when_free(api)).offset == HALF
    with writing(api) as stream:
        stream.send(pb.STAT, ref="mine", total=len(DATA))
        stream.send(pb.WRITE, offset=HALF, data=DATA[HALF:])
        assert stream.send(pb.COMMIT, offset=len(DATA), expected=DIGEST).digest == DIGEST


def test_an_unfinished_write_is_shown_as_active(ctr: Ctr, api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", total=len(DATA), data=DATA[:HALF])
        assert ctr.table("content", "active")[0][:2] == ["mine", "524.3kB"]
    eventually(lambda: open_when_free(api))
    api.call(api.content.Abort, pb.AbortRequest(ref="mine"))
    assert ctr.table("content", "active") == []


def open_when_free(api: Api) -> pb.WriteContentResponse | None:
    """What a new stream finds of the ingest, once the one before has let go of it."""
    with writing(api) as stream:
        try:
            found = stream.send(pb.STAT, ref="mine")
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return None
        stream.finish()
        return found


def test_a_killed_daemon_loses_nothing_of_a_write(own_target: Target, own_ctr: Ctr) -> None:
    with connected(own_ctr.address, own_ctr.namespace) as api, writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", total=len(DATA), data=DATA[:HALF])
        own_target.kill()
    own_target.start()
    with connected(own_ctr.address, own_ctr.namespace) as api, writing(api) as stream:
        assert stream.send(pb.STAT, ref="mine", total=len(DATA)).offset == HALF
        stream.send(pb.WRITE, offset=HALF, data=DATA[HALF:])
        assert stream.send(pb.COMMIT, offset=len(DATA), expected=DIGEST).digest == DIGEST
    assert own_ctr.table("content", "ls")[0][0] == DIGEST


def test_one_writer_at_a_time(api: Api) -> None:
    with writing(api) as first, writing(api) as second:
        first.send(pb.WRITE, ref="mine", data=b"x")
        assert second.refused(pb.STAT, ref="mine") == "UNAVAILABLE"


def test_a_first_message_names_the_ref(api: Api) -> None:
    with writing(api) as stream:
        assert stream.refused(pb.WRITE, data=b"x") == "INVALID_ARGUMENT"


def test_a_wrong_offset_is_out_of_range(api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", data=b"12345")
        assert stream.refused(pb.WRITE, offset=4, data=b"x") == "OUT_OF_RANGE"


def test_offset_zero_starts_over(api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", data=b"wrong")
        assert stream.send(pb.WRITE, offset=0, data=DATA[:10]).offset == 10


def test_a_commit_of_the_wrong_size_or_digest_can_be_repeated(api: Api) -> None:
    for wrong in ({"total": 3}, {"expected": f"sha256:{'0' * 64}"}):
        with writing(api) as stream:
            stream.send(pb.WRITE, ref="mine", data=DATA)
            assert stream.refused(pb.COMMIT, offset=len(DATA), **wrong) == "FAILED_PRECONDITION"
        assert status(api).offset == len(DATA)
        eventually(lambda: open_when_free(api))
    with writing(api) as stream:
        stream.send(pb.STAT, ref="mine")
        assert stream.send(pb.COMMIT, offset=len(DATA), expected=DIGEST).digest == DIGEST


def test_what_is_there_need_not_be_sent(api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", data=DATA)
        stream.send(pb.COMMIT, offset=len(DATA))
    with writing(api) as stream:
        assert stream.refused(pb.STAT, ref="other", expected=DIGEST) == "ALREADY_EXISTS"


def test_abort_forgets(api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", data=b"x")
    eventually(lambda: open_when_free(api))
    api.call(api.content.Abort, pb.AbortRequest(ref="mine"))
    assert api.refused(api.content.Status, pb.StatusRequest(ref="mine")).code == "NOT_FOUND"


def test_read_of_a_part(api: Api) -> None:
    with writing(api) as stream:
        stream.send(pb.WRITE, ref="mine", data=DATA)
        stream.send(pb.COMMIT, offset=len(DATA))
    read = api.call(api.content.Read, pb.ReadContentRequest(digest=DIGEST, offset=1000, size=2000))
    assert b"".join(piece.data for piece in read) == DATA[1000:3000]
    beyond = pb.ReadContentRequest(digest=DIGEST, offset=len(DATA) + 1)
    assert api.refused(api.content.Read, beyond).code == "OUT_OF_RANGE"
