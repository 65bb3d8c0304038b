"""Where sealed files lie: `model=NAME/day=2026-11-24/LOG-SOURCE.parquet`, `feedback/day=…/…`.

The names follow from the log alone, so that one sealed again after a crash replaces its own files.
A day is that of the prediction, in UTC; of feedback as well, so that whoever reads the predictions
of a week reads the feedback of that week, however late it came.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote, unquote

FEEDBACK = "feedback/"
_EPOCH = date(1970, 1, 1)
_US_OF_A_DAY = 86_400_000_000
_LONGEST = 180  # characters of a folder's name; file systems take 255 bytes


def model_folder(model: str) -> str:
    """Return the folder of a model, with the slash; whatever its name, it is one folder's name."""
    name = quote(model, safe="")
    if len(name) > _LONGEST:  # cut, and told apart by what cannot stand in a quoted name: a +
        name = f"{name[:100]}+{hashlib.sha256(model.encode()).hexdigest()[:32]}"
    return f"model={name}/"


def model_of(folder: str) -> str | None:
    """Return the model whose folder this is; None where its name was too long for a folder."""
    name = folder.removesuffix("/").removeprefix("model=")
    return None if "+" in name else unquote(name)


def day_folder(above: str, day: date) -> str:
    """Return the folder of a day in that of a model, or in FEEDBACK."""
    return f"{above}day={day.isoformat()}/"


def day_of(folder: str) -> date | None:
    """Return the day whose folder this is; None for another's."""
    try:
        return date.fromisoformat(folder.removesuffix("/").rpartition("day=")[2])
    except ValueError:
        return None


def file_name(log: str, source: int) -> str:
    """Return the name of what is sealed of one source of a log, in the folder of a day."""
    return f"{log}-{source:03d}.parquet"


def log_of(path: str) -> str:
    """Return the name of the log that a file was sealed from."""
    return path.rpartition("/")[2].removesuffix(".parquet").rpartition("-")[0]


def day_of_us(unix_us: int) -> date:
    """Return the day in UTC of a moment."""
    return _EPOCH + timedelta(days=unix_us // _US_OF_A_DAY)


def start_of(day: date) -> datetime:
    """Return the first moment of a day in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
