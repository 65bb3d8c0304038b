"""A server as processes on one core: started, timed until its first right answer, weighed, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_ONE_THREAD = dict.fromkeys(  # more threads than cores only disturb each other
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
_NOT_OURS = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "VIRTUAL_ENV"}


class Died(Exception):
    """A server that ended, or never answered; says the end of what it printed."""


class Server:
    """A running server and all processes that it started, pinned to the server's core."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        port: int,
        log: Path,
        told: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self.log = port, log
        self.started = time.perf_counter()
        with log.open("wb") as said:
            self._child = subprocess.Popen(
                ["taskset", "-c", str(SERVER_CORE), *command],
                cwd=folder,
                env={**environment(), **(told or {})},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def ask(self, request: bytes, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """Send one request over a connection of its own, and return status and body.

        Raises:
            OSError: no connection, or none that lasted.
        """
        with socket.create_connection(self.address, timeout=timeout_s) as connection:
            connection.sendall(request)
            said = b""
            while b"\r\n\r\n" not in said or len(said) < _whole(said):
                more = connection.recv(1 << 18)
                if not more:
                    break
                said += more
        head, found, body = said.partition(b"\r\n\r\n")
        if not found:
            raise ConnectionResetError("closed before an answer")
        return int(head[9:12]), body

    def wait(
        self, request: bytes, right: Callable[[int, bytes], bool], patience_s: float = 120.0
    ) -> float:
        """Return the seconds from the start to the first right answer.

        Raises:
            Died: it ended, or did not answer rightly in time.
        """
        last: tuple[int, bytes] | OSError | None = None
        while time.perf_counter() - self.started < patience_s:
            if self._child.poll() is not None:
                raise Died(f"ended with {self._child.returncode}: {self.said()}")
            try:
                status, body = last = self.ask(request)
            except OSError as e:
                last = e
            else:
                if right(status, body):
                    return time.perf_counter() - self.started
            time.sleep(0.01)
        raise Died(f"no right answer in {patience_s:.0f} s, the last was {last!r}: {self.said()}")

    def pss_mb(self) -> float:
        """Return the proportional set size of all its processes: a shared page counts once."""
        return sum(_pss_kb(pid) for pid in self.processes()) / 1024

    def cpu_s(self) -> float:
        """Return the processor time that its processes have used, those that ended included."""
        return sum(_ticks(pid) for pid in self.processes()) / _TICKS

    def processes(self) -> list[int]:
        """Return its process and all that descend from it, also those that lost their parent."""
        parents, sessions = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (stat := _stat(int(entry.name))):
                pid = int(entry.name)
                parents[pid], sessions[pid] = int(stat[1]), int(stat[3])
        found = {pid for pid, session in sessions.items() if session == self._child.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def said(self, most: int = 1500) -> str:
        """Return the end of what it printed."""
        return self.log.read_bytes()[-most:].decode(errors="replace").strip()

    def stop(self, patience_s: float = 15.0) -> None:
        """Ask it to end, then make it, with every process that it started."""
        family = self.processes()
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pid in set(family) & set(self.processes()) - {self._child.pid}:
            with _gone():
                os.kill(pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """Return what a server gets of ours: numerics on one thread, byte code kept."""
    return {k: v for k, v in os.environ.items() if k not in _NOT_OURS} | _ONE_THREAD


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stay_on(core: int) -> None:
    """Pin this process to a core.

    Raises:
        SystemExit: the machine has fewer than two.
    """
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0) and core == LOAD_CORE:
        raise SystemExit("this needs two processor cores: one for the server, one for the load")
    os.sched_setaffinity(0, {core})


def busy_s(core: int) -> float:
    """Return the seconds that a core has worked for processes, or was taken by the host."""
    lines = Path("/proc/stat").read_text().splitlines()
    fields = next(line.split() for line in lines if line.startswith(f"cpu{core} "))
    user, nice, system, steal = (int(fields[at]) for at in (1, 2, 3, 8))
    return (user + nice + system + steal) / _TICKS


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return


def _whole(said: bytes) -> int:
    head = said.partition(b"\r\n\r\n")[0].lower()
    length = head.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0]
    return len(head) + 4 + int(length) if length else len(said) + 1  # without one: to the end


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _ticks(pid: int) -> int:
    stat = _stat(pid)
    return sum(map(int, stat[11:15])) if stat else 0  # user, system; of children that ended


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
