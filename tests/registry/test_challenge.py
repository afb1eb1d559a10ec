"""What a registry wants to see: WWW-Authenticate, as registries write it and as strangers might."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.registry.challenge import Challenge, parse

BEARER = (
    'Bearer realm="https://auth.example/token",service="registry.example",'
    'scope="repository:a/b:pull,push",error="invalid_token"'
)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="tests"', [Challenge("basic", {"realm": "tests"})]),
        ("BASIC", [Challenge("basic")]),
        (
            BEARER,
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "registry.example",
                        "scope": "repository:a/b:pull,push",
                        "error": "invalid_token",
                    },
                )
            ],
        ),
        (
            'Bearer realm="r" , Service = x, Basic realm="a \\"b\\", c"',
            [
                Challenge("bearer", {"realm": "r", "service": "x"}),
                Challenge("basic", {"realm": 'a "b", c'}),
            ],
        ),
        ("Negotiate, Basic realm=x", [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        ("", []),
        (" , ,", []),
        ('Bearer realm="no end', [Challenge("bearer")]),
    ],
)
def test_what_is_read(header, found):
    assert parse(header) == found


def test_a_header_of_any_length_is_read_to_a_bound():
    assert len(parse("Basic a=b, " * 100_000)) < 1000


@given(st.text(max_size=300))
def test_nothing_is_too_strange(header):
    for challenge in parse(header):
        assert challenge.scheme == challenge.scheme.lower()
