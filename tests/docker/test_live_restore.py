"""dockerd ends and starts again, alone or with the supervisor: with `live-restore` its containers go on."""

from __future__ import annotations

from pathlib import Path

from tests.compat.program import eventually
from tests.docker.conftest import IMAGE
from tests.docker.engine import Engine
from tests.docker.test_replaced import COUNT, UNTIL_GO, go, is_gone


def test_dockerd_ends_and_comes_back(live_engine: Engine) -> None:
    docker = live_engine.docker
    docker.detached("--name=counts", "--publish=18080:80", IMAGE, "sh", "-c", f"httpd -h /etc; {COUNT}")
    docker.detached("--name=ends", IMAGE, "sh", "-c", f"{UNTIL_GO}; echo bye; exit 7")
    docker.detached("--name=again", "--restart=always", IMAGE, "sh", "-c", f"{UNTIL_GO}; rm /go; exit 1")
    counts, ends, again = (docker.pid(name) for name in ("counts", "ends", "again"))
    for end, both in ((live_engine.stop, False), (live_engine.kill, False), (live_engine.kill, True)):
        end()
        if both:
            live_engine.target.kill()
            go(ends)
            go(again)
            eventually(lambda: is_gone(ends) and is_gone(again), what="the end of two containers")
            live_engine.target.start()
        live_engine.start()
        assert docker.pid("counts") == counts
        assert docker.out("exec", "counts", "echo", "still here") == "still here\n"
        page = "http://127.0.0.1:18080/changed"
        assert live_engine.world.out("busybox", "wget", "-qO-", page) == "above\n"
    docker.await_state("ends", "exited")
    assert docker.inspect("ends", "State.ExitCode") == 7
    eventually(lambda: docker.pid("again") not in (0, again), what="the next start")
    docker.run("stop", "--time=0", "counts")
    numbers = docker.logged("counts").split()
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    assert not Path(f"/proc/{counts}").exists()
