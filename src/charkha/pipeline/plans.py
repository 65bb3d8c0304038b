"""A graph as the tasks of an engine: groups made one, what each asks for, what an engine refuses.

A plan is plain data, and the same graph and settings give the same plan, so what is compiled from
it is the same text.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, get_origin, get_type_hints

from charkha.errors import ProjectError
from charkha.pipeline.graph import Graph, Options
from charkha.pipeline.parameters import parsed

if TYPE_CHECKING:
    from charkha.pipeline.steps import Pipeline
    from charkha.project import Project

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, kw_only=True)
class Cannot:
    """What an engine has no way to do."""

    because: str  # "has no scheduler"
    instead: str  # what to type or to change


Ability = Literal["engine", "task"] | Cannot  # who sees to it: the engine, or Charkha in its task


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What an engine does with what a step or a project asks for."""

    retries: Ability
    timeout: Ability
    fan_out: Ability  # "engine": a task for each element; "task": all of them in one
    cpu: Ability
    memory: Ability
    gpu: Ability
    schedule: Ability
    params: Ability  # other values than those that it was compiled with
    look_s: float = 0.5  # from one look at a run that is followed to the next; a server wants more


@dataclass(frozen=True, kw_only=True)
class Task:
    """Steps that an engine runs as one, and what they ask for together."""

    name: str  # the step's, or the group's
    steps: tuple[str, ...]  # in the order of the graph
    needs: tuple[str, ...]  # tasks that come before
    fan_out: bool  # one step, walked over a list
    retries: int
    retry_wait_s: float
    timeout_s: float | None  # None where one of its steps may take as long as it wants
    cpu: float | None
    memory_bytes: int | None
    gpu: float | None


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the pipeline."""

    name: str
    type: (
        str  # "int" | "float" | "bool" | "str" | "list" | "dict", or "json" where none is declared
    )
    default: object  # as this project sets it
    value: object  # of this plan, which may be a run's

    @property
    def text(self) -> str:
        """The value as `--param` reads it: text as it is, unless JSON would read it otherwise."""
        if isinstance(self.value, str) and (self.type == "str" or not _is_json(self.value)):
            return self.value
        return json.dumps(self.value)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an engine compiles."""

    project: str
    environment: str
    pipeline: str  # its own name
    entry: str  # file.py:function, as in charkha.toml
    graph: Graph
    tasks: dict[str, Task]
    parameters: tuple[Parameter, ...] = ()
    usual_shape: str = ""  # that the project's own parameters give; another one is an exception
    schedule: str | None = None  # cron
    timezone: str = "UTC"
    settings: Mapping[str, object] = field(default_factory=dict)  # the engine's own section

    @property
    def shape(self) -> str:
        """What `begin` compares with the graph that other parameters give."""
        return shape_of(self.graph)

    def command(self, *words: str) -> list[str]:
        """Return a command line of Charkha's for this project's environment."""
        chosen = () if self.environment == "local" else ("--env", self.environment)
        return ["charkha", *words, *chosen]


def shape_of(graph: Graph) -> str:
    """Return a digest (12 hex) of a graph's steps, and of who needs whom."""
    shape = {
        name: [sorted(set(node.needs())), bool(node.each), node.options.group]
        for name, node in graph.nodes.items()
    }
    return sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]


def plan(pipeline: Pipeline[Any, Any], project: Project, params: Mapping[str, object]) -> Plan:
    """Return the plan of a pipeline with these parameters.

    Raises:
        ProjectError: the definition is wrong, or a group of steps waits for itself.
    """
    given = parsed(pipeline, {**project.pipeline.params, **params}, project)
    graph = pipeline.trace(given, project)
    usual = _usual(pipeline, project, given)
    return Plan(
        project=project.name,
        environment=project.environment,
        pipeline=pipeline.name,
        entry=project.pipeline.entry,
        graph=graph,
        tasks=tasks_of(graph),
        parameters=tuple(_parameters(pipeline, usual, given)),
        usual_shape=shape_of(graph if usual == given else pipeline.trace(usual, project)),
        schedule=project.pipeline.schedule,
        timezone=project.pipeline.timezone,
    )


