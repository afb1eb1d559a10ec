import os
import stat

import pytest

from supervisor.client.rootfs import MAX_FILE_BYTES, read_file
from supervisor.client.users import resolve
from supervisor.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from supervisor.model.mount import Mount
from supervisor.oci.runtime import User

PASSWD = "root:x:0:0:root:/:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n1000:x:7:7::/:/bin/sh\nbroken\n"
GROUP = "root:x:0:\nwheel:x:10:root,alice\nusers:x:1001:alice\nhuge:x:99999999999:alice2\n"


@pytest.fixture
def layers(tmp_path):
    for name in ("top", "middle", "bottom"):
        (tmp_path / name / "etc").mkdir(parents=True)
    (tmp_path / "bottom" / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "bottom" / "etc" / "group").write_text(GROUP)
    return tmp_path


def overlay(layers):
    lower = f"lowerdir={layers}/middle:{layers}/bottom"
    return [Mount("overlay", "overlay", (f"upperdir={layers}/top", f"workdir={layers}/work", lower))]


def test_the_topmost_file_counts(layers):
    assert read_file(overlay(layers), "/etc/passwd") == PASSWD.encode()
    (layers / "middle" / "etc" / "passwd").write_text("new")
    assert read_file(overlay(layers), "/etc/passwd") == b"new"


def test_a_bind_mount_is_one_folder(layers):
    assert read_file([Mount("bind", f"{layers}/bottom")], "/etc/passwd") == PASSWD.encode()
    assert read_file([Mount("bind", f"{layers}/top")], "/etc/passwd") == b""


def test_nowhere_is_empty(layers):
    assert read_file(overlay(layers), "/etc/shadow") == b""
    assert read_file(overlay(layers), "/nowhere/at/all") == b""


@pytest.mark.root
def test_a_whiteout_hides_what_is_below(layers):
    os.mknod(layers / "middle" / "etc" / "passwd", stat.S_IFCHR, 0)
    assert read_file(overlay(layers), "/etc/passwd") == b""


@pytest.mark.root
def test_an_opaque_folder_hides_what_is_below(layers):
    try:
        os.setxattr(layers / "middle" / "etc", "trusted.overlay.opaque", b"y")
    except OSError:
        pytest.skip("this file system keeps no trusted attributes")
    assert read_file(overlay(layers), "/etc/passwd") == b""


@pytest.mark.parametrize("name", ["passwd", "."])
def test_links_are_not_followed(layers, tmp_path, name):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "passwd").write_text("root:x:0:0::/:")
    etc = layers / "top" / "etc"
    if name == ".":
        etc.rmdir()
        etc.symlink_to(secret)
    else:
        (etc / name).symlink_to(secret / "passwd")
    with pytest.raises(FailedPrecondition, match="numbers"):
        read_file(overlay(layers), "/etc/passwd")


def test_a_fifo_does_not_hang(layers):
    os.mkfifo(layers / "top" / "etc" / "passwd")
    with pytest.raises(FailedPrecondition):
        read_file(overlay(layers), "/etc/passwd")


def test_a_huge_file_is_refused(layers):
    (layers / "top" / "etc" / "passwd").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ResourceExhausted):
        read_file(overlay(layers), "/etc/passwd")


def test_unknown_mounts_are_refused():
    with pytest.raises(FailedPrecondition, match="erofs"):
        read_file([Mount("erofs", "/x"), Mount("overlay", "overlay")], "/etc/passwd")


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User()),
        ("root", User(0, 0, (10,))),
        ("alice", User(1000, 1001, (10,))),
        ("1000", User(1000, 1001, (10,))),
        ("1000:5", User(1000, 5)),
        ("alice:wheel", User(1000, 10)),
        ("alice:5", User(1000, 5)),
        ("4242", User(4242, 0)),
    ],
)
def test_users_are_resolved_in_the_image(layers, text, user):
    assert resolve(text, overlay(layers)) == user


@pytest.mark.parametrize("text", ["bob", "alice:nobody"])
def test_unknown_names_are_said_so(layers, text):
    with pytest.raises(NotFound, match="give a number"):
        resolve(text, overlay(layers))


@pytest.mark.parametrize("text", ["99999999999", "4294967296:0"])
def test_numbers_have_bounds(layers, text):
    with pytest.raises(InvalidArgument):
        resolve(text, overlay(layers))


def test_two_numbers_need_no_look_into_the_root():
    assert resolve("5:6", [Mount("erofs", "/nowhere")]) == User(5, 6)
