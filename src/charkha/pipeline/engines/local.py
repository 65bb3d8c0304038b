"""A graph walked on this machine: steps reused where they can be, run where they cannot.

With one worker a step runs in this process; with more, or with a timeout that has to be kept, in
worker processes; one that asks for GPUs in a process that sees only those. A step whose stored
input turns out to be damaged waits until the step that made the input has made it again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from charkha.errors import Bug, CharkhaError, Damaged, StepFailed
from charkha.events import Bus, Noticed, StepFinished, StepRetried, StepStarted
from charkha.events import StepFailed as StepFailedEvent
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.cache import Entry
from charkha.pipeline.code import Closure, closure
from charkha.pipeline.distributions import Distributions
from charkha.pipeline.graph import Graph, Node
from charkha.pipeline.memory import FileMemory
from charkha.pipeline.perform import Bench, Outcome
from charkha.pipeline.reasons import UNCACHED, said
from charkha.pipeline.steps import functions
from charkha.pipeline.units import Outputs, Unit, UnitMaker, elements, resolve

if TYPE_CHECKING:
    from charkha.pipeline.engines.gpus import Gpus, Grant
    from charkha.pipeline.engines.pool import Pool
    from charkha.pipeline.memory import Memory
    from charkha.project import Project

_LOOK_S = 0.5  # between two looks for a GPU that another run may have given back


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one task of another engine walks: some steps of a graph."""

    steps: frozenset[str]
    known: Mapping[str, Outputs] = field(default_factory=dict)  # of the steps before
    element: int | None = None  # the only one of its step's fan-out
    attempt: int | None = None  # which of its attempts this is, where the engine repeats them


