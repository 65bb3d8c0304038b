"""Where a prediction comes from: the variant of the version of the model, and what that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Record = tuple[
    str,  # id, a UUIDv7
    int,  # when the request was received: unix µs
    int,  # latency, µs
    str | None,  # the id of the caller's API key
    dict[str, str] | None,  # entities
    tuple[object, ...],  # inputs, in the order of the signature
    object,  # the value: a number, a text, a truth value
    list[float] | None,  # probabilities, in the order of the classes
]
"""One prediction, as a lane has it when its batch is done."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A variant of a model that predicts, as it stands in a log before its first record."""

    model: str
    version: int
    variant: str
    role: Literal["live", "shadow"]
    inputs: tuple[Mapping[str, Any], ...]  # {"name": …, "type": …}, as a package's signature
    target: str
    classes: tuple[Any, ...] | None = None  # labels, in the order of the probabilities
