"""Processes of their own, which begin at once, as what they import is there; and killing them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent


class Zygote:
    """A process that forks others.

    Args:
        imported: modules that are there when they begin.
        launcher: a file to write that stands for Python in them: what they start is forked as well,
            and is found with `started`.
    """

    def __init__(self, *imported, launcher=None):
        self._launcher = launcher
        if launcher is not None:
            launcher.write_text(f"#!{sys.executable} -IS\n{(HERE / 'launcher.py').read_text()}")
            launcher.chmod(0o755)
            self._pids.mkdir()
        command = [sys.executable, str(HERE / "zygote.py"), str(launcher or ""), *imported]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "ready\n"

    def fork(self, **order):
        """Return the pid of a new process."""
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def started(self, module):
        """Return the pids of the processes of a module that others of ours have started and that run."""
        found = []
        for kept in self._pids.iterdir():
            if not runs(kept.name):
                kept.unlink()
            elif kept.read_text().startswith(f"-m {module} "):
                found.append(int(kept.name))
        return sorted(found)

    def close(self):
        self._process.communicate()

    @property
    def _pids(self):
        return Path(f"{self._launcher}.pids")


def kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def runs(pid):
    return Path(f"/proc/{pid}").exists()