def _usual(
    pipeline: Pipeline[Any, Any], project: Project, given: Mapping[str, object]
) -> dict[str, object]:
    """Return the parameters of a run that is given none; those that it could not do without."""
    needed = {
        name: given[name]
        for name, parameter in pipeline.signature.parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return parsed(pipeline, {**needed, **project.pipeline.params}, project)


def tasks_of(graph: Graph) -> dict[str, Task]:
    """Return the tasks of a graph by name, so that each stands after what it needs.

    Raises:
        ProjectError: a group of steps waits for itself, or is called like a step outside of it.
    """
    home = {name: node.options.group or name for name, node in graph.nodes.items()}
    members: dict[str, list[str]] = {}
    for name in graph.order():
        group = home[name]
        if group != name and group in graph.nodes and graph.nodes[group].options.group != group:
            raise ProjectError(
                "is also the name of a step", where=f"group {group!r}", fix="rename the group"
            )
        members.setdefault(group, []).append(name)
    made: dict[str, Task] = {}
    waiting = {
        name: {home[need] for step in steps for need in graph.nodes[step].needs()} - {name}
        for name, steps in members.items()
    }
    needs = {name: tuple(sorted(before)) for name, before in waiting.items()}
    while waiting:
        ready = [name for name, before in waiting.items() if before <= made.keys()]
        if not ready:
            raise _round(waiting, members)
        for name in ready:
            made[name] = _task(graph, name, members[name], needs[name])
            del waiting[name]
    return made


def check(plan: Plan, engine: str, abilities: Abilities) -> None:
    """Refuse what an engine cannot do, before anything is compiled.

    Raises:
        ProjectError: with the step, the reason and a way round.
    """
    for name, node in plan.graph.nodes.items():
        options = node.options
        asked = {
            "retries": options.retries > 0,
            "timeout": options.timeout_s is not None,
            "cpu": options.cpu is not None,
            "memory": options.memory is not None,
            "gpu": bool(options.gpu),
        }
        for what in (name for name, is_asked in asked.items() if is_asked):
            ability = getattr(abilities, what)
            if isinstance(ability, Cannot):
                raise _refused(f"step {name!r}", what, engine, ability)
        if node.each and isinstance(abilities.fan_out, Cannot):
            raise _refused(f"step {name!r}", "each()", engine, abilities.fan_out)
    if plan.schedule is not None and isinstance(abilities.schedule, Cannot):
        raise _refused("[pipeline] schedule", plan.schedule, engine, abilities.schedule)


def memory_bytes(text: str, where: str) -> int:
    """Return how many bytes "2GB" or "512 MiB" are; as a step says it.

    Raises:
        ProjectError: it is no amount of memory.
    """
    found = _MEMORY.fullmatch(text.strip())
    if found is None:
        raise ProjectError(f"{text!r} is no amount of memory", where=where, fix='memory="2GB"')
    number, unit, binary = found.groups()
    power: int = (1024 if binary else 1000) ** _POWERS[unit.upper()]
    return round(float(number) * power)


def _refused(where: str, what: str, engine: str, ability: Cannot) -> ProjectError:
    return ProjectError(
        f"asks for {what}, and {engine} {ability.because}", where=where, fix=ability.instead
    )


def _round(waiting: Mapping[str, set[str]], members: Mapping[str, list[str]]) -> ProjectError:
    name = next((n for n in waiting if len(members[n]) > 1), next(iter(waiting)))
    others = ", ".join(sorted(waiting[name] & waiting.keys()))
    return ProjectError(
        f"waits for itself: {others} has to run between its steps",
        where=f"group {name!r}",
        fix="put that into the group as well, or take a step out of it",
    )


def _task(graph: Graph, name: str, steps: list[str], needs: tuple[str, ...]) -> Task:
    options = [graph.nodes[step].options for step in steps]
    limits = [one.timeout_s for one in options]
    return Task(
        name=name,
        steps=tuple(steps),
        needs=needs,
        fan_out=len(steps) == 1 and bool(graph.nodes[steps[0]].each),
        retries=max(one.retries for one in options),
        retry_wait_s=max(one.retry_wait_s for one in options),
        timeout_s=None if None in limits else sum(limit for limit in limits if limit),
        cpu=_most(one.cpu for one in options),
        memory_bytes=_most(_memory(one, step) for one, step in zip(options, steps, strict=True)),
        gpu=_most(one.gpu for one in options),
    )


def _memory(options: Options, step: str) -> int | None:
    if options.memory is None:
        return None
    return memory_bytes(options.memory, f"step {step!r}")


def _most(asked: Iterable[float | None]) -> Any:
    return max((amount for amount in asked if amount is not None), default=None)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parameters(
    pipeline: Pipeline[Any, Any], usual: Mapping[str, object], given: Mapping[str, object]
) -> Iterable[Parameter]:
    types = get_type_hints(pipeline.function)
    for name in inspect.signature(pipeline.function).parameters:
        declared = types.get(name)
        if get_origin(declared) in (list, dict):  # list[int]
            declared = get_origin(declared)
        kind = declared.__name__ if isinstance(declared, type) else "json"
        yield Parameter(name=name, type=kind, default=usual[name], value=given[name])
