"""fstab words (contract tasks 5)."""

from supervisor.kernel import mount_options as o


def test_words_become_flags_and_unknown_ones_data() -> None:
    parsed = o.parse(["ro", "nosuid", "lowerdir=/a:/b", "volatile", ""])
    assert parsed.flags == o.MS_RDONLY | o.MS_NOSUID
    assert parsed.data == ("lowerdir=/a:/b", "volatile")


def test_the_later_word_wins() -> None:
    assert not o.parse(["ro", "rw"]).read_only
    assert o.parse(["rw", "ro"]).read_only
    assert o.parse(["ro", "rw"]).cleared == o.MS_RDONLY
    assert o.parse(["rw", "ro"]).cleared == 0


def test_propagation_and_loop_and_mappings_are_kept_apart() -> None:
    parsed = o.parse(["rbind", "rprivate", "loop", "uidmap=0:1:2", "gidmap=0:3:4", "defaults"])
    assert parsed.flags == o.MS_BIND | o.MS_REC
    assert parsed.propagation == (o.MS_PRIVATE | o.MS_REC,)
    assert (parsed.loop, parsed.uid_map, parsed.gid_map) == (True, "0:1:2", "0:3:4")
    assert parsed.id_mapped
    assert parsed.data == ()
