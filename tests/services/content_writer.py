"""A client that writes a part of a blob, says so, and never ends its stream: SOCKET REF, data on stdin."""

import sys
import time
from collections.abc import Iterator

import grpc

from supervisor.api.services.content.v1 import content_pb2 as pb
from supervisor.api.services.content.v1 import content_pb2_grpc as rpc


def messages() -> Iterator[pb.WriteContentRequest]:
    yield pb.WriteContentRequest(action=pb.WRITE, ref=sys.argv[2], data=sys.stdin.buffer.read())
    time.sleep(600)


if __name__ == "__main__":
    with grpc.insecure_channel(f"unix:{sys.argv[1]}") as channel:
        metadata = (("containerd-namespace", "blue"),)
        for answer in rpc.ContentStub(channel).Write(messages(), metadata=metadata):
            print(answer.offset, flush=True)
