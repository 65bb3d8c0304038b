"""Which columns explain why predictions have moved: the model asked with old and new values mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.project import Project


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """A column's part in the shift of the predictions; all parts sum up to the shift."""

    column: str  # "area"; "all others" for those that were not looked at one by one
    moved: float  # of the mean prediction, in the target's unit
    low: float
    high: float
    share: float  # moved / shift; may be above 1 or below 0, as columns pull both ways


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Why the mean prediction is another one."""

    version: str
    of: str  # "price", or "share of 'yes'" for classes
    before: float  # mean on the held-out rows
    after: float  # mean on the window
    shift: float
    columns: tuple[Contribution, ...]  # the largest parts first


def explain_change(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    columns: Sequence[str] | None = None,
) -> Explained:
    """Say which columns explain the change in the predictions of one version.

    Args:
        project: whose registry and records are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`.
        until: the same.
        columns: inputs to be looked at one by one, such as those that drifted; those with the
            largest change without it. The others are taken together.

    Raises:
        UserError: there is no such version, no record, no such input.
        BackendError: the registry, the blobs or the records refuse.
    """
    raise NotImplementedError(project, reference, since, until, columns)
