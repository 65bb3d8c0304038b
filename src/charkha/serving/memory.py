"""Memory that models have left, given back to the machine.

The C library keeps what was freed for later. After a swap that is a whole model: measured with a
forest of 100 trees, a worker of 89 MB stayed at 245.
"""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def give_back() -> None:
    """Give back what is free; takes some milliseconds, in which other threads go on."""
    if _trim is not None:
        _trim(0)
