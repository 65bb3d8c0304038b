"""A pipeline as plain data: nodes, where their arguments come from, and nothing that is alive.

An argument is a binding, one of five JSON shapes:

    {"value": 0.3}                             a literal, in the form of the JSON codec
    {"step": "split", "output": "train"}       what another step returned
    {"source": "charkha.…:Dataset", …}         a value from outside (charkha.pipeline.values.Source)
    {"list": [binding, …]}                     a list of bindings
    {"dict": {"name": binding, …}}             a dict of bindings
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from charkha.errors import ProjectError

Binding = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a step is to be run; none of it is part of what the step's result depends on."""

    retries: int = 0
    retry_wait_s: float = 0.0
    timeout_s: float | None = None
    cpu: float | None = None
    memory: str | None = None  # "2GB"
    gpu: float | None = None
    group: str | None = None  # steps of one group can later share one container
    cache: bool = True


@dataclass(frozen=True, kw_only=True)
class Node:
    """One step in a graph."""

    name: str
    function: str  # module:qualname
    arguments: dict[str, Binding]
    each: dict[str, Binding] = field(default_factory=dict)  # fan-out: lists, walked side by side
    outputs: tuple[str, ...] = ("result",)
    env: tuple[str, ...] = ()  # environment variables that it declares
    options: Options = Options()

    def needs(self) -> Iterator[str]:
        """Yield the names of the steps whose outputs this one takes."""
        for binding in (*self.arguments.values(), *self.each.values()):
            yield from _steps_in(binding)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A traced pipeline with the parameters it was traced with."""

    pipeline: str  # module:qualname
    params: dict[str, object]
    nodes: dict[str, Node]

    def as_json(self) -> dict[str, object]:
        nodes = {n: {**vars(node), "options": vars(node.options)} for n, node in self.nodes.items()}
        return {"pipeline": self.pipeline, "params": self.params, "nodes": nodes}

    @staticmethod
    def from_json(kept: Mapping[str, Any]) -> Graph:
        """Return the graph that `as_json` described."""
        nodes = {
            name: Node(
                **{
                    **node,
                    "outputs": tuple(node["outputs"]),
                    "env": tuple(node["env"]),
                    "options": Options(**node["options"]),
                }
            )
            for name, node in kept["nodes"].items()
        }
        return Graph(pipeline=kept["pipeline"], params=kept["params"], nodes=nodes)

    def sources(self) -> Iterator[Binding]:
        """Yield every source binding, once for each place where it is used."""
        for node in self.nodes.values():
            for binding in (*node.arguments.values(), *node.each.values()):
                yield from _sources_in(binding)

    def order(self) -> list[str]:
        """Return the steps' names so that each stands after what it needs.

        Raises:
            ProjectError: a step needs one that is not there, or itself by some way round.
        """
        missing = {name: set(node.needs()) for name, node in self.nodes.items()}
        for name, needs in missing.items():
            if unknown := sorted(needs - missing.keys()):
                raise ProjectError(
                    f"reads {unknown[0]!r}, which no step makes",
                    where=f"step {name!r}",
                    fix=f"the steps of this pipeline are: {', '.join(missing)}",
                )
        dependents = self.dependents()
        ready = deque(name for name, needs in missing.items() if not needs)
        done: list[str] = []
        while ready:
            done.append(name := ready.popleft())
            del missing[name]
            for other in dependents[name]:
                missing[other].discard(name)
                if not missing[other]:
                    ready.append(other)
        if missing:
            raise ProjectError(
                f"these steps wait for each other: {' → '.join(_cycle(missing))}",
                where=self.pipeline,
                fix="take one of these inputs out",
            )
        return done

    def dependents(self) -> dict[str, list[str]]:
        """Return for each step the steps that take one of its outputs."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, node in self.nodes.items():
            for need in dict.fromkeys(node.needs()):
                found[need].append(name)
        return found


def _cycle(waiting: dict[str, set[str]]) -> list[str]:
    walk = [next(iter(waiting))]
    while (nearest := next(n for n in sorted(waiting[walk[-1]]) if n in waiting)) not in walk:
        walk.append(nearest)
    return [*walk[walk.index(nearest) :], nearest]


def _leaves(binding: Binding) -> Iterator[Binding]:
    if isinstance(items := binding.get("list"), list):
        for item in items:
            yield from _leaves(item)
    elif isinstance(named := binding.get("dict"), dict):
        for item in named.values():
            yield from _leaves(item)
    else:
        yield binding


def _steps_in(binding: Binding) -> Iterator[str]:
    return (str(leaf["step"]) for leaf in _leaves(binding) if "step" in leaf)


def _sources_in(binding: Binding) -> Iterator[Binding]:
    return (leaf for leaf in _leaves(binding) if "source" in leaf)
