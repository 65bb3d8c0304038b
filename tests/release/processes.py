"""Controllers in processes of their own, which begin at once, as what they import is there."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class Zygote:
    """A process that forks controllers."""

    def __init__(self, *imported):
        command = [sys.executable, str(Path(__file__).with_name("zygote.py")), *imported]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "ready\n"

    def fork(self, **order):
        """Return the pid of a new controller."""
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


def kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def runs(pid):
    return Path(f"/proc/{pid}").exists()
