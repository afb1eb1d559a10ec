"""The command line around the daemon."""

import os
import subprocess
import sys


def test_who_reads_no_more_is_left_in_peace() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [f"{sys.prefix}/bin/container-supervisor", "config", "default"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")
