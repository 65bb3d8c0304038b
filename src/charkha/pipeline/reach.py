"""Which steps a parameter of a pipeline can reach, as the pipeline's own code says.

A parameter that stands only among the arguments of calls of steps reaches these steps. One with
which the pipeline does anything else (a variable, an `if`, a call of something else) may reach any.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from charkha.pipeline.steps import Step, reference

if TYPE_CHECKING:
    from charkha.pipeline.graph import Graph
    from charkha.pipeline.steps import Pipeline


def reached(pipeline: Pipeline[Any, Any], graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return for each step of the graph the parameters that can reach it, sorted."""
    uses = _uses(pipeline)
    return {
        name: tuple(
            sorted(
                parameter
                for parameter in pipeline.signature.parameters
                if uses is None or {None, node.function} & uses.get(parameter, set())
            )
        )
        for name, node in graph.nodes.items()
    }


def _uses(pipeline: Pipeline[Any, Any]) -> dict[str, set[str | None]] | None:
    """Return the functions of steps that get each parameter; None for whatever else gets it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(pipeline.function)))
    except (OSError, TypeError, SyntaxError):
        return None
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef):
        return None
    code = getattr(pipeline.function, "__code__", None)
    local = set(getattr(code, "co_varnames", ()))
    known = getattr(pipeline.function, "__globals__", {})
    names = {name: value for name, value in known.items() if name not in local}
    uses: dict[str, set[str | None]] = {}
    for statement in function.body:
        for name, owner in _names(statement, None, names):
            if name in pipeline.signature.parameters:
                uses.setdefault(name, set()).add(owner)
    return uses


def _names(
    node: ast.AST, owner: str | None, names: Mapping[str, object]
) -> Iterator[tuple[str, str | None]]:
    """Yield every name below a node, with the function of the innermost step called with it."""
    if isinstance(node, ast.Name):
        yield node.id, owner
    if isinstance(node, ast.NamedExpr):
        owner = None  # what it is bound to may go anywhere
    if isinstance(node, ast.Call) and (called := _step(node.func, names)) is not None:
        yield from _names(node.func, called, names)
        for argument in (*node.args, *node.keywords):
            yield from _names(argument, called, names)
        return
    for inner in ast.iter_child_nodes(node):
        yield from _names(inner, owner, names)


def _step(node: ast.expr, names: Mapping[str, object]) -> str | None:
    """Return the function of the step that an expression calls: `fit`, `steps.fit`, `fit.each(…)`."""
    if isinstance(node, ast.Call):
        return _step(node.func, names) if _is_each(node.func) else None
    if _is_each(node) and isinstance(node, ast.Attribute):
        return _step(node.value, names)
    found = _value(node, names)
    return reference(found.function) if isinstance(found, Step) else None


def _is_each(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "each"


def _value(node: ast.expr, names: Mapping[str, object]) -> object:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, names), node.attr, None)
    return None
