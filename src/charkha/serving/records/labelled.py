"""Predictions whose truth has come, as rows to learn from: a source of a pipeline."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from charkha.data.blobs import open_blobs
from charkha.errors import DataError
from charkha.project import open_project
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from charkha.project import Project

_INPUT = "input."
TIME = "predicted_at"  # the column with the moment of the request, UTC


def labelled(
    model: str | None = None,
    *,
    target: str | None = None,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
) -> Labelled:
    """Return the rows that were predicted live and whose truth is known by now, to be given to a step.

    A step gets a DataFrame (a `pyarrow.Table` where it asks for one): one row for each request,
    oldest first, with the model's inputs under their own names, the truth under the name of the
    target, and `predicted_at`. Without any it has no rows, and no columns but these two.

    Args:
        model: its name; `[model] name` of charkha.toml without it.
        target: the name of the truth's column; `[model] target`, or else `ground_truth`.
        since: predictions from this moment on, as `charkha.read_records` reads it; "" is none.
        until: predictions before this moment.
    """
    return Labelled(model, target=target, since=since or None, until=until or None)


class Labelled:
    """Rows with their truth, kept as bytes when they are counted: what was counted is what is loaded.

    The truth may come at any moment, so the fingerprint is taken of the rows themselves, and they
    stay in the blobs under it. A run can be done again later, on what it learnt from then.
    """

    def __init__(
        self,
        model: str | None,
        *,
        target: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        project: Project | None = None,
    ) -> None:
        self._model, self._target = model, target
        self._since, self._until = _text(since), _text(until)
        self._project = project
        self._blob: str | None = None

    def __repr__(self) -> str:
        return f"labelled({self.model!r})"

    @property
    def model(self) -> str:
        """Whose predictions they are."""
        return self._model or self._bound.model.name

    @property
    def name(self) -> str:
        return f"{self.model}.records"

    def bind(self, project: Project) -> Self:
        return type(self)(
            self._model,
            target=self._target,
            since=self._since,
            until=self._until,
            project=project,
        )

    def fingerprint(self, given: Mapping[str, str]) -> str:
        """Keep the rows as they are now, and return what they are kept under.

        Raises:
            UserError: `since` or `until` is no moment.
            BackendError: the records or the blobs refuse.
        """
        sink = io.BytesIO()
        parquet.write_table(self._read(), sink, compression="zstd")
        sink.seek(0)
        self._blob = open_blobs(self._bound).put(sink)
        return f"sha256:{self._blob}"

    def load(self, wanted: type | None = None) -> object:
        """Return the rows as a DataFrame, or as a `pyarrow.Table`.

        Raises:
            DataError: something else is wanted.
        """
        if self._blob is None:
            self.fingerprint({})
        with open_blobs(self._bound).open(str(self._blob)) as kept:
            table = parquet.read_table(io.BytesIO(kept.read()))
        if wanted is None or wanted is object or wanted.__module__.startswith("pandas"):
            return table.to_pandas()
        if wanted.__module__.startswith("pyarrow"):
            return table
        raise DataError(
            f"{self.name} cannot be loaded as {wanted.__qualname__}",
            fix="annotate the parameter as pandas.DataFrame or pyarrow.Table",
        )

    def describe(self) -> dict[str, object]:
        """Include what `fingerprint` kept: a worker must not see what came later."""
        return {
            "source": "charkha.serving.records.labelled:Labelled",
            "model": self.model,
            "target": self._target,
            "since": self._since,
            "until": self._until,
            **({"blob": self._blob} if self._blob else {}),
        }

    @classmethod
    def revive(cls, description: dict[str, object], project: Project) -> Self:
        def text(key: str) -> str | None:
            value = description.get(key)
            return None if value is None else str(value)

        found = cls(
            text("model"),
            target=text("target"),
            since=text("since"),
            until=text("until"),
            project=project,
        )
        found._blob = text("blob")
        return found

    @property
    def _bound(self) -> Project:
        if self._project is None:
            self._project = open_project()
        return self._project

    def _read(self) -> pa.Table:
        project = self._bound
        found = read_records(self.model, since=self._since, until=self._until, project=project)
        target = self._target or project.model.target or "ground_truth"
        known = found.filter(compute.is_valid(found["ground_truth"]))
        names = [n for n in known.column_names if n.startswith(_INPUT)] if known.num_rows else []
        rows = {name.removeprefix(_INPUT): known[name] for name in names}
        return pa.table({**rows, target: known["ground_truth"], TIME: known["time"]})


def _text(moment: str | datetime | None) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else moment


if TYPE_CHECKING:
    from charkha.pipeline.values import Source

    _: Source = Labelled(None)
