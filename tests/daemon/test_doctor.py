"""What the checks are told of the configuration."""

import tomllib

import pytest

from supervisor.daemon import config, doctor
from supervisor.doctor.finding import Verdict


def test_the_checks_go_by_the_configuration() -> None:
    text = """
        root = "/r"
        state = "/s"
        [grpc]
        address = "/s/d.sock"
        [snapshots]
        drivers = ["native"]
        [runtime.shims]
        "io.kata.v2" = "/opt/kata"
        [sockets.ci]
        path = "/s/ci.sock"
        mode = "0640"
        gid = 7
    """
    place = doctor.place_of(config.parse(tomllib.loads(text)))
    assert [str(path) for path in (place.root, place.state, place.address)] == ["/r", "/s", "/s/d.sock"]
    assert place.drivers == ("native",)
    assert place.runtimes == {"io.kata.v2": "/opt/kata"}
    (scoped,) = place.sockets
    assert (scoped.name, str(scoped.path), scoped.mode, scoped.uid, scoped.gid) == (
        "ci",
        "/s/ci.sock",
        0o640,
        -1,
        7,
    )


@pytest.mark.parametrize(
    "places", [{"address": "relative"}, {"root": "relative"}, {"address": "/" + "x" * 200}]
)
def test_what_serve_refuses_is_a_failure(places: dict[str, str]) -> None:
    wanted = {"root": None, "state": None, "address": None, "log_level": None} | places
    found = doctor._configured(config.override(config.Config(), **wanted), "")
    assert found.verdict is Verdict.FAILURE
    assert "absolute path" in found.seen
    assert doctor._configured(config.Config(), "").verdict is Verdict.OK
