"""A supervisor in a process of its own, with parts that are small Python programs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

SUPERVISE = """
import asyncio, json, sys
from pathlib import Path
from charkha.supervision.parts import Part
from charkha.supervision.supervisor import Supervisor

def tell(event):
    print(json.dumps([event.kind, event.part, event.text, event.about]), flush=True)

parts = [
    Part(**{"command": (sys.executable, "-S", "-c", given.pop("code")), **given}, folder=Path.cwd())
    for given in json.loads(sys.argv[1])
]
print(json.dumps(["outcome", "", asyncio.run(Supervisor(parts, tell, lambda pids: None).run()), {}]))
"""
QUIET_S = 20.0  # that a test waits for an event at most; none is asserted to take less


class Supervised:
    """A supervisor that runs, and what it told."""

    def __init__(self, parts, folder):
        self.events, self._passed = [], []
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, json.dumps(parts)],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )

    def until(self, kind, part=None, text=""):
        """Wait for an event of this kind that was not returned before; return it."""
        for found in self._told():
            if found[0] == kind and part in (None, found[1]) and text in found[2]:
                self._passed.remove(found)
                return found
        raise AssertionError(f"no {kind} of {part}: {self.events}")

    def _told(self):
        yield from list(self._passed)
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            self._passed.append(self.events[-1])
            yield self.events[-1]

    def send(self, number):
        self.process.send_signal(number)

    def outcome(self):
        """Read to the end; return how it ended."""
        found = self.until("outcome")[2]
        assert self.process.wait(QUIET_S) == 0
        return found

    def pid(self, part):
        """Return the newest process of a part."""
        return [
            about["pid"] for kind, p, _, about in self.events if (kind, p) == ("starting", part)
        ][-1]

    def lines(self, part=None):
        return [text for kind, p, text, _ in self.events if kind == "line" and part in (None, p)]


@pytest.fixture
def supervise(tmp_path):
    begun = []

    def start(*parts):
        begun.append(Supervised([{"name": f"part{i}", **p} for i, p in enumerate(parts)], tmp_path))
        return begun[-1]

    yield start
    for one in begun:
        with contextlib.suppress(ProcessLookupError):
            one.send(signal.SIGTERM)
        try:
            one.process.wait(QUIET_S)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.process.stdout.close()


def is_there(pid):
    """Whether a process lives; one that only waits for its parent to take note does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")


@pytest.fixture
def gone():
    """Return what waits until none of some processes is there; those that stay fail the test."""

    def wait(*pids):
        until = time.monotonic() + QUIET_S
        left = list(pids)
        while left and time.monotonic() < until:
            time.sleep(0.05)
            left = [pid for pid in left if is_there(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert left == []

    return wait
