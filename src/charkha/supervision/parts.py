"""A part of a platform: what is run, when it is ready, and when it is ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process that is kept running."""

    name: str
    command: tuple[str, ...]  # anybody on this machine can read it: no secrets
    folder: Path  # where it runs
    variables: Mapping[str, str] = field(default_factory=dict)  # beside those that are there
    probe: str | None = None  # URL that answers 200 once it is ready; None: ready once started
    ends: int = 0  # parts with a lower one are ended before it
    patience_s: float = 10.0  # between SIGTERM and SIGKILL
    essential: bool = False  # without it everything ends


class Event(NamedTuple):
    """Something happened to a part, or to all of them."""

    kind: str  # "line" | "starting" | "ready" | "died" | "given-up" | "all-ready" | "stopping" | …
    part: str
    text: str  # for people
    about: Mapping[str, object]  # for programs; what JSON can hold


Tell = Callable[[Event], None]
