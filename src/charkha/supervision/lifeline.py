"""The guard of a supervisor's processes: when it is killed, they are ended. A process of its own.

Run as a file. On stdin it hears `+GROUP` of a process group that has begun and `-GROUP` of one that
has ended. When nobody can write there any more the supervisor is gone, and so shall they be: `kill
-9` tells nobody else. A pipe does that on every POSIX system and for processes that are not ours.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

PATIENCE_S = 5.0  # between SIGTERM and SIGKILL
_LOOK_S = 0.05


def main(listening: int = 0) -> None:
    """Listen until the supervisor is gone; then end what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the supervisor, not before
    groups: dict[int, None] = {}
    rest = b""
    while data := os.read(listening, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line[:1] == b"+":
                groups[int(line[1:])] = None
            else:
                groups.pop(int(line[1:]), None)
    end(list(groups))


def end(groups: list[int]) -> None:
    """End process groups: SIGTERM, and SIGKILL to those that are still there after a while."""
    left = [group for group in groups if _send(group, signal.SIGTERM)]
    until = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < until:
        time.sleep(_LOOK_S)
        left = [group for group in left if _send(group, 0)]
    for group in left:
        _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> bool:
    """Send a signal to a group; whether there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    main()
