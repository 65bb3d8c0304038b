"""A model's ONNX twin, asked through ONNX Runtime: no scikit-learn, no library of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from charkha.errors import Damaged, DataError
from charkha.models.feeding import fed_by
from charkha.models.flavours.answers import labels, numbers, one_per_row, spoken
from charkha.models.flavours.port import Classes
from charkha.models.predictions import Predictions

_DTYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# What a runtime raises has no class of its own in Python but these, made in C++.
_Refusal = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)


class OnnxModel:
    """A loaded twin. May be asked from several threads.

    Args:
        data: the ONNX bytes.
        null_text: what stands for a missing text, which ONNX cannot express.

    Raises:
        Damaged: the runtime cannot load these bytes.
    """

    def __init__(self, data: bytes, *, null_text: str = "") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # sums in one order: the same bits each time
        options.log_severity_level = 4  # what it refuses is raised; it need not be printed too
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except _Refusal as e:
            raise Damaged(f"the ONNX twin cannot be loaded: {e}", key="model.onnx") from e
        self._null_text = null_text
        self._outputs = [output.name for output in self._session.get_outputs()]

    def predict(self, rows: pd.DataFrame, classes: Classes | None) -> Predictions:
        """Return an answer for each row.

        Args:
            rows: the columns of the signature, in its order.
            classes: the labels, where it is a classifier.

        Raises:
            Damaged: the twin was made for other columns.
            DataError: the twin refuses these rows.
        """
        try:
            said = self._session.run(self._outputs, self._feed(rows))
        except _Refusal as e:
            raise DataError(f"the ONNX twin refuses these rows: {e}") from e
        if classes is None:
            return Predictions(values=numbers(one_per_row(said[0], len(rows))))
        if len(said) == 1:
            return Predictions(values=labels(one_per_row(said[0], len(rows))), classes=classes)
        return spoken(said[0], said[1], classes, len(rows))

    def _feed(self, rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
        inputs = self._session.get_inputs()
        columns = fed_by([(i.name, i.shape) for i in inputs], list(rows.columns))
        if columns is None:
            matrix = rows.astype(np.float64).to_numpy()
            return {inputs[0].name: matrix.astype(_DTYPES[inputs[0].type])}
        pairs = zip(inputs, columns, strict=True)
        return {i.name: self._tensor(rows[column], i.type) for i, column in pairs}

    def _tensor(self, column: pd.Series, kind: str) -> NDArray[Any]:
        if kind == "tensor(string)":
            texts = column.astype(object).where(column.notna(), self._null_text)
            return texts.to_numpy(dtype=object).reshape(-1, 1)
        return column.astype(np.float64).to_numpy().astype(_DTYPES[kind]).reshape(-1, 1)
