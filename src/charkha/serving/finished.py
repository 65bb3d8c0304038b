"""What became of a request, for those who listen: the access log and OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Headers


class Finished(NamedTuple):
    """A request that asked for predictions, once it is answered; nothing of its body is here."""

    id: str
    path: str
    headers: Headers  # with the API key in them, which no listener tells on
    status: int  # of HTTP
    seconds: float  # from its first byte to its answer
    model: str | None = None  # None, as what follows: it was refused before that was known
    version: int | None = None
    variant: str | None = None
    rows: int | None = None
    key: str | None = None  # id of the API key


Listener = Callable[[Finished], None]
"""Called on the event loop after the answer left; has to be quick, and raises nothing."""
