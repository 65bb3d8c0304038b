"""A model's ONNX twin through ONNX Runtime, on plain lists: no pandas, no library of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from charkha.errors import Damaged, DataError
from charkha.models.feeding import fed_by
from charkha.models.flavours.answers import labels, numbers, one_per_row, spoken
from charkha.serving.predictors.port import Answers, Columns

_DTYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_runtime = onnxruntime.capi.onnxruntime_pybind11_state
_Refusal = (
    _runtime.Fail,
    _runtime.InvalidArgument,
    _runtime.InvalidGraph,
    _runtime.InvalidProtobuf,
    _runtime.NotImplemented,
    _runtime.RuntimeException,
)


class OnnxPredictor:
    """A Predictor on the twin in a package folder.

    Raises:
        Damaged: the runtime cannot load it.
    """

    form = "onnx"

    def __init__(self, folder: Path, described: Mapping[str, Any], *, allow_pickle: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # sums in one order: the same bits each time
        options.log_severity_level = 3
        file = folder / described["onnx"]["file"]
        try:
            self._session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        except _Refusal as e:
            raise Damaged(f"the ONNX twin {file} cannot be loaded: {e}", key=str(file)) from e
        self._null_text = str(described["onnx"]["null_text"])
        self._columns = {column["name"]: column for column in described["signature"]["inputs"]}
        self._classes = tuple(described["classes"]) if described["classes"] is not None else None
        inputs = self._session.get_inputs()
        self._inputs = [(i.name, i.type) for i in inputs]
        self._fed_by = fed_by([(i.name, i.shape) for i in inputs], list(self._columns))
        self._outputs = [output.name for output in self._session.get_outputs()]

    def predict(self, columns: Columns) -> Answers:
        rows = len(next(iter(columns.values())))
        try:
            said = self._session.run(self._outputs, self._feed(columns))
        except _Refusal as e:
            raise DataError(f"the model refuses these rows: {e}") from e
        answers = one_per_row(said[0], rows)
        if self._classes is None:
            return Answers(numbers(answers).tolist())
        if len(said) == 1:
            own = {label: label for label in self._classes}  # ONNX says 1 where the label is True
            return Answers([own.get(label, label) for label in labels(answers).tolist()])
        found = spoken(said[0], said[1], self._classes, rows)
        values, shares = found.values.tolist(), found.probabilities
        if shares is None:
            return Answers(values)
        names = [str(label) for label in self._classes]
        return Answers(values, [dict(zip(names, r, strict=True)) for r in shares.tolist()])

    def _feed(self, columns: Columns) -> dict[str, NDArray[Any]]:
        if self._fed_by is None:
            name, kind = self._inputs[0]
            parts = [self._numbers(columns[column], column) for column in self._columns]
            return {name: np.column_stack(parts).astype(_DTYPES[kind])}
        return {
            name: self._tensor(columns[column], column, kind)
            for (name, kind), column in zip(self._inputs, self._fed_by, strict=True)
        }

    def _tensor(self, values: Sequence[object], column: str, kind: str) -> NDArray[Any]:
        if kind == "tensor(string)":
            return self._texts(values, column).reshape(-1, 1)
        return self._numbers(values, column).astype(_DTYPES[kind]).reshape(-1, 1)

    def _numbers(self, values: Sequence[object], column: str) -> NDArray[np.float64]:
        floats = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        if self._columns[column]["type"] == "float":
            return floats.astype(np.float32).astype(np.float64)  # as precise as it was trained
        return floats

    def _texts(self, values: Sequence[object], column: str) -> NDArray[np.object_]:
        known = self._columns[column].get("categories")
        texts = np.empty(len(values), dtype=object)
        texts[:] = [
            self._null_text if v is None or (known is not None and v not in known) else v
            for v in values
        ]
        return texts


if TYPE_CHECKING:
    from charkha.serving.predictors.port import Predictor

    _: Predictor = OnnxPredictor(Path(), {}, allow_pickle=False)
