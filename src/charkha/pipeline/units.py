"""A step that is about to run or to be reused: its arguments resolved, its parts, its key.

The graph says where an argument comes from; here it says what it is. The shapes are those of
`charkha.pipeline.graph`, with {"artifact": …} in the place of {"step": …}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

from charkha.errors import ProjectError
from charkha.pipeline.artifacts import Artifact, Artifacts
from charkha.pipeline.code import Closure
from charkha.pipeline.distributions import Distributions
from charkha.pipeline.graph import Binding, Node
from charkha.pipeline.hooks import Hook, value_digest
from charkha.pipeline.observe import World
from charkha.pipeline.reasons import Parts, Reason, key_of
from charkha.pipeline.values import Source

if TYPE_CHECKING:
    from charkha.project import Project

Outputs = dict[str, "Artifact | list[Artifact]"]  # of a step; a list where it was fanned out
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}" + " -O" * sys.flags.optimize


@dataclass(kw_only=True)
class Unit:
    """One call of a step, with everything that it depends on."""

    name: str  # "fit", or "fit[0]" as an element of a fan-out
    node: Node
    arguments: dict[str, Binding]
    parts: Parts
    key: str
    files: list[str] = field(default_factory=list)  # of the code that the parts count
    because: list[Reason] = field(default_factory=list)
    attempt: int = 1
    asked_ns: int = 0  # since 1970, before its sources were fingerprinted

    def task(self) -> dict[str, object]:
        """Return what a process needs to perform it, as JSON."""
        return {
            "step": self.name,
            "function": self.node.function,
            "arguments": self.arguments,
            "outputs": list(self.node.outputs),
            "key": self.key,
            "cache": self.node.options.cache,
            "files": self.files,
            "native": bool(self.parts["distributions"]),
            "asked_ns": self.asked_ns,
        }


def resolve(binding: Binding, outputs: Mapping[str, Outputs]) -> Binding:
    """Return the binding with the outputs of steps in the place of the steps' names."""
    if "step" in binding:
        made = outputs[str(binding["step"])][str(binding["output"])]
        if isinstance(made, list):
            return {"list": [{"artifact": artifact.as_json()} for artifact in made]}
        return {"artifact": made.as_json()}
    if isinstance(items := binding.get("list"), list):
        return {"list": [resolve(item, outputs) for item in items]}
    if isinstance(named := binding.get("dict"), dict):
        return {"dict": {key: resolve(item, outputs) for key, item in named.items()}}
    return dict(binding)


def elements(binding: Binding, artifacts: Artifacts) -> list[Binding]:
    """Return a resolved list's items, each as a binding of its own.

    Raises:
        UserError: it is no list.
    """
    if isinstance(items := binding.get("list"), list):
        return items
    if "artifact" in binding:
        artifact = Artifact.from_json(cast("dict[str, object]", binding["artifact"]))
        found = artifacts.elements(artifact)
        return [
            {"artifact": item.as_json()} if isinstance(item, Artifact) else {"value": item}
            for item in found
        ]
    if "value" in binding:
        return [{"value": item} for item in artifacts.plain_elements(str(binding["value"]))]
    raise ProjectError("is no list", where="each", fix="give each() a list")


def leaves(label: str, binding: Binding) -> Iterator[tuple[str, Binding]]:
    """Yield every leaf of a binding with a name for people: `fits[0]`."""
    if isinstance(items := binding.get("list"), list):
        for i, item in enumerate(items):
            yield from leaves(f"{label}[{i}]", item)
    elif isinstance(named := binding.get("dict"), dict):
        for key, item in named.items():
            inner = key if key.isidentifier() else f"[{json.dumps(key)}]"  # "a.b" is no a, then b
            yield from leaves(f"{label}.{inner}", item)
    else:
        yield label, binding


def revive(description: Mapping[str, object], project: Project) -> Source:
    """Make a source again from its description."""
    module, _, name = str(description["source"]).partition(":")
    kind = cast("type[Source]", getattr(import_module(module), name))
    return kind.revive(dict(description), project)


class UnitMaker:
    """Makes units: asks each source once for what it is now, each function once for its code."""

    def __init__(
        self,
        project: Project,
        distributions: Distributions,
        closure_of: Callable[[str], Closure],
        world: World,
    ) -> None:
        self._project, self._distributions, self._closure_of = project, distributions, closure_of
        self._world = world

    def unit(self, name: str, node: Node, arguments: dict[str, Binding]) -> Unit:
        asked_ns = time.time_ns()
        closure = self._closure_of(node.function)
        parts: Parts = {
            "code": {**closure.parts, **self._read_at_import(closure)},
            "distributions": {p: self._distributions.version(p) for p in sorted(closure.packages)},
            "environment": {v: value_digest(os.environ.get(v)) or "not set" for v in node.env},
            "python": {"": _PYTHON},
            "outputs": {"": ",".join(node.outputs)},
            "parameters": {},
            "inputs": {},
            "sources": {},
        }
        self._add_arguments(parts, arguments)
        return Unit(
            name=name,
            node=node,
            arguments=arguments,
            parts=parts,
            key=key_of(parts),
            files=sorted(closure.files),
            asked_ns=asked_ns,
        )

    def _read_at_import(self, closure: Closure) -> dict[str, str]:
        words = {"files": "file", "env": "environment variable"}
        return {
            f"{words[kind]} {name} (read at import)": self._world.now(kind, name) or "not there"
            for kind, name in sorted(Hook.at_import.within(closure.spans))
        }

    def _add_arguments(self, parts: Parts, arguments: dict[str, Binding]) -> None:
        sources: list[tuple[str, Binding]] = []
        given: dict[str, str] = {}
        for argument, binding in arguments.items():
            for label, leaf in leaves(argument, binding):
                if "value" in leaf:
                    parts["parameters"][label] = str(leaf["value"])
                elif "artifact" in leaf:
                    artifact = Artifact.from_json(cast("dict[str, object]", leaf["artifact"]))
                    parts["inputs"][label] = artifact.identity
                    given[label] = artifact.digest
                    self._add_class(parts, artifact.type)
                else:
                    sources.append((label, leaf))
        for label, description in sources:
            source = revive(description, self._project)
            kind = str(description["source"]).rpartition(":")[2].lower()
            title = source.name if source.name.startswith(kind) else f"{kind} {source.name}"
            parts["inputs"][label] = title
            parts["sources"][title] = source.fingerprint(given)
            description.update(source.describe())  # what was counted is what a worker will load

    def _add_class(self, parts: Parts, reference: str) -> None:
        """Count the code of an input's class: its methods are called without naming it."""
        module = reference.partition(":")[0]
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("", "charkha"):
            return
        if self._world.now("modules", module) is None:
            parts["distributions"][top] = self._distributions.version(top)
            return
        closure = self._closure_of(reference)
        parts["code"] = {**closure.parts, **parts["code"]}
        for package in closure.packages:
            parts["distributions"][package] = self._distributions.version(package)
