"""Which column of a signature feeds which input of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence

from charkha.errors import Damaged

Shape = Sequence[object]  # (rows, width); a width that is unknown is a name or None


def fed_by(inputs: Sequence[tuple[str, Shape]], columns: Sequence[str]) -> list[str] | None:
    """Return the column for each input in order; None where one matrix of all columns is asked for.

    Converters keep the order of the columns but not their names: they rename what is no identifier
    (`Lot Area`, `größe`).

    Raises:
        Damaged: the graph was not made for these columns.
    """
    if len(inputs) == len(columns) and all(shape[-1] == 1 for _, shape in inputs):
        return list(columns)
    if all(name in columns and shape[-1] == 1 for name, shape in inputs):  # some are not used
        return [name for name, _ in inputs]
    if len(inputs) == 1 and inputs[0][1][-1] in (len(columns), None):
        return None
    raise Damaged(
        f"the ONNX twin takes {[name for name, _ in inputs]}, the signature has {list(columns)}",
        key="model.onnx",
        fix="register the model again",
    )
