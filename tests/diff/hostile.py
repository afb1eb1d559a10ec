"""Archives made to break out of the layer that they are unpacked to."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.diff.layers import Member, directory, link, member

DEEP = "/".join(["d" * 200] * 12)
UP = "../../../../../../../../../.."


def attacks(canary: Path) -> dict[str, list[Member]]:
    """Archives by what they try; `canary` is a folder on the host."""
    victim = str(canary / "file")
    return {
        "dots": [member(f"../canary/{n}") for n in ("file", "new")] + [member(f"{UP}{canary}/new")],
        "absolute": [member(victim, b"x"), member(f"/{UP}{canary}/new")],
        "through a link": [link("l", str(canary)), member("l/file", b"x"), member("l/new")],
        "through a relative link": [link("l", f"{UP}{canary}"), member("l/file", b"x")],
        "through two links": [link("a", ".."), link("b", "a/../canary"), member("b/file", b"x")],
        "over a link": [link("l", victim), member("l", b"x")],
        "hard link out": [link("h", victim, tarfile.LNKTYPE)],
        "hard link up": [link("h", f"{UP}{victim}", tarfile.LNKTYPE)],
        "hard link by a link": [
            link("l", str(canary)),
            link("h", "l/file", tarfile.LNKTYPE),
            member("h", b"x"),
        ],
        "mode by hard link": [link("l", victim), link("h", "l", tarfile.LNKTYPE), member("x")],
        "whiteout": [member("../canary/.wh.file"), link("l", str(canary)), member("l/.wh.file")],
        "opaque": [link("l", str(canary)), member("l/.wh..wh..opq")],
        "whiteout of dots": [member(".wh..")],
        "whiteout of more dots": [member(".wh...")],
        "whiteout of nothing": [member("d/.wh.")],
        "directory over a link": [link("l", str(canary)), directory("l", mode=0), member("l/new")],
        "proc": [link("l", "/proc/1/root"), member(f"l{victim}", b"x")],
        "link to itself": [link("l", "l"), member("l/x")],
        "links in a circle": [link("a", "b"), link("b", "a"), member("a/x")],
        "below a file": [member("f"), member("f/x")],
        "nul": [member("f", pax_headers={"path": "a\0b"})],
        "long": [member("x/" * 4000)],
        "long component": [member("n" * 300)],
        "long through links": [link("l", f"{DEEP}/l2"), link("l/l3", DEEP), member("l/l3/z")],
        "huge": [member("f", pax_headers={"size": str(2**62)})],
        "huge and sparse": [
            member("f", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**63 - 1)})
        ],
        "owner": [member("f", uid=2**32 - 1)],
        "negative owner": [member("f", pax_headers={"uid": "-1"})],
        "unknown type": [member("f", kind=b"Q")],
        "hard link to nothing": [link("h", "nothing", tarfile.LNKTYPE)],
        "hard link to the root": [link("h", "/", tarfile.LNKTYPE)],
        "setuid over a device": [
            member("d", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
            member("d", b"x"),
        ],
    }
