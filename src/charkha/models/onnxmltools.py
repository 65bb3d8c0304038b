"""LightGBM and XGBoost models as ONNX: one input, a matrix of 32-bit floats."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType

from charkha.models.signature import Column

_OPSET = 15


def lightgbm_conversions(model: Any, columns: Sequence[Column]) -> list[Callable[[], bytes]]:
    """Return the way to convert a booster or an LGBM estimator; it may fail when called."""
    _check(columns)
    return [partial(_convert, onnxmltools.convert_lightgbm, model, len(columns), zipmap=False)]


def xgboost_conversions(model: Any, columns: Sequence[Column]) -> list[Callable[[], bytes]]:
    """Return the way to convert a booster or an XGB estimator; it may fail when called."""
    _check(columns)
    unnamed = (model if hasattr(model, "feature_names") else model.get_booster()).copy()
    unnamed.feature_names = unnamed.feature_types = None  # the converter takes f0, f1, … only
    return [partial(_convert, onnxmltools.convert_xgboost, unnamed, len(columns))]


def _convert(converter: Any, model: Any, width: int, **options: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        converted = converter(
            model,
            name="charkha",  # otherwise a random one, and other bytes each time
            initial_types=[("rows", FloatTensorType([None, width]))],
            target_opset=_OPSET,
            **options,
        )
    converted.opset_import.sort(key=lambda opset: opset.domain)  # a set's order, else
    data: bytes = converted.SerializeToString()
    return data


def _check(columns: Sequence[Column]) -> None:
    for column in columns:
        if column.type in ("string", "datetime") or column.categories is not None:
            raise NotImplementedError(
                f"column {column.name!r} is a {column.type}, and the converter takes numbers"
            )
