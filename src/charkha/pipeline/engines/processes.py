"""An engine's run as a process of this machine: started beside us, watched, and stopped.

It outlives whoever started it. Whether it lives is told by a lock that the kernel takes back when
its process ends, and how it ended by a file that this process writes last.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from charkha.pipeline.engines.port import EngineState, Handle
from charkha.pipeline.journal import is_locked, open_lock

_PATIENCE_S = 10.0  # between asking the command to stop and ending it
_LOCK_FD = 3
_PID = "engine.pid"
_STOPPED = 128 + signal.SIGTERM


def start(
    command: Sequence[str], folder: Path, *, cwd: Path, environment: Mapping[str, str] | None = None
) -> Handle:
    """Start a command whose output goes to `folder/engine.log`; return how to find it again.

    A folder has one command: who asks again, killed before it knew this one, finds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = open_lock(folder / "engine.lock")
    try:
        while True:
            with suppress(FileNotFoundError):  # it was started, and may have ended
                return {"pid": (folder / _PID).read_text(), "folder": str(folder)}
            with suppress(BlockingIOError):
                # Taken here and inherited, so that nobody can ask between the two whether it lives.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.05)  # it says in a moment what its number is
        out = (str(folder / "engine.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        pid = os.posix_spawn(  # nobody has to wait for it, as for a Popen
            sys.executable,
            [sys.executable, "-m", __name__, str(folder), str(cwd), *command],
            {**os.environ, "PATH": _path(), **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, *out),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
            ],
        )
    finally:
        os.close(lock)
    return {"pid": str(pid), "folder": str(folder)}


def state(handle: Handle) -> EngineState:
    """Return whether the command runs, and how it ended."""
    folder = Path(handle["folder"])
    if is_locked(folder / "engine.lock"):
        return EngineState(status="running")
    try:
        code = int((folder / "engine.exit").read_text())
    except (FileNotFoundError, ValueError):
        return EngineState(status="failed", because="its process ended without a word")
    if code == 0:
        return EngineState(status="finished")
    if code == _STOPPED:
        return EngineState(status="interrupted")
    return EngineState(status="failed", because=f"it ended with {code}: {_last_line(handle)}")


def log(handle: Handle) -> str:
    """Return what the command has said so far."""
    with suppress(FileNotFoundError):
        return (Path(handle["folder"]) / "engine.log").read_text(errors="replace")
    return ""


def cancel(handle: Handle) -> None:
    """Stop the command, and return when it has ended."""
    lock = Path(handle["folder"]) / "engine.lock"
    if is_locked(lock):  # so the number is still this process's
        with suppress(ProcessLookupError):
            os.kill(int(handle["pid"]), signal.SIGTERM)
    until = time.monotonic() + 2 * _PATIENCE_S
    while is_locked(lock) and time.monotonic() < until:
        time.sleep(0.05)


def _path() -> str:
    """Return where commands are found, `charkha` and `dvc` of this Python first."""
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])


def _last_line(handle: Handle) -> str:
    return next(reversed(log(handle).strip().splitlines()), "it said nothing")


def _main(folder: Path, cwd: Path, command: Sequence[str]) -> int:
    """Run the command, and write down how it ended."""
    os.setsid()  # Ctrl-C at the terminal is not for us
    os.set_inheritable(_LOCK_FD, False)  # the command may leave somebody behind
    _write(folder / _PID, str(os.getpid()))
    stopped = False
    child = subprocess.Popen(command, cwd=cwd, start_new_session=True)  # noqa: S603  # an engine's own

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        _signal(child, signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, lambda *_: _signal(child, signal.SIGKILL))
    code = child.wait()
    if code < 0:  # killed, and could end nobody that it had started
        _signal(child, signal.SIGKILL)
    _write(folder / "engine.exit", str(_STOPPED if stopped else code))
    return code


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text)
    partial.replace(file)


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)  # and whomever it has started


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
