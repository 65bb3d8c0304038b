"""`/v2/models/…/infer`: the Open Inference Protocol (V2) of KServe, Triton and MLServer.

A request has one tensor for each column, [n] or [n, 1], or one of all columns, [n, columns]; as JSON
or as binary data (Triton's extension, which tritonclient uses unasked). No value: null or NaN in
JSON, NaN or an infinity in binary floats, an empty BYTES element, or no tensor for that column at
all. What MLServer's codecs send is understood by itself; of `content_type` only `pd_json` matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
from msgspec import Struct

from charkha.serving.dialects.loose_json import decode
from charkha.serving.dialects.placed import MOST_ORDERS, Orders, Placed
from charkha.serving.dialects.port import Headers, Reading, Said, Sent
from charkha.serving.dialects.refusals import Refusal
from charkha.serving.dialects.tables import as_kind, kind_of, too_many
from charkha.serving.dialects.tensors import FLOATS, INTEGERS, SAID, Tensor, pack, read_values
from charkha.serving.problems import Problem
from charkha.serving.schema import misfit, pointer

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel
    from charkha.serving.predictors.port import Row

HEADER_LENGTH = b"inference-header-content-length"
_JSON: Sent = [(b"content-type", b"application/json")]
_NUMBERS = frozenset((*INTEGERS, *FLOATS))
_TAKES = {  # type of a column -> datatypes that can be its values
    "double": _NUMBERS,
    "float": _NUMBERS,
    "long": _NUMBERS,
    "integer": _NUMBERS,
    "boolean": frozenset(("BOOL", *INTEGERS, "BYTES")),
    "string": frozenset(("BYTES",)),
    "datetime": frozenset(("BYTES",)),
}
DATATYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32"} | {
    "boolean": "BOOL",
    "string": "BYTES",
    "datetime": "BYTES",
}
_MLSERVER = {"predict": "prediction", "predict_proba": "probabilities"}  # its names of outputs


class _OutputParameters(Struct, gc=False):
    binary_data: bool | None = None


class _Output(Struct, gc=False):
    name: str
    parameters: _OutputParameters | None = None


class _RequestParameters(Struct, gc=False):
    binary_data_output: bool = False


class _Request(Struct, gc=False):
    inputs: list[Tensor]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Output] | None = None


class _Asked(NamedTuple):
    """What the answer has to be like."""

    id: str | None
    outputs: Sequence[tuple[str, bool]]  # names, and whether as binary data


class InferenceV2Dialect:
    """The Dialect of the Open Inference Protocol for one version, under the name of one variant."""

    def __init__(self, model: ServedModel, variant: str, most_rows: int) -> None:
        self._schema, self._orders = model.schema, Orders(model.schema, most_rows)
        self._most_rows = most_rows
        self._request = msgspec.json.Decoder(_Request).decode
        self._encode = msgspec.json.Encoder().encode
        about = {
            "model_name": model.name,
            "model_version": str(model.version),
            "parameters": {"variant": variant},
        }
        self._about = self._encode(about)[1:-1]
        self._kind = kind_of(model.described["classes"])
        self._plans: dict[tuple[tuple[str, str], ...], Placed] = {}
        self._all = [output["name"] for output in outputs_of(model)]
        self._by_default = _Asked(None, [(name, False) for name in self._all])

    def read(self, body: bytes, headers: Headers) -> Reading:
        try:
            length = headers.get(HEADER_LENGTH)
            tail = memoryview(b"")
            if length is not None:
                body, tail = _split(body, length)
            request = decode(self._request, body)
            return Reading(self._rows(request.inputs, tail), self._asked(request))
        except Problem as e:
            raise Refusal.of(e, "/v2") from e

    def write(self, reading: Reading, said: Said) -> tuple[bytes, Sent]:
        asked = cast("_Asked", reading.form)
        told, binaries = [], []
        for name, binary in asked.outputs:
            kind, shape, values = self._output(name, said)
            head: dict[str, object] = {"name": name, "datatype": SAID[kind], "shape": shape}
            if binary:
                binaries.append(pack(values, kind))
                head["parameters"] = {"binary_data_size": len(binaries[-1])}
            else:
                head["data"] = values
            told.append(head)
        body = b'{%b,"id":%b,"outputs":%b}' % (
            self._about,
            self._encode(asked.id or said.ids[0]),
            self._encode(told),
        )
        if not any(binary for _, binary in asked.outputs):
            return body, _JSON
        header = (HEADER_LENGTH, b"%d" % len(body))
        return body + b"".join(binaries), [(b"content-type", b"application/octet-stream"), header]

    def _output(self, name: str, said: Said) -> tuple[type, list[int], Sequence[Any]]:
        """Return type, shape and flat values of an output."""
        values, shares = said.answers
        count = len(values)
        name = _MLSERVER.get(name, name)
        if name == "prediction":
            return self._kind, [count], as_kind(values, self._kind)
        if name == "id":
            return str, [count], said.ids
        if shares is None:  # a classifier that said no probabilities
            return float, [count, 0], []
        return float, [count, len(shares[0])], list(chain.from_iterable(shares))

    def _asked(self, request: _Request) -> _Asked:
        binary = request.parameters is not None and request.parameters.binary_data_output
        if not request.outputs:
            if not binary and request.id is None:
                return self._by_default
            return _Asked(request.id, [(name, binary) for name in self._all])
        outputs = []
        for at, output in enumerate(request.outputs):
            if _MLSERVER.get(output.name, output.name) not in self._all:
                said = f"there is no output '{output.name}'; there are {', '.join(self._all)}"
                raise misfit(said, pointer("outputs", at, "name"), None, None)
            own = None if output.parameters is None else output.parameters.binary_data
            outputs.append((output.name, binary if own is None else own))
        return _Asked(request.id, outputs)

    def _rows(self, tensors: list[Tensor], tail: memoryview) -> list[Row]:
        if not tensors:
            raise misfit("Expected at least one tensor", "/inputs", None, None)
        wide = len(self._schema.names)
        shape = tensors[0].shape
        if shape and shape[0] > self._most_rows:
            raise too_many(self._most_rows)
        if len(tensors) == 1 and len(shape) == 2 and shape[1] == wide:
            return self._from_matrix(tensors[0], tail)
        placed = self._placed(tensors)
        count = shape[0] if shape else 0
        shapes = ([count], [count, 1])
        columns = []
        for at, tensor in enumerate(tensors):
            if tensor.shape not in shapes:
                said = f"Expected [{count}] or [{count}, 1], got {tensor.shape}"
                raise misfit(said, f"/inputs/{at}/shape", None, tensor.name)
            values: Sequence[Any] | None = tensor.data
            if (  # all but what most send
                not values
                or len(values) != count
                or tensor.parameters is not None
                or type(values[0]) is list
            ):
                values, tail = read_values(tensor, at, count, tail)
            columns.append(values)
        _check_end(tail)
        return placed.convert(list(zip(*columns, strict=True)), _in_columns)

    def _from_matrix(self, tensor: Tensor, tail: memoryview) -> list[Row]:
        for column in self._schema.columns:
            _check_datatype(tensor, 0, column["type"], str(column["name"]))
        count, wide = tensor.shape
        nested = bool(tensor.data) and isinstance(cast("list[Any]", tensor.data)[0], list)
        values, tail = read_values(tensor, 0, count * wide, tail)
        _check_end(tail)

        def place(row: int, at: int | None) -> str:
            where = (row, at) if nested else (row * wide + (at or 0),)
            return pointer("inputs", 0, "data", *where)

        return self._orders.own.convert(list(zip(*[iter(values)] * wide, strict=True)), place)

    def _placed(self, tensors: list[Tensor]) -> Placed:
        """Return what puts the columns in order; each combination of them is checked once."""
        key = tuple([(tensor.name, tensor.datatype) for tensor in tensors])
        found = self._plans.get(key)
        if found is None:
            types = {str(column["name"]): column["type"] for column in self._schema.columns}
            for at, (name, _) in enumerate(key):
                if name not in types:
                    said = f"the model has no column '{name}'"
                    raise misfit(said, f"/inputs/{at}/name", None, None)
                _check_datatype(tensors[at], at, types[name], name)
            found = self._orders.of(tuple([name for name, _ in key]))
            if len(self._plans) >= MOST_ORDERS:
                self._plans.clear()
            self._plans[key] = found
        return found


def inputs_of(model: ServedModel) -> list[dict[str, Any]]:
    """Return the metadata of the tensors that a model takes."""
    return [
        {
            "name": str(column["name"]),
            "datatype": DATATYPES[column["type"]],
            "shape": [-1],
            "parameters": {
                "type": column["type"],
                "required": bool(column.get("required", True)),
            },
        }
        for column in model.schema.columns
    ]


def outputs_of(model: ServedModel) -> list[dict[str, Any]]:
    """Return the metadata of the tensors that a model answers."""
    labels = model.described["classes"]
    told: list[dict[str, Any]] = [
        {"name": "prediction", "datatype": SAID[kind_of(labels)], "shape": [-1]}
    ]
    if labels is not None:
        about = {"classes": list(model.classes or ())}
        shape = [-1, len(labels)]
        told.append(
            {"name": "probabilities", "datatype": "FP64", "shape": shape, "parameters": about}
        )
    return [*told, {"name": "id", "datatype": "BYTES", "shape": [-1]}]


def _split(body: bytes, length: bytes) -> tuple[bytes, memoryview]:
    """Return the JSON and the binary data behind it.

    Raises:
        Problem: 400, the header is no length of a part of the body.
    """
    if not length.isdigit() or len(length) > 18 or int(length) > len(body):
        said = f"{HEADER_LENGTH.decode()} is not the length of a part of the body"
        raise Problem(400, "malformed-header", "The body cannot be taken apart", said)
    return body[: int(length)], memoryview(body)[int(length) :]


def _check_end(tail: memoryview) -> None:
    if len(tail):
        said = f"{len(tail):,} bytes of binary data belong to no tensor"
        raise Problem(400, "malformed-tensor", "The body cannot be taken apart", said)


def _check_datatype(tensor: Tensor, at: int, kind: str, name: str) -> None:
    if tensor.datatype not in _TAKES[kind]:
        known = ", ".join(sorted(_TAKES[kind]))
        said = f"{tensor.datatype[:20]} cannot be '{name}', a {kind}; send {known}"
        raise misfit(said, f"/inputs/{at}/datatype", None, name)


def _in_columns(row: int, at: int | None) -> str:
    return "/inputs" if at is None else f"/inputs/{at}/data/{row}"


if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect

    def _fits(model: ServedModel) -> Dialect:
        return InferenceV2Dialect(model, "champion", 1)
