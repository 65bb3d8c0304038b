"""Predictions whose truth has come, as rows to learn from: a source of a pipeline.

Imported wherever a pipeline has one, also where every step is reused, so what reads is late.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Self

from charkha.data.blobs import open_blobs
from charkha.data.late import late
from charkha.errors import DataError
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.project import Project

NONE = "none"  # the fingerprint while no truth is known: nothing is read, and nothing kept
_READER, _EXTRA = "charkha.serving.records.labelled", "records"


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
        self._kept: str | None = None  # the fingerprint, once it was taken

    def __repr__(self) -> str:
        return f"labelled({self._model!r})" if self._model else "labelled()"

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
        """Keep the rows as they are now, and return what they are kept under; the same ever after.

        Raises:
            UserError: `since` or `until` is no moment.
            MissingExtra: DuckDB is not installed.
            BackendError: the records or the blobs refuse.
        """
        if self._kept is None:
            self._kept = self._keep() if may_have_truths(self._bound) else NONE
        return self._kept

    def load(self, wanted: type | None = None) -> object:
        """Return the rows as a DataFrame, or as a `pyarrow.Table`.

        Raises:
            DataError: something else is wanted.
            BackendError: the records or the blobs refuse.
        """
        reader = late(_READER, extra=_EXTRA)
        kept = self.fingerprint({})
        if kept == NONE:
            table = reader.no_rows(self._column)
        else:
            with open_blobs(self._bound).open(kept.removeprefix("sha256:")) as stream:
                table = reader.rows_of(stream.read())
        kind = "" if wanted is None else f"{wanted.__module__.partition('.')[0]}.{wanted.__name__}"
        if wanted is None or wanted is object or kind == "pandas.DataFrame":
            return table.to_pandas()
        if kind == "pyarrow.Table":
            return table
        raise DataError(
            f"{self.name} cannot be loaded as {wanted.__qualname__}",
            fix="annotate the parameter as pandas.DataFrame or pyarrow.Table",
        )

    def describe(self) -> dict[str, object]:
        """Include what `fingerprint` kept: a worker must not see what came later."""
        return {
            "source": "charkha.serving.labelled:Labelled",
            "model": self.model,
            "target": self._target,
            "since": self._since,
            "until": self._until,
            **({"kept": self._kept} if self._kept else {}),
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
        found._kept = text("kept")
        return found

    @property
    def _bound(self) -> Project:
        if self._project is None:
            self._project = open_project()
        return self._project

    @property
    def _column(self) -> str:
        return self._target or self._bound.model.target or "ground_truth"

    def _keep(self) -> str:
        content = late(_READER, extra=_EXTRA).bytes_of(
            self._bound, self.model, self._column, since=self._since, until=self._until
        )
        if content is None:
            return NONE
        return f"sha256:{open_blobs(self._bound).put(io.BytesIO(content))}"


def may_have_truths(project: Project) -> bool:
    """Whether any truth can have come: looked up in a millisecond, where records are in a folder."""
    if "://" in project.records.url:
        return True
    for folder in (project.state / "records-open", f"{project.records.url}/feedback"):
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if any(name.startswith(("feedback-", "day=")) for name in names):
            return True
    return False


def _text(moment: str | datetime | None) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else moment


if TYPE_CHECKING:
    from charkha.pipeline.values import Source

    _: Source = Labelled(None)
