"""The project's own source files, parsed: which statements bind a name, which only have effects."""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import dataclass, field

from charkha.errors import Bug, ProjectError
from charkha.pipeline import syntax
from charkha.pipeline.syntax import Definition

OURS = "charkha"  # our own code counts by its version, as any other distribution's


@dataclass(frozen=True)
class Binding:
    """One statement of a module that gives a name its value."""

    node: ast.stmt
    guards: tuple[ast.expr, ...]  # the conditions under which it stands


@dataclass(eq=False)
class Module:
    """One source file of the project, parsed."""

    name: str
    path: str
    tree: ast.Module
    bound: dict[str, list[Binding]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)  # statements run for what they do
    _mentions: dict[str, set[str]] = field(default_factory=dict)
    stars: list[ast.ImportFrom] = field(default_factory=list)

    def definition(self, names: list[str]) -> Definition | None:
        """Return the function or class of this qualified name; the last one where it has several."""
        body: list[ast.stmt] = [b.node for b in self.bound.get(names[0], [])]
        found: Definition | None = None
        for name in names:
            found = next(
                (n for n in reversed(body) if isinstance(n, Definition) and n.name == name), None
            )
            if found is None:
                return None
            body = found.body
        return found

    def defines(self, name: str) -> bool:
        """Whether a name is bound here, by more than the import of a module below this package."""
        return any(
            not isinstance(b.node, ast.ImportFrom)
            or self.absolute(b.node) != self.name
            or any(a.asname == name != a.name for a in b.node.names)
            for b in self.bound.get(name, [])
        )

    def touching(self, name: str) -> list[ast.stmt]:
        """Return the top-level statements that may change the object behind a name, in order.

        These are calls with it, also through a function of the module that knows it, compound
        statements that mention it, and definitions with a decorator that is it or knows it.
        """
        knowing = self._knowing(name)
        found: dict[ast.stmt, None] = {}
        for node in (*self.effects, *(b.node for bs in self.bound.values() for b in bs)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            parts = node.decorator_list if isinstance(node, Definition) else [node]
            heads = {chain[0] for chain, _ in syntax.outer_names(parts)}
            if heads & knowing or (name in heads and _may_change(node, name)):
                found[node] = None
        return sorted(found, key=lambda node: node.lineno)

    def decorated_by(self, name: str) -> list[ast.stmt]:
        """Return the definitions with a decorator like `@name.register`."""
        nodes = [b.node for bs in self.bound.values() for b in bs]
        return [
            node
            for node in nodes
            if isinstance(node, Definition)
            for chain, _ in syntax.outer_names(node.decorator_list)
            if chain[0] == name and len(chain) > 1
        ]

    def _knowing(self, name: str) -> set[str]:
        """Return the functions and classes that mention a name, themselves or through others."""
        if not self._mentions:
            for title, bindings in self.bound.items():
                nodes = [b.node for b in bindings if isinstance(b.node, Definition)]
                heads = {chain[0] for chain, _ in syntax.outer_names(nodes)}
                walked = (n for node in nodes for n in ast.walk(node))
                heads |= {g for n in walked if isinstance(n, ast.Global) for g in n.names}
                self._mentions[title] = heads
        found: set[str] = set()
        new = {name}
        while new:
            new = {t for t, heads in self._mentions.items() if heads & new} - found
            found |= new
        return found - {name}

    @property
    def for_effect(self) -> list[str]:
        """The full names of the modules that are imported here and then not mentioned."""
        named = {n.id for n in ast.walk(self.tree) if isinstance(n, ast.Name)}
        found = []
        for title, bindings in self.bound.items():
            for node in (b.node for b in bindings if title not in named):
                if isinstance(node, ast.Import):
                    found += [a.name for a in node.names]
                elif isinstance(node, ast.ImportFrom):
                    found += [f"{self.absolute(node)}.{a.name}" for a in node.names]
        return found

    def absolute(self, node: ast.Import | ast.ImportFrom) -> str:
        """Return the full name of the module that `from … import` names."""
        if isinstance(node, ast.Import):
            raise Bug("an import statement has no module to be relative to")
        if not node.level:
            return node.module or ""
        package = self.package.split(".")
        base = package[: len(package) - (node.level - 1)]
        return ".".join([*base, *([node.module] if node.module else [])])

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        is_package = os.path.basename(self.path) == "__init__.py"
        return self.name if is_package else self.name.rpartition(".")[0]


class Sources:
    """The project's source files: found, read and parsed once."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root) + os.sep
        self._modules: dict[str, Module | None] = {}
        self._namespaces: dict[str, bool] = {}

    def is_ours(self, path: str) -> bool:
        """Whether a file belongs to the project (and not to an environment inside of it)."""
        return path.endswith(".py") and self._is_inside(path)

    def module(self, name: str) -> Module | None:
        """Return the project's module of this name; None where the name leads out of it."""
        if name not in self._modules:
            path = self._find(name)
            self._modules[name] = None if path is None else _parse(name, path)
        return self._modules[name]

    def is_namespace(self, name: str) -> bool:
        """Whether it is a folder of the project without an __init__.py, used as a package."""
        if name not in self._namespaces:
            tail = name.replace(".", os.sep)
            self._namespaces[name] = self.module(name) is None and any(
                os.path.isdir(path := os.path.join(folder, tail)) and self._is_inside(path)
                for folder in sys.path
            )
        return self._namespaces[name]

    def loaded(self) -> list[str]:
        """Return the names of the project's modules that are loaded."""
        found = []
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and self.is_ours(file):
                found.append(name)
        return sorted(found)

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return (
            f"{real}{os.sep}".startswith(self.root)
            and f"{os.sep}site-packages{os.sep}" not in real
            and f"{os.sep}.charkha{os.sep}" not in real
        )

    def _find(self, name: str) -> str | None:
        if name.partition(".")[0] == OURS:
            return None
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None:
            return loaded if self.is_ours(loaded) else None
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        tail = name.replace(".", os.sep)
        for folder in sys.path:
            for path in (
                f"{folder}{os.sep}{tail}.py",
                f"{folder}{os.sep}{tail}{os.sep}__init__.py",
            ):
                if self.is_ours(path) and os.path.isfile(path):
                    return path
        return None


def _parse(name: str, path: str) -> Module:
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError) as e:
        line = getattr(e, "lineno", None)
        raise ProjectError(
            f"cannot be read as Python: {e}",
            where=f"{path}:{line}" if line else path,
            fix="mend the file",
        ) from e
    module = Module(name, path, tree)
    _collect(module, syntax.without_docstring(tree), ())
    return module


def _collect(module: Module, body: list[ast.stmt], guards: tuple[ast.expr, ...]) -> None:
    """Sort the statements of a module by what they are there for."""
    for node in body:
        if isinstance(node, ast.If):
            if not _never_holds(node.test):
                _collect(module, node.body, (*guards, node.test))
            _collect(module, node.orelse, (*guards, node.test))
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            _collect(module, [*node.body, *handlers, *node.orelse, *node.finalbody], guards)
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            module.stars.append(node)
        else:
            names = dict.fromkeys(syntax.bindings([node]))
            for name in names:
                module.bound.setdefault(name, []).append(Binding(node, guards))
            if not names and not isinstance(node, ast.Pass | ast.Global):
                module.effects.append(node)


def _never_holds(test: ast.expr) -> bool:
    """Whether the condition is false in a pipeline: `__name__ == "__main__"`, TYPE_CHECKING."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]):
            return True
    return False


def _may_change(node: ast.stmt, name: str) -> bool:
    """Whether a statement that mentions the name may change what is behind it."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return True
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    inner = (n for part in (*targets, *calls) for n in ast.walk(part))
    return any(isinstance(n, ast.Name) and n.id == name for n in inner)
