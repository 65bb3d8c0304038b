"""What a step's result depends on in the code: everything of ours that it reaches, and what of others.

From the function's definition the names are followed: through helper modules, `from x import y`,
re-exports, base classes, decorators and constants, as far as the project's own files go. Where a
name leaves the project, the distribution that it comes from is noted. A constant of plain data
counts by its value (an equal value is no change), anything else by the statements that make it.

What no reader of source can see (getattr by a computed name, a module found by importlib) is seen
while the step runs: charkha.pipeline.observe.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from types import FunctionType

from charkha.errors import ProjectError
from charkha.pipeline import syntax
from charkha.pipeline.constants import Contents, digest, readable
from charkha.pipeline.modules import OURS, Module, Sources
from charkha.pipeline.syntax import Chain, Definition

_DEEPEST = 5_000  # calls; each level of a tree takes two
_LOOKS_AROUND = frozenset(
    {"eval", "exec", "globals", "vars", "locals"}
)  # at names that it makes up


class Closure:
    """Everything that was reached from one function."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}  # "function helpers.scale" -> digest (a constant: "=0.1")
        self.packages: set[str] = set()  # top-level names of what is imported from elsewhere
        self.files: set[str] = set()
        self.spans: dict[str, list[tuple[int, int]]] = {}  # file -> lines that count as code


def closure(function: Callable[..., object], sources: Sources) -> Closure:
    """Return everything in the code that the function's result depends on.

    Raises:
        ProjectError: the source of the function cannot be read.
    """
    walk = _Walk(sources)
    module = sources.module(function.__module__)
    if module is None and function.__module__ == "__main__":
        raise ProjectError(
            f"{function.__qualname__} was typed at a prompt or into a notebook's cell",
            where="__main__",
            fix="put it into a file of the project and import it",
        )
    if module is None:  # a step that ships with a library counts by that library's version
        walk.found.packages.add(function.__module__.partition(".")[0])
        return walk.found
    names = function.__qualname__.split(".<locals>.")
    node = module.definition(names[0].split("."))
    if node is None:
        raise ProjectError(
            f"{function.__qualname__} is not in the file",
            where=module.path,
            fix="define steps in a file, as functions of a module",
        )
    with _deep_trees():
        walk.definition(module, names[0], [node], own_step=len(names) == 1)
        if len(names) > 1:
            walk.free_variables(module, function)
        walk.run()
    return walk.found


@contextmanager
def _deep_trees() -> Iterator[None]:
    """Let a tree be as deep as Python's own parser does: `a + b + …` is one level for each sum."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def module_digest(name: str, sources: Sources) -> str | None:
    """Return the digest of a whole module of the project; None where it is not the project's."""
    module = sources.module(name)
    return None if module is None else digest(syntax.meaning(module.tree))


