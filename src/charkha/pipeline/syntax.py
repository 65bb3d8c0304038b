"""Python source as the cache sees it: its meaning in bytes, and the names that it takes from outside.

Two sources that differ in comments, formatting or docstrings have the same bytes. Names are resolved
by the rules of Python's scopes (reference manual, section 4.2.2), so that a local variable is not
taken for the module constant of the same name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Chain = tuple[str, ...]  # ("helpers", "scale") for helpers.scale

_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_IMPORTERS = ("import_module", "__import__")
_NO_MEANING = frozenset({"type_comment", "kind"})  # a comment; the u of u"text"


def meaning(node: ast.AST, out: list[str] | None = None) -> str:
    """Return a text that is equal for two nodes exactly when they mean the same.

    Fields that are empty are left out, so that a Python version which adds an optional field to a
    node does not change what the same source means.
    """
    parts: list[str] = [] if out is None else out
    parts.append(type(node).__name__)
    parts.append("(")
    for field in node._fields:
        if field in _NO_MEANING:
            continue
        value = getattr(node, field, None)
        if value is None and not isinstance(node, ast.Constant):
            continue
        if field == "body" and isinstance(node, _DOCUMENTED):
            value = without_docstring(node)
        if value == []:
            continue
        parts.append(field + "=")
        _write(value, parts)
    parts.append(")")
    return "".join(parts) if out is None else ""


def _write(value: object, parts: list[str]) -> None:
    if isinstance(value, ast.AST):
        meaning(value, parts)
    elif isinstance(value, list):
        parts.append("[")
        for item in value:
            _write(item, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(f"{type(value).__name__}:{value!r};")


def without_docstring(node: ast.Module | Definition) -> list[ast.stmt]:
    """Return the body of a module, function or class after its docstring."""
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return node.body


def outer_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[Chain, ast.AST]]:
    """Yield what the nodes read from the module around them, as chains of attributes.

    `helpers.scale(x).real` inside a function that binds x yields ("helpers", "scale").
    """
    for node in nodes:
        yield from _reads(node, frozenset())


def imports_within(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements anywhere inside of a definition."""
    return (n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom))


def imported_by_name(nodes: Iterable[ast.AST]) -> Iterator[str | None]:
    """Yield the module's name of each import_module("…"); None where it is computed."""
    for node in nodes:
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and _last_name(call.func) in _IMPORTERS:
                match call.args:
                    case [ast.Constant(value=str(name)), *_]:
                        yield name
                    case _:
                        yield None


def _last_name(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


def _reads(node: ast.AST, local: frozenset[str]) -> Iterator[tuple[Chain, ast.AST]]:
    if isinstance(node, ast.Name | ast.Attribute):
        chain = attribute_chain(node)
        if chain is not None:
            if chain[0] not in local and isinstance(_root(node).ctx, ast.Load):
                yield chain, node
            return
    if isinstance(node, _SCOPES):
        yield from _reads_of_function(node, local)
    elif isinstance(node, ast.ClassDef):
        yield from _reads_of_class(node, local)
    elif isinstance(node, _COMPREHENSIONS):
        first = node.generators[0].iter  # evaluated outside, where the targets are not yet bound
        yield from _reads(first, local)
        inner = local | {name for comp in node.generators for name in _targets(comp.target)}
        yield from _reads_of_children(node, inner)
    else:
        yield from _reads_of_children(node, local)


def _reads_of_children(node: ast.AST, local: frozenset[str]) -> Iterator[tuple[Chain, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        yield from _reads(child, local)


def _reads_of_class(node: ast.ClassDef, local: frozenset[str]) -> Iterator[tuple[Chain, ast.AST]]:
    for part in (*node.decorator_list, *node.bases, *node.keywords):
        yield from _reads(part, local)
    for part in node.body:  # what the body binds hides no outer name: `rate = rate` reads that one
        yield from _reads(part, local)


def _reads_of_function(
    node: Function | ast.Lambda, local: frozenset[str]
) -> Iterator[tuple[Chain, ast.AST]]:
    arguments = node.args
    outside: list[ast.AST] = [*arguments.defaults, *(d for d in arguments.kw_defaults if d)]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a]
    outside += [a.annotation for a in every if a.annotation]
    if not isinstance(node, ast.Lambda):
        outside += [*node.decorator_list, *([node.returns] if node.returns else [])]
    for part in outside:
        yield from _reads(part, local)
    body = [node.body] if isinstance(node, ast.Lambda) else without_docstring(node)
    inner = (local | {a.arg for a in every} | frozenset(bindings(body))) - _declared_global(body)
    for part in body:
        yield from _reads(part, inner)


def bindings(body: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names that these statements bind in their own scope."""
    for node in body:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue  # what it binds inside is its own
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (a.asname or a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, _COMPREHENSIONS):  # only := reaches out of one
            yield from (
                n.target.id
                for n in ast.walk(node)
                if isinstance(n, ast.NamedExpr) and isinstance(n.target, ast.Name)
            )
            continue
        yield from bindings(ast.iter_child_nodes(node))


def _declared_global(body: Iterable[ast.AST]) -> frozenset[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.Global):
            names.update(node.names)
        elif not isinstance(node, (*_SCOPES, ast.ClassDef)):
            names |= _declared_global(ast.iter_child_nodes(node))
    return frozenset(names)


def _targets(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def attribute_chain(node: ast.AST) -> Chain | None:
    """Return ("a", "b") for the expression a.b; None where it starts at something nameless."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return (node.id, *reversed(names))


def _root(node: ast.Name | ast.Attribute) -> ast.Name:
    inner: ast.AST = node
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    assert isinstance(inner, ast.Name)  # noqa: S101  # the caller has its chain
    return inner