class LocalEngine:
    """Walks one graph once, or a part of it."""

    def __init__(
        self,
        graph: Graph,
        project: Project,
        run: str,
        bus: Bus,
        *,
        workers: int = 1,
        contexts: Mapping[str, str] | None = None,
        part: Part | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._graph, self._project, self._run, self._bus = graph, project, run, bus
        self._contexts = contexts or {}
        self._workers = workers
        self._bench = Bench(project, run, self._contexts)
        self._memory = memory or FileMemory(project.state / "last", graph.pipeline)
        distributions = Distributions(project.state / "distributions.json")
        self._closure_of = _once(self._closure)
        self._maker = UnitMaker(project, distributions, self._closure_of, self._bench.world)
        self._part = part or Part(steps=frozenset(graph.nodes))
        self._outputs: dict[str, Outputs] = dict(self._part.known)
        self._dependents = graph.dependents()
        self._missing = {  # not yet begun
            name: {need for need in graph.nodes[name].needs() if need not in self._part.known}
            for name in graph.order()
            if name in self._part.steps
        }
        self._open = deque(name for name, missing in self._missing.items() if not missing)
        self._units: dict[str, list[Unit]] = {}  # units of each step that is under way
        self._done: dict[str, dict[str, Artifact]] = {}  # outputs of each unit that is over
        self._ready: deque[Unit] = deque()
        self._again: dict[str, str] = {}  # step that has to run again -> why
        self._made_again: set[str] = set()  # once is enough to mend, twice would be for ever
        self._pool: Pool | None = None
        self._gpus: Gpus | None = None
        self._asked = {} if part or project.pipeline.gpus == () else _asked(graph)
        self._waited: set[str] = set()  # units and steps that found no GPU when it was their turn

    def files(self) -> set[str]:
        """Return the project's files with code that any step of the graph reaches."""
        return set().union(
            *(self._closure_of(self._graph.nodes[n].function).files for n in self._part.steps)
        )

    def units(self, step: str) -> list[Unit]:
        """Return what a step would be made of now, from the outputs that are known.

        Raises:
            CharkhaError: a source of it is not there, or its lists differ in length.
        """
        return self._expand(self._graph.nodes[step])

    def walk(self) -> None:
        """Walk the graph to its end.

        Raises:
            CharkhaError: a step failed; what ran beside it has been waited for.
        """
        try:
            self._open_steps()  # as far as all is reused
            left = {n: g for n, g in self._asked.items() if n in self._missing or n in self._units}
            if left:
                self._gpus_now().check(left)
            while self._missing or self._units:
                self._open_steps()
                blocked = self._start_ready()
                if self._busy():
                    self._collect()
                elif blocked:
                    time.sleep(_LOOK_S)
        finally:
            if self._pool is not None:
                self._pool.close()
            if self._gpus is not None:
                self._gpus.close()
            self._memory.save()
            self._bench.close()

    def _closure(self, reference: str) -> Closure:
        return closure(functions.get(reference) or _class(reference), self._bench.sources)

    def _open_steps(self) -> None:
        """Make units of every step whose inputs are known; reuse them where that is possible."""
        while self._open:
            name = self._open.popleft()
            del self._missing[name]
            try:
                units = self._units[name] = self._expand(self._graph.nodes[name])
            except CharkhaError as e:
                raise self._fail(name, e) from e
            self._ready.extend(unit for unit in units if not self._reuse(unit))
            self._conclude(name)

    def _expand(self, node: Node) -> list[Unit]:
        arguments = {n: resolve(b, self._outputs) for n, b in node.arguments.items()}
        if not node.each:
            return [self._maker.unit(node.name, node, arguments)]
        lists = {
            n: elements(resolve(b, self._outputs), self._bench.artifacts)
            for n, b in node.each.items()
        }
        lengths = {n: len(items) for n, items in lists.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{n} has {length}" for n, length in lengths.items())
            raise StepFailed(f"its lists differ in length: {told}", step=node.name)
        return [
            self._maker.unit(
                f"{node.name}[{i}]", node, {**arguments, **dict(zip(lists, row, strict=True))}
            )
            for i, row in enumerate(zip(*lists.values(), strict=True))
            if self._part.element in (None, i)
        ]

    def _reuse(self, unit: Unit) -> bool:
        if unit.node.name in self._again:
            unit.because = [said("damaged", self._again[unit.node.name])]
            return False
        if not unit.node.options.cache:
            unit.because = [UNCACHED]
            return False
        found = self._bench.cache.look_up(unit.key)
        for damage in found.damage:
            self._bus.emit(Noticed(damage, unit.name))
        if found.entry is None:
            unit.because = [said("damaged", text) for text in found.damage]
            unit.because += found.because or self._memory.because(unit)
            return False
        self._finish(unit, "reused", found.entry)
        return True

    def _start_ready(self) -> bool:
        """Start what can be; return whether all that is ready waits for a GPU."""
        while self._ready and self._busy() < self._workers:
            unit, grant = self._turn()
            if unit is None:
                return True
            self._ready.remove(unit)
            if unit.name in self._waited and self._reuse(unit):  # another run has made it meanwhile
                self._give_back(unit)
                self._conclude(unit.node.name)
                return False
            unit.attempt = self._part.attempt or unit.attempt
            self._bus.emit(StepStarted(unit.name, unit.attempt, unit.because))
            if grant or self._workers > 1 or unit.node.options.timeout_s is not None:
                self._pool_now().give(unit, grant)
            else:
                self._settle(unit, self._here(unit))
                return False  # what it made may let others be reused before anything else is run
        return False

    def _turn(self) -> tuple[Unit | None, Grant | None]:
        """Return the unit that is next, with what it gets; None where each waits for a GPU."""
        free = next((unit for unit in self._ready if unit.node.name not in self._asked), None)
        if free is self._ready[0]:
            return free, None
        waiting = {u.name: u for u in self._ready if u.node.name in self._asked}
        gpus = self._gpus_now()
        taken = gpus.take({name: self._asked[u.node.name] for name, u in waiting.items()})
        if taken is not None:
            return waiting[taken[0]], taken[1]
        for name, unit in waiting.items():
            step, gpu = unit.node.name, self._asked[unit.node.name]
            if step not in self._waited:
                gpus.check({step: gpu})  # one that had to be made again was not looked at before
                self._bus.emit(Noticed(gpus.waiting_for(gpu), step))
            self._waited |= {step, name}
        return free, None

    def _gpus_now(self) -> Gpus:
        if self._gpus is None:  # most runs ask for none
            module = import_module("charkha.pipeline.engines.gpus")
            self._gpus = cast("Gpus", module.Gpus(self._project.pipeline))
        return self._gpus

    def _give_back(self, unit: Unit) -> None:
        if self._gpus is not None:
            self._gpus.give_back(unit.name)

    def _busy(self) -> int:
        return self._pool.busy if self._pool is not None else 0

    def _pool_now(self) -> Pool:
        if self._pool is None:  # subprocess and its kin cost 10 ms that most runs do not need
            module = import_module("charkha.pipeline.engines.pool")
            self._pool = cast(
                "Pool", module.Pool(self._project, self._run, self._contexts, self._workers)
            )
        return self._pool

    def _here(self, unit: Unit) -> Outcome | CharkhaError:
        try:
            return self._bench.perform(unit.task())
        except CharkhaError as e:
            return e

    def _collect(self) -> None:
        elsewhere = self._ready and self._gpus is not None and self._gpus.elsewhere
        for unit, outcome in cast("Pool", self._pool).wait(_LOOK_S if elsewhere else math.inf):
            self._give_back(unit)
            self._settle(unit, outcome)

    def _settle(self, unit: Unit, outcome: Outcome | CharkhaError) -> None:
        if isinstance(outcome, Damaged):
            self._make_again(unit, outcome)
        elif isinstance(outcome, CharkhaError):
            self._failed(unit, outcome)
        else:
            for notice in outcome.notices:
                if self._memory.is_new(notice, unit):
                    self._bus.emit(Noticed(notice, unit.name))
            self._finish(unit, outcome.how, outcome)
            self._conclude(unit.node.name)

    def _finish(self, unit: Unit, how: str, result: Outcome | Entry) -> None:
        self._memory.keep(unit)
        self._done[unit.name] = result.outputs
        self._bus.emit(
            StepFinished(
                step=unit.name,
                function=unit.node.function,
                how=how,
                key=unit.key,
                outputs={n: a.as_json() for n, a in result.outputs.items()},
                captured={n: a.as_json() for n, a in result.captured.items()},
                seconds=result.seconds,
            )
        )

    def _conclude(self, step: str) -> None:
        """Let the step's outputs be used once all of its units are over."""
        units = self._units[step]
        if not all(unit.name in self._done for unit in units):
            return
        node = self._graph.nodes[step]
        made = [self._done[unit.name] for unit in units]
        if node.each:
            self._outputs[step] = {n: [outputs[n] for outputs in made] for n in node.outputs}
        else:
            self._outputs[step] = dict(made[0])
        self._again.pop(step, None)
        del self._units[step]
        for other in self._dependents[step]:
            if other in self._missing:
                self._missing[other].discard(step)
                if not self._missing[other]:
                    self._open.append(other)

    def _failed(self, unit: Unit, error: CharkhaError) -> None:
        options = unit.node.options
        failure = error
        if unit.attempt <= options.retries and not isinstance(error, Bug):
            self._bus.emit(StepRetried(unit.name, unit.attempt, error.what))
            if self._part.attempt is None:
                time.sleep(options.retry_wait_s)
                unit.attempt += 1
                self._ready.appendleft(unit)
                return
        else:  # above, it is the engine that begins the next attempt
            failure = self._fail(unit.name, error)
        while self._pool is not None and self._pool.busy:  # what is under way is worth keeping
            for other, outcome in self._pool.wait():
                if isinstance(outcome, Outcome):
                    self._finish(other, outcome.how, outcome)
        raise failure

    def _fail(self, name: str, error: CharkhaError) -> CharkhaError:
        if not isinstance(error, StepFailed | Bug):
            failures = import_module("charkha.pipeline.failures")  # late: most runs have none
            error = failures.failed(name, error, self._project.root)
        place, log = getattr(error, "place", None), getattr(error, "log", None)
        self._bus.emit(StepFailedEvent(name, error.what, place, log))
        return error

    def _make_again(self, unit: Unit, damage: Damaged) -> None:
        """Run the steps that made this unit's inputs again, then this one."""
        makers = [n for n in dict.fromkeys(unit.node.needs()) if n not in self._made_again]
        if elsewhere := [name for name in makers if name in self._part.known]:
            self._bench.artifacts.forget(damage.key)
            damage.fix = f"run the pipeline again: it makes {elsewhere[0]!r} again"
            raise self._fail(unit.name, damage)
        if not makers:
            raise self._fail(unit.name, damage)
        self._made_again.update(makers)
        self._bus.emit(Noticed(f"{damage.what}: making it again", unit.name))
        self._bench.artifacts.forget(damage.key)
        for maker in makers:
            self._again[maker] = f"its stored output was damaged ({damage.key[:12]}…)"
            del self._outputs[maker]
            for name in [n for n in self._done if n.partition("[")[0] == maker]:
                del self._done[name]
            self._missing[maker] = set()
            self._open.append(maker)
            for other in self._dependents[maker]:
                if other in self._missing:
                    self._missing[other].add(maker)
                    with suppress(ValueError):
                        self._open.remove(other)
        del self._units[unit.node.name]
        self._missing[unit.node.name] = set(makers)
        self._ready = deque(u for u in self._ready if u.node.name != unit.node.name)


def _asked(graph: Graph) -> dict[str, float]:
    return {name: node.options.gpu for name, node in graph.nodes.items() if node.options.gpu}


def _class(reference: str) -> type:
    """Return the class of an input, "module:qualname"."""
    module, _, name = reference.partition(":")
    return cast("type", attrgetter(name)(import_module(module)))


def _once(function: Callable[[str], Closure]) -> Callable[[str], Closure]:
    known: dict[str, Closure] = {}

    def remembered(reference: str) -> Closure:
        if reference not in known:
            known[reference] = function(reference)
        return known[reference]

    return remembered
