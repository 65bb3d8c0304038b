"""A model in its own library's form, for those that have no ONNX twin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from charkha.models.package import read_package
from charkha.serving.predictors.port import Answers, Rows


class NativePredictor:
    """A Predictor on the model in a package folder, which is loaded at once.

    Raises:
        UserError: the file holds what this process does not trust.
        MissingExtra: the model's library is not installed.
    """

    form = "native"

    def __init__(self, folder: Path, described: Mapping[str, Any], *, allow_pickle: bool) -> None:
        self._package = read_package(folder, allow_pickle=allow_pickle)
        self._names = [column["name"] for column in described["signature"]["inputs"]]
        _ = self._package.model

    def predict(self, rows: Rows) -> Answers:
        table = pd.DataFrame.from_records(list(rows), columns=self._names)
        said = self._package.answer(table.astype(object))
        if said.probabilities is None:
            return Answers(said.values.tolist())
        return Answers(said.values.tolist(), said.probabilities.tolist())


if TYPE_CHECKING:
    from charkha.serving.predictors.port import Predictor

    _: Predictor = NativePredictor(Path(), {}, allow_pickle=False)
