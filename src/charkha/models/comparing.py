"""What is known of a model version without loading the model, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from charkha.errors import Damaged, UserError
from charkha.models.packaged import folder_of
from charkha.models.recording import numbers

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One version. What stands in its package is empty where the package is not to be had."""

    version: ModelVersion
    metrics: dict[str, float]  # "test.rmse"
    params: dict[str, str]
    data: dict[str, str]  # dataset -> version
    signature: dict[str, str]  # "input Lot_Area" -> "long"
    requirements: dict[str, str]  # distribution -> version
    card: str
    missing: str | None  # why there is nothing of the package


class Change(NamedTuple):
    """One thing that differs; None where a side has no such thing."""

    name: str
    before: object
    after: object


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs, by group; an empty group is the same on both sides."""

    metrics: list[Change]
    params: list[Change]
    data: list[Change]
    signature: list[Change]
    requirements: list[Change]
    card: list[str]  # lines of a unified diff


def facts(project: Project, version: ModelVersion) -> Facts:
    """Return what is known of a version.

    Raises:
        Unavailable: the blob store did not answer.
    """
    tags = version.tags
    described: Mapping[str, object] = {}
    card, missing = "", None
    try:
        folder = folder_of(project, version)
        described = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        card = _read(folder / "card.md")
    except (UserError, Damaged) as e:
        missing = e.what
    return Facts(
        version=version,
        metrics=dict(numbers(json.loads(tags.get("charkha.metrics", "{}")))),
        params=json.loads(tags.get("charkha.params", "{}")),
        data=_pairs(tags.get("charkha.data", "").split(), "="),
        signature=_signature(described),
        requirements=_pairs(cast("list[str]", described.get("requirements", [])), "=="),
        card=card,
        missing=missing,
    )


def compare(before: Facts, after: Facts) -> Difference:
    """Say what differs between two versions."""
    card = unified_diff(
        before.card.splitlines(),
        after.card.splitlines(),
        str(before.version),
        str(after.version),
        n=1,
        lineterm="",
    )
    return Difference(
        metrics=_changes(before.metrics, after.metrics),
        params=_changes(before.params, after.params),
        data=_changes(before.data, after.data),
        signature=_changes(before.signature, after.signature),
        requirements=_changes(before.requirements, after.requirements),
        card=list(card),
    )


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[Change]:
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _signature(described: Mapping[str, object]) -> dict[str, str]:
    signature = cast("dict[str, list[dict[str, object]]]", described.get("signature", {}))
    return {
        f"{side} {column['name']}": f"{column['type']}{'' if column['required'] else ' or null'}"
        for side, columns in (("input", "inputs"), ("output", "outputs"))
        for column in signature.get(columns, [])
    }


def _pairs(texts: list[str], separator: str) -> dict[str, str]:
    parted = (text.partition(separator) for text in texts)
    return {name: value for name, _, value in parted}


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
