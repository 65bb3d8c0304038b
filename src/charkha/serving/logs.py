"""What a server logs: JSON lines, or text on a terminal; never an input, never a key.

The text of an exception can hold a caller's row («could not convert 'Smith' to float»), so of most
exceptions the log has the types and the places in the code alone. The texts of our own errors that
speak of no row are kept, and those of the operating system.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING, TextIO

from charkha.clock import of_day
from charkha.errors import CharkhaError, DataError

if TYPE_CHECKING:
    from types import TracebackType

    from charkha.serving.finished import Finished, Listener

_FIELDS = "charkha"  # where a log record has what an event is about
_ACCESS = logging.getLogger("charkha.access")
_ErrorInfo = tuple[type[BaseException], BaseException, "TracebackType | None"]


def log_to_stderr(form: str = "auto", *, debug: bool = False, stream: TextIO | None = None) -> None:
    """Send what is logged in this process to stderr: ours from INFO on, of others the warnings.

    Args:
        form: [serving] log: "json", "text", or "auto", which is text on a terminal.
        debug: with the texts of all exceptions, which may hold inputs, and ours from DEBUG on.
        stream: instead of stderr.
    """
    stream = stream or sys.stderr
    text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter((_Text if text else _Json)(texts=debug))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("charkha").setLevel(logging.DEBUG if debug else logging.INFO)


def event(log: logging.Logger, level: int, name: str, text: str, /, **about: object) -> None:
    """Log that something happened, in words for people and in fields for programs.

    Args:
        log: of the module that says it.
        level: of the logging module.
        name: a word that stays the same: "ready", "swapped", "draining"…
        text: the same as a sentence.
        about: fields, each a JSON value; no input of a request and no key.
    """
    log.log(level, "%s", text, extra={_FIELDS: {"event": name, **about}}, stacklevel=2)


class Access:
    """Names a part of the requests in the log, evenly: the n-th ones, not random ones.

    Args:
        share: from 0 to 1.
    """

    def __init__(self, share: float) -> None:
        self._share, self._due = share, 0.0

    def __call__(self, finished: Finished) -> None:
        """Log a request that was answered, if it is its turn."""
        self._due += self._share
        if self._due < 1:
            return
        self._due -= 1
        told = {"duration_ms": round(finished.seconds * 1000, 3)}
        told |= {name: getattr(finished, name) for name in _NAMED}
        known = {name: value for name, value in told.items() if value is not None}
        event(_ACCESS, logging.INFO, "request", finished.path, **known)


_NAMED = ("id", "status", "model", "version", "variant", "rows", "key")


class _Careful(logging.Formatter):
    """Leaves out the texts of exceptions that may hold an input."""

    def __init__(self, *, texts: bool) -> None:
        super().__init__()
        self._texts = texts

    def formatException(self, ei: _ErrorInfo | tuple[None, None, None]) -> str:
        return "" if ei[1] is None else told_of(ei[1], texts=self._texts)


class _Json(_Careful):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.process is not None:
            told["pid"] = record.process
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


class _Text(_Careful):
    def format(self, record: logging.LogRecord) -> str:
        about = getattr(record, _FIELDS, {})
        fields = "".join(f"  {name}={value}" for name, value in about.items() if name != "event")
        when = of_day(record.created)
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = f"{when}  {level}{record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def told_of(error: BaseException, *, texts: bool = False) -> str:
    """Return the traceback of an exception and its causes, without what may hold an input."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        frames = "".join(traceback.format_tb(seen.__traceback__))
        parts.append(f"{frames}{type(seen).__name__}: {_text(seen, texts)}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n\ncaused by\n\n".join(parts)


def _text(error: BaseException, texts: bool) -> str:
    ours = isinstance(error, CharkhaError) and not isinstance(error, DataError)
    if texts or ours or isinstance(error, OSError | ImportError):
        return str(error)
    return "(its text may hold an input; --debug shows it)"


def _moment(at: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z"


if TYPE_CHECKING:
    _listener: Listener = Access(1.0)
