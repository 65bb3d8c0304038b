"""A model's ONNX twin through ONNX Runtime: rows into arrays, no pandas, no library of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from charkha.errors import Damaged, DataError
from charkha.models.feeding import fed_by
from charkha.models.flavours.answers import labels, numbers, one_per_row, spoken
from charkha.serving.predictors.port import Answers, Rows

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
_Column = Mapping[str, Any]
_Feed = dict[str, NDArray[Any]]
_Fill = Callable[[Sequence[object]], NDArray[Any]]  # (rows,) -> (rows, 1)


class OnnxPredictor:
    """A Predictor on the twin in a package folder.

    Raises:
        Damaged: the runtime cannot load it.
    """

    form = "onnx"

    def __init__(self, folder: Path, described: Mapping[str, Any], *, allow_pickle: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # sums in one order: the same bits each time
        options.log_severity_level = 4  # what it refuses is raised; it need not be printed too
        file = folder / described["onnx"]["file"]
        try:
            self._session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        except _Refusal as e:
            raise Damaged(f"the ONNX twin {file} cannot be loaded: {e}", key=str(file)) from e
        self._classes = tuple(described["classes"]) if described["classes"] is not None else None
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._feed = self._compile(
            described["signature"]["inputs"], str(described["onnx"]["null_text"])
        )

    def predict(self, rows: Rows) -> Answers:
        try:
            said = self._session.run(self._outputs, self._feed(rows))
        except _Refusal as e:
            raise DataError(f"the model refuses these rows: {e}") from e
        answers = one_per_row(said[0], len(rows))
        if self._classes is None:
            return Answers(numbers(answers).tolist())
        if len(said) == 1:
            own = {label: label for label in self._classes}  # ONNX says 1 where the label is True
            return Answers([own.get(label, label) for label in labels(answers).tolist()])
        found = spoken(said[0], said[1], self._classes, len(rows))
        shares = None if found.probabilities is None else found.probabilities.tolist()
        return Answers(found.values.tolist(), shares)

    def _compile(self, columns: Sequence[_Column], null_text: str) -> Callable[[Rows], _Feed]:
        """Return what makes the graph's inputs out of rows."""
        inputs = self._session.get_inputs()
        fed = fed_by([(i.name, i.shape) for i in inputs], [column["name"] for column in columns])
        if fed is None:
            return _matrix(inputs[0].name, _DTYPES[inputs[0].type], columns)
        named = {column["name"]: (at, column) for at, column in enumerate(columns)}
        fills = [
            (i.name, at, _filler(column, i.type, null_text))
            for i, (at, column) in zip(inputs, [named[name] for name in fed], strict=True)
        ]

        def feed(rows: Rows) -> _Feed:
            by_column = list(zip(*rows, strict=True))
            return {name: fill(by_column[at]) for name, at, fill in fills}

        return feed


def _matrix(name: str, dtype: type, columns: Sequence[_Column]) -> Callable[[Rows], _Feed]:
    """Return what makes one matrix (rows, columns) of all columns; None becomes NaN."""
    rounded = [at for at, column in enumerate(columns) if column["type"] == "float"]

    def feed(rows: Rows) -> _Feed:
        matrix = np.array(rows, dtype=np.float64)
        if rounded:  # as precise as it was trained
            matrix[:, rounded] = matrix[:, rounded].astype(np.float32)
        return {name: matrix.astype(dtype, copy=False)}

    return feed


def _filler(column: _Column, kind: str, null_text: str) -> _Fill:
    """Return what makes an input (rows, 1) of a column's values."""
    if kind == "tensor(string)":
        known = None if column.get("categories") is None else frozenset(column["categories"])

        def texts(values: Sequence[object]) -> NDArray[Any]:
            made = np.empty((len(values), 1), dtype=object)
            made[:, 0] = [
                null_text if v is None or (known is not None and v not in known) else v
                for v in values
            ]
            return made

        return texts
    dtype, rounded = _DTYPES[kind], column["type"] == "float"

    def floats(values: Sequence[object]) -> NDArray[Any]:
        made = np.array(values, dtype=np.float64)
        if rounded:  # as precise as it was trained
            made = made.astype(np.float32)
        return made.astype(dtype, copy=False).reshape(-1, 1)

    return floats


if TYPE_CHECKING:
    from charkha.serving.predictors.port import Predictor

    _: Predictor = OnnxPredictor(Path(), {}, allow_pickle=False)
