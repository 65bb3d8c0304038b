"""scikit-learn models as ONNX, in up to three ways of which the caller keeps the first that agrees.

scikit-learn computes in 64 bits, except that its trees and forests round their inputs to 32. So a
pipeline is converted in 64 bits, then in 64 bits with a cast before its last step, then in 32. Two
converters of the library (1.20) are replaced: ONNX Runtime has no Imputer for 64 bits, and
histogram boosting writes truth values where ONNX demands integers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import skl2onnx
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.operator_converters.common import concatenate_variables
from skl2onnx.sklapi import CastTransformer
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from charkha.models.signature import Column

OPSET = {"": 18, "ai.onnx.ml": 3}  # known to every ONNX Runtime since 1.15
_TREE_NUMBERS = {"nodes_values", "nodes_hitrates", "target_weights", "base_values"}
_NUMBERS = {"double", "float", "long", "integer", "boolean"}


def conversions(model: Any, columns: Sequence[Column]) -> list[Callable[[], bytes]]:
    """Return the ways to convert `model`, the most faithful first; each may fail when called.

    Raises:
        NotImplementedError: a column has a type that ONNX inputs cannot carry.
    """
    odd = [c for c in columns if c.type not in _NUMBERS | {"string"} or c.categories is not None]
    if odd:
        kind = "category" if odd[0].categories is not None else odd[0].type
        raise NotImplementedError(f"column {odd[0].name!r} is a {kind}, which has no ONNX input")
    ways = [partial(_convert, model, columns, DoubleTensorType)]
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        cast = ("to_32_bits", CastTransformer(dtype=np.float32))
        split = Pipeline([*model.steps[:-1], cast, model.steps[-1]])
        ways.append(partial(_convert, split, columns, DoubleTensorType))
    return [*ways, partial(_convert, model, columns, FloatTensorType)]


def _convert(model: Any, columns: Sequence[Column], numbers: type) -> bytes:
    """Return ONNX with an input of shape (rows, 1) for each column, or one for all."""
    inputs = [
        (c.name, (StringTensorType if c.type == "string" else numbers)([None, 1])) for c in columns
    ]
    matrix = [("rows", numbers([None, len(columns)]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, about NumPy and scikit-learn
        converted = skl2onnx.convert_sklearn(
            model,
            name="charkha",  # otherwise a random one, and other bytes each time
            initial_types=inputs if _by_name(model, columns) else matrix,
            target_opset=OPSET,
            options={"zipmap": False} if is_classifier(model) else None,
            custom_conversion_functions={
                SimpleImputer: _impute,
                HistGradientBoostingRegressor: _boosted("Regressor"),
                HistGradientBoostingClassifier: _boosted("Classifier"),
            },
            custom_shape_calculators={SimpleImputer: _imputed_shape},
        )
    converted.opset_import.sort(key=lambda opset: opset.domain)  # a set's order, else
    data: bytes = converted.SerializeToString()
    return data


def _by_name(model: Any, columns: Sequence[Column]) -> bool:
    """Tell whether there has to be an input for each column; else one matrix is them all.

    A matrix is better where it does: the library joins single inputs in 32 bits.
    """
    first = model.steps[0][1] if isinstance(model, Pipeline) else model
    return isinstance(first, ColumnTransformer) or any(c.type == "string" for c in columns)


def _impute(scope: Any, operator: Any, container: Any) -> None:
    """Write a SimpleImputer of numbers as Where(IsNaN(x), statistic, x), of any width."""
    imputer, kind = operator.raw_operator, operator.inputs[0].type
    if isinstance(kind, StringTensorType) or imputer.missing_values == imputer.missing_values:
        get_converter("SklearnSimpleImputer")(scope, operator, container)
        return
    if imputer.add_indicator or np.isnan(imputer.statistics_).any():
        raise NotImplementedError("SimpleImputer with an indicator or an empty column")
    double = isinstance(kind, DoubleTensorType)
    statistics, missing = (scope.get_unique_variable_name(n) for n in ("statistics", "missing"))
    container.add_initializer(
        statistics,
        onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT,
        [1, len(imputer.statistics_)],
        imputer.statistics_.tolist(),
    )
    given = concatenate_variables(scope, operator.inputs, container)
    container.add_node("IsNaN", given, missing, op_version=13)
    filled = operator.outputs[0].full_name
    container.add_node("Where", [missing, statistics, given], filled, op_version=16)


def _imputed_shape(operator: Any) -> None:
    given = operator.inputs[0].type
    width = sum(i.type.shape[1] for i in operator.inputs)
    operator.outputs[0].type = type(given)([None, width])


def _boosted(kind: str) -> Callable[[Any, Any, Any], None]:
    """Return the library's converter, with nodes that ONNX Runtime takes."""
    convert = get_converter(f"SklearnHistGradientBoosting{kind}")

    def converter(scope: Any, operator: Any, container: Any) -> None:
        double = isinstance(operator.inputs[0].type, DoubleTensorType)
        convert(scope, operator, _Trees(scope, container, double=double))

    return converter


class _Trees:
    """A skl2onnx container that corrects the nodes of tree ensembles.

    Truth values become integers; an ensemble of 64-bit thresholds answers in 32 bits, as the
    standard says, and is cast back.
    """

    def __init__(self, scope: Any, container: Any, *, double: bool) -> None:
        self._scope, self._container, self._double = scope, container, double

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        plain = {k: _integers(v) if isinstance(v, list) else v for k, v in attributes.items()}
        if op_type != "TreeEnsembleRegressor" or not self._double:
            self._container.add_node(op_type, inputs, outputs, **plain)
            return
        answer = self._scope.get_unique_variable_name("in_32_bits")
        for name in _TREE_NUMBERS & plain.keys():  # as lists they would be cut to 32 bits
            values = np.asarray(plain.pop(name), dtype=np.float64)
            plain[f"{name}_as_tensor"] = onnx.numpy_helper.from_array(values)
        plain["op_version"] = OPSET["ai.onnx.ml"]  # the first with 64-bit thresholds
        self._container.add_node(op_type, inputs, answer, **plain)
        double = onnx.TensorProto.DOUBLE
        self._container.add_node("Cast", answer, outputs, op_version=13, to=double)


def _integers(values: list[Any]) -> list[Any]:
    return [int(v) if isinstance(v, bool | np.bool_) else v for v in values]
