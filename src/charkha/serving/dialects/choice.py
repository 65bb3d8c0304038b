"""Which dialect reads a body: by the route, and on `/predict` by its content type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.errors import MissingExtra
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect
    from charkha.serving.loading import ServedModel

MOST_ROWS = 100_000
_WHERE = {
    "named": "charkha.serving.dialects.named:NamedDialect",
    "csv": "charkha.serving.dialects.csv:CsvDialect",
    "arrow": "charkha.serving.dialects.pyarrow:ArrowDialect",
    "parquet": "charkha.serving.dialects.pyarrow:ParquetDialect",
    "invocations": "charkha.serving.dialects.invocations:InvocationsDialect",
    "inference_v2": "charkha.serving.dialects.inference_v2:InferenceV2Dialect",
}
_PREDICT = {  # content type on /predict -> dialect
    b"application/json": "named",
    b"text/csv": "csv",
    b"application/vnd.apache.arrow.stream": "arrow",
    b"application/vnd.apache.parquet": "parquet",
}


def dialect_name(content_type: bytes | None) -> str:
    """Return which dialect reads a body on `/predict`; without a type it is JSON.

    Raises:
        Problem: 415, none reads this content type.
    """
    if content_type is None or content_type == b"application/json":
        return "named"
    kind = content_type.partition(b";")[0].strip().lower()
    if kind in _PREDICT:
        return _PREDICT[kind]
    if kind.endswith(b"+json") or kind in (b"", b"application/x-www-form-urlencoded"):
        return "named"  # what curl says where nobody told it
    known = ", ".join(sorted(name.decode() for name in _PREDICT))
    raise Problem(415, "unsupported-type", "No such content type is read here", f"send {known}")


def make_dialect(
    name: str, model: ServedModel, variant: str, most_rows: int = MOST_ROWS
) -> Dialect:
    """Return the dialect for one version; its module is imported now, if it was not before.

    Args:
        name: as `dialect_name` has it, "invocations" or "inference_v2".
        model: the version.
        variant: the name under which it answers.
        most_rows: of a request; what has more is not read to its end.

    Raises:
        Problem: 415, the dialect needs a library that is not installed.
    """
    where, _, kind = _WHERE[name].partition(":")
    with needing("tables"):
        module = import_module(where)
    more = () if name == "named" else (most_rows,)
    made: Dialect = getattr(module, kind)(model, variant, *more)
    return made


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Let a request that needs a library which is not installed hear which extra brings it.

    Raises:
        Problem: 415.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("charkha"):
            raise
        missing = MissingExtra(e.name or extra, extra)
        said = f"{missing.what} on the server; {missing.fix}"
        raise Problem(415, "missing-extra", "This content type cannot be read here", said) from e
