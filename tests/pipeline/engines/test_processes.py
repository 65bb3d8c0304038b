"""An engine's run as a process of this machine."""

import contextlib
import time
from pathlib import Path

from charkha.pipeline.engines import processes
from charkha.pipeline.engines.contract import wait_for


def test_a_command_that_is_killed_leaves_nobody_of_its_group_behind(tmp_path):
    mark = tmp_path / "left"
    command = ["sh", "-c", 'sleep 300 & echo $! > "$1"; sleep 1; kill -KILL $$', "sh", str(mark)]
    handle = processes.start(command, tmp_path, cwd=tmp_path)
    wait_for(mark, 60)
    left = Path("/proc") / mark.read_text().strip()
    assert lives(left)
    until = time.monotonic() + 60
    while processes.state(handle).status == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    while lives(left):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert processes.state(handle).status == "failed"


def lives(process):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in (process / "stat").read_text()
    return False