class _Walk:
    """The search: definitions and constants still to be looked into, and what was found."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.found = Closure()
        self._todo: list[tuple[Module, list[ast.AST]]] = []
        self._effects_seen: set[str] = set()
        self._names_seen: set[tuple[str, Chain]] = set()

    def run(self) -> None:
        while self._todo:
            module, nodes = self._todo.pop()
            self._follow(module, nodes)

    def definition(
        self,
        module: Module,
        name: str,
        nodes: list[Definition],
        guards: list[ast.expr] | None = None,
        *,
        own_step: bool = False,
    ) -> None:
        """Count every definition of a name, with the conditions under which they stand."""
        kind = "class" if isinstance(nodes[-1], ast.ClassDef) else "function"
        bare: list[ast.AST] = [
            _without_our_decorators(n, module, drop_defaults=own_step) for n in nodes
        ]
        bare += guards or []
        if not own_step:
            bare += [n for n in module.decorated_by(name) if n not in nodes]
        if self._add(f"{kind} {module.name}.{name}", bare, module):
            self._follow_later(module, bare)
            self._registered(module, name)

    def name(self, module: Module, chain: Chain) -> None:
        """Resolve a chain of attributes that starts at a name of the module."""
        if (module.name, chain) in self._names_seen:
            return
        self._names_seen.add((module.name, chain))
        head, rest = chain[0], chain[1:]
        statements = module.bound.get(head, [])
        if not statements:
            self._star(module, chain)
            return
        guards = [guard for binding in statements for guard in binding.guards]
        definitions = [b.node for b in statements if isinstance(b.node, Definition)]
        if definitions:
            self.definition(module, head, definitions, guards)
            if "__subclasses__" in rest:
                self._subclasses(module, head)
        imports = [b.node for b in statements if isinstance(b.node, ast.Import | ast.ImportFrom)]
        for node in imports:
            self._import(module, node, head, rest)
        if imports and guards:
            part = f"conditions of the import {module.name}.{head}"
            if self._add(part, list(guards), module):
                self._follow_later(module, list(guards))
        constant = [b.node for b in statements if b.node not in [*definitions, *imports]]
        if constant:
            self._constant(module, head, constant, guards)

    def outside_or_module(self, name: str, rest: Chain) -> None:
        """Resolve the rest of a chain in a module of which only the full name is known."""
        module = self.sources.module(name)
        if module is None and rest and self.sources.is_namespace(name):
            self.outside_or_module(f"{name}.{rest[0]}", rest[1:])
        elif module is None:
            self._leave(name)
        elif rest and (module.defines(rest[0]) or module.stars):
            self.effects(module)
            self.name(module, rest)
        elif rest and self.sources.module(f"{name}.{rest[0]}") is not None:
            self.effects(module)
            self.outside_or_module(f"{name}.{rest[0]}", rest[1:])
        else:
            self._whole(module)

    def effects(self, module: Module) -> None:
        """Count what a module does when it is imported, once it is reached at all."""
        if module.name in self._effects_seen:
            return
        self._effects_seen.add(module.name)
        package = module.name.rpartition(".")[0]
        for name in (package, *module.for_effect):
            if name and (other := self.sources.module(name)) is not None:
                self.effects(other)
        if module.effects:
            nodes: list[ast.AST] = [*module.effects]
            self._add(f"module-level code of {module.name}", nodes, module)
            self._follow_later(module, nodes)

    def _follow(self, module: Module, nodes: list[ast.AST]) -> None:
        self.effects(module)
        local: dict[str, list[ast.Import | ast.ImportFrom]] = {}
        for node in nodes:
            for statement in syntax.imports_within(node):
                for alias in statement.names:
                    head = alias.asname or alias.name.split(".")[0]
                    local.setdefault(head, []).append(statement)
        for statements in local.values():  # imported inside: local to it, so no outer name
            for statement in statements:
                self._import_statement(module, statement, nodes)
        for chain, _ in syntax.outer_names(nodes):
            self.name(module, chain)
            if chain[0] in _LOOKS_AROUND and chain[0] not in module.bound:
                self._whole(module)
        self._imported_by_name(module, nodes)

    def _imported_by_name(self, module: Module, nodes: list[ast.AST]) -> None:
        """Follow import_module("name"); where the name is computed it can be any that is loaded."""
        for name in syntax.imported_by_name(nodes):
            if name is not None:
                self.outside_or_module(name, ())
                continue
            for loaded in self.sources.loaded():
                if loaded != module.name and (other := self.sources.module(loaded)) is not None:
                    self._whole(other)

    def _import_statement(
        self, module: Module, node: ast.Import | ast.ImportFrom, within: list[ast.AST]
    ) -> None:
        for alias in node.names:
            head = alias.asname or alias.name.split(".")[0]
            if alias.name == "*":
                self.outside_or_module(module.absolute(node), ())
                continue
            chains = [c[1:] for part in within for c in _chains_from(part, head)] or [()]
            for rest in chains:
                self._import(module, node, head, rest)

    def _import(
        self, module: Module, node: ast.Import | ast.ImportFrom, head: str, rest: Chain
    ) -> None:
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) != head:
                continue
            if isinstance(node, ast.ImportFrom):
                self.outside_or_module(module.absolute(node), (alias.name, *rest))
            elif alias.asname:
                self.outside_or_module(alias.name, rest)
            else:  # import a.b binds a; a.b.c then reads c of a.b
                self.outside_or_module(head, rest)

    def _constant(
        self, module: Module, name: str, statements: list[ast.stmt], guards: list[ast.expr]
    ) -> None:
        part = f"constant {module.name}.{name}"
        if part in self.found.parts:
            return
        loaded = vars(sys.modules[module.name]) if module.name in sys.modules else {}
        if name in loaded and self._by_value(part, module, loaded[name]):
            return
        nodes: list[ast.AST] = [*dict.fromkeys(statements)]
        nodes += [e for e in module.touching(name) if e not in nodes]
        nodes += guards
        if self._add(part, nodes, module):
            self._follow_later(module, nodes)

    def _by_value(self, part: str, module: Module, value: object) -> bool:
        """Count a value by what it holds and follow the functions in it, if it can be told."""
        contents = Contents(self.sources.root, lambda n: self.sources.module(n) is not None)
        text = contents.text(value)
        if text is None:
            return False
        self.found.parts[part] = readable(value, text)
        self.found.files.add(module.path)
        for home, name in contents.references:
            other = self.sources.module(home)
            if other is None:
                self._leave(home)
            else:
                self.effects(other)
                self.name(other, (name,))
        return True

    def _registered(self, module: Module, name: str) -> None:
        """Follow what a function or class was told of elsewhere, in modules that are loaded."""
        value = getattr(sys.modules.get(module.name), name, None)
        told = vars(value) if isinstance(value, FunctionType) else {}
        registry = told.get("registry")
        if "dispatch" in told and isinstance(registry, Mapping):  # functools.singledispatch
            self._by_value(f"implementations of {module.name}.{name}", module, dict(registry))
        elif isinstance(value, type) and "__init_subclass__" in vars(value):
            self._subclasses(module, name)

    def _subclasses(self, module: Module, name: str) -> None:
        value = getattr(sys.modules.get(module.name), name, None)
        if isinstance(value, type):
            known: list[type] = type.__subclasses__(value)
            self._by_value(f"subclasses of {module.name}.{name}", module, set(known))

    def free_variables(self, module: Module, function: Callable[..., object]) -> None:
        """Count the values that a function inside of a function closes over."""
        code, cells = function.__code__, function.__closure__ or ()
        for name, cell in zip(code.co_freevars, cells, strict=True):
            with suppress(ValueError):  # a cell that is still empty
                self._by_value(f"variable {module.name}.{name}", module, cell.cell_contents)

    def _whole(self, module: Module) -> None:
        if self._add(f"module {module.name}", [module.tree], module):
            self._follow_later(module, list(module.tree.body))

    def _follow_later(self, module: Module, nodes: list[ast.AST]) -> None:
        self._todo.append((module, nodes))

    def _star(self, module: Module, chain: Chain) -> None:
        for statement in module.stars:
            inner = self.sources.module(module.absolute(statement))
            if inner is None:
                self._leave(module.absolute(statement))
            elif chain[0] in inner.bound or inner.stars:
                self.effects(inner)
                self.name(inner, chain)

    def _leave(self, name: str) -> None:
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names:
            self.found.packages.add(top)

    def _add(self, part: str, nodes: list[ast.AST], module: Module) -> bool:
        if part in self.found.parts:
            return False
        self.found.parts[part] = digest("".join(syntax.meaning(node) for node in nodes))
        self.found.files.add(module.path)
        spans = self.found.spans.setdefault(module.path, [])
        spans += [_lines(node) for node in nodes]
        return True


def _lines(node: ast.AST) -> tuple[int, int]:
    """Return the first and the last line of a node, decorators included."""
    if isinstance(node, ast.Module):
        return 1, sys.maxsize
    starts = [node, *getattr(node, "decorator_list", [])]
    return min(n.lineno for n in starts), node.end_lineno  # type: ignore[attr-defined]


def _without_our_decorators(node: Definition, module: Module, *, drop_defaults: bool) -> Definition:
    """Return the definition without @step(…): how a step is run is not what it computes.

    The defaults of a step's own parameters go too: the values that it is given count as parameters.
    """
    kept = [d for d in node.decorator_list if not _is_ours(d, module)]
    if isinstance(node, ast.ClassDef) or (
        len(kept) == len(node.decorator_list) and not drop_defaults
    ):
        return node
    bare = copy(node)
    bare.decorator_list = kept
    if drop_defaults:
        bare.args = copy(node.args)
        bare.args.defaults, bare.args.kw_defaults = [], []
    return bare


def _is_ours(decorator: ast.expr, module: Module) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    head = next((n.id for n in ast.walk(target) if isinstance(n, ast.Name)), None)
    for binding in module.bound.get(head or "", []):
        node = binding.node
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == OURS:
            return True
        if isinstance(node, ast.Import) and any(a.name == OURS for a in node.names):
            return True
    return False


def _chains_from(node: ast.AST, head: str) -> Iterator[Chain]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute):
            chain = syntax.attribute_chain(inner)
            if chain and chain[0] == head:
                yield chain
