"""What a project has imported stays to the end: no garbage collection has to walk through it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.events import Event


class Freezer:
    """A listener that freezes what is there at the first event: what the project has imported."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, event: Event) -> None:
        if not self._done:
            gc.freeze()
        self._done = True
