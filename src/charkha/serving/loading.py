"""A model version made ready to answer: its package found, its decoder compiled, its model loaded."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charkha.data.profiles.storing import read_profile
from charkha.errors import Damaged, MissingExtra
from charkha.models.packaged import folder_of
from charkha.serving.glancing import Reference, make_reference
from charkha.serving.schema import RowSchema, example_rows

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project
    from charkha.serving.predictors.port import Predictor

_PREDICTORS = {  # where it is, and the extra that brings its library
    "onnx": ("charkha.serving.predictors.onnxruntime:OnnxPredictor", "serving"),
    "native": ("charkha.serving.predictors.native:NativePredictor", "sklearn"),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version that answers."""

    name: str
    version: int
    described: dict[str, Any]  # package.json
    schema: RowSchema
    example: list[dict[str, object]]
    predictor: Predictor
    reference: Reference | None = None  # None: the package has no profile

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the labels, in the order of the probabilities; None: it predicts numbers."""
        labels = self.described["classes"]
        return None if labels is None else tuple(str(label) for label in labels)


def load_model(project: Project, version: ModelVersion) -> ServedModel:
    """Load a version: its ONNX twin where it has one, else the model itself.

    Raises:
        UserError: the version was not made by Charkha, or is a pickle and pickles are not allowed.
        Damaged: its bytes are gone or are not those that were stored.
        MissingExtra: a library that it needs is not installed.
    """
    return load_package(
        folder_of(project, version),
        version.version,
        allow_pickle=project.allow_pickle,
        hidden=project.records.redact,
    )


def load_package(
    folder: Path, version: int, *, allow_pickle: bool = False, hidden: Collection[str] = ()
) -> ServedModel:
    """Load a package folder as this version; nothing is counted of the columns that are hidden.

    Raises:
        UserError, Damaged, MissingExtra: as `load_model`.
    """
    described = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    form = "onnx" if described["onnx"]["file"] else "native"
    return ServedModel(
        name=described["name"],
        version=version,
        described=described,
        schema=RowSchema(described["signature"]["inputs"]),
        example=example_rows((folder / described["input_example"]).read_text(encoding="utf-8")),
        predictor=_predictor(form, folder, described, allow_pickle),
        reference=_reference(folder, described, hidden),
    )


def _reference(
    folder: Path, described: dict[str, Any], hidden: Collection[str]
) -> Reference | None:
    file = described.get("profile")
    if file is None:  # of a package made before there were profiles
        return None
    try:
        profile = read_profile((folder / file).read_bytes(), f"{file} of {described['name']}")
    except Damaged as e:  # it answers all the same
        _log.warning("inputs are not counted: %s", e)
        return None
    inputs = [(column["name"], column["type"]) for column in described["signature"]["inputs"]]
    predictions = described["target"] not in hidden
    return make_reference(profile, inputs, hidden=hidden, predictions=predictions)


def _predictor(form: str, folder: Path, described: dict[str, Any], allow_pickle: bool) -> Predictor:
    place, extra = _PREDICTORS[form]
    module, _, name = place.partition(":")
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("charkha"):
            raise
        raise MissingExtra(e.name or form, extra) from e
    made: Predictor = kind(folder, described, allow_pickle=allow_pickle)
    return made
