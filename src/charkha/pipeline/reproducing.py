"""A stage of `dvc repro`: steps performed from files into files, and the run that it is a part of.

DVC knows no runs: it starts the stages that have changed, and skips the others. A run begins with
the first stage that has something to run, and goes on, over several `dvc repro` where need be,
until the stage that finishes it. That one tells of the steps that DVC has skipped what their
folders say. A stage whose steps are all found in the cache, with what lies there already, begins none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data.blobs import open_blobs
from charkha.errors import CharkhaError, Damaged, NotFound, UserError
from charkha.events import Bus, Event, Listener, StepFailed, StepFinished, StepStarted
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.boards import open_board
from charkha.pipeline.cache import Entry
from charkha.pipeline.engines.local import LocalEngine, Part
from charkha.pipeline.journal import new_id
from charkha.pipeline.memory import difference
from charkha.pipeline.observe import Observed
from charkha.pipeline.outputs import Made, OutputFolder, numbered, numbers
from charkha.pipeline.parameters import given_as, parsed
from charkha.pipeline.perform import Bench
from charkha.pipeline.plans import shape_of
from charkha.pipeline.run import load_pipeline, started
from charkha.pipeline.steps import functions
from charkha.pipeline.submitting import keep
from charkha.pipeline.tasks import check_steps, conclude, memory_of, walk

if TYPE_CHECKING:
    from charkha.pipeline.boards import Board
    from charkha.pipeline.graph import Graph
    from charkha.pipeline.memory import Memory, SharedMemory
    from charkha.pipeline.reasons import Parts, Reason
    from charkha.pipeline.units import Outputs, Unit
    from charkha.project import Project

ENGINE = "dvc"
_FILE = "dvc.json"  # in the project's state: the run that goes on


@dataclass(frozen=True, kw_only=True)
class Current:
    """The run that stages belong to."""

    run: str
    driven: bool  # somebody has begun it for one `dvc repro`, and will end it

    def write(self, project: Project) -> None:
        """Have the stages that DVC starts from here on belong to this run."""
        file = project.state / _FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(vars(self)))
        partial.replace(file)


class Reproduction:
    """The project's pipeline with DVC's parameters, what its steps returned in a folder."""

    def __init__(
        self, project: Project, outputs: Path, params: str | None, run: str | None = None
    ) -> None:
        """Trace the pipeline.

        Args:
            project: as this machine has it.
            outputs: folder of what the steps returned.
            params: file of the pipeline's parameters, which may have others', or an object of JSON;
                those of charkha.toml without it.
            run: that the stages belong to; without it the one that goes on, or a new one.

        Raises:
            CharkhaError: the definition is wrong, or the parameters are.
        """
        self._project = project
        pipeline = load_pipeline(project)
        theirs = given_as(params, project.root) if params else {}
        known = pipeline.signature.parameters
        ours = {name: value for name, value in theirs.items() if name in known}
        self.graph = pipeline.trace(
            parsed(pipeline, {**project.pipeline.params, **ours}, project), project
        )
        self._blobs = open_blobs(project)
        self._folder = OutputFolder(project.root / outputs, self._blobs)
        self._bench = Bench(project, "", {})
        self.run = _Run(project, self.graph, run)

    def perform(
        self,
        steps: Collection[str],
        *,
        workers: int | None = None,
        listeners: Iterable[Listener] = (),
        contexts: Mapping[str, str] | None = None,
    ) -> None:
        """Perform a stage's steps: from the folders of those before into folders of their own.

        Raises:
            CharkhaError: a step failed, or one before has left nothing here.
        """
        check_steps(self.graph, steps)
        needed = {need for step in steps for need in self.graph.nodes[step].needs()} - set(steps)
        self.graph = self.run.find(lambda: self._tell(sorted(needed)))
        known = {need: self._outputs(need) for need in sorted(needed)}
        before = {step: made for step in steps if (made := self._offered(step))}
        memory = _Memory(memory_of(self._project, self.graph, self._blobs), before.values())
        finished: dict[str, StepFinished] = {}
        walk(
            self._project,
            self.run.id,
            self.graph,
            Part(steps=frozenset(steps), known=known),
            memory=memory,
            workers=workers,
            listeners=[self.run, lambda event: _note(finished, event), *listeners],
            contexts=contexts,
        )
        for step in steps:
            made = self._made(step, finished, memory.units)
            if self._folder.write(step, made):
                self.run.begin()
            self._write_metrics(step, made)

    def finish(self) -> None:
        """Tell the run of every step that DVC has skipped, from its folder.

        Raises:
            UserError: a step has left nothing here.
        """
        self.run.find()
        self.run.begin()
        self._tell(self.graph.order())

    def stale(self) -> list[str]:
        """Return the steps that Charkha would run again though none before them has changed.

        DVC sees files and parameters; it sees no installed versions, no variables, and nothing that
        lies elsewhere, such as the champion or the truth that came.
        """
        known: dict[str, Outputs] = {}
        for step, node in self.graph.nodes.items():
            if made := self._offered(step):
                known[step] = made.outputs(node.outputs)
        part = Part(steps=frozenset(self.graph.nodes), known=known)
        engine = LocalEngine(self.graph, self._project, "", Bus(), part=part)
        found = []
        for step, node in self.graph.nodes.items():
            if step in known and known.keys() >= set(node.needs()):
                try:
                    units = engine.units(step)
                except CharkhaError:  # told better by the stage, which cannot but fail
                    found.append(step)
                    continue
                if not all(self._bench.cache.look_up(unit.key).entry for unit in units):
                    found.append(step)
        return found

    def drop(self, step: str) -> None:
        """Forget what a step was made of, so that DVC starts its stage again."""
        shutil.rmtree(self._folder.made(step), ignore_errors=True)

    def _outputs(self, step: str) -> Outputs:
        """Return what a step has left here; its bytes are in the blobs then."""
        made = self._folder.read(step)
        if made is None:
            raise _absent(step)
        self._folder.bring_in(step)
        return made.outputs(self.graph.nodes[step].outputs)

    def _offered(self, step: str) -> Made | None:
        """Offer to the cache what lies here of a step from before; None where it is not whole."""
        made = self._folder.read(step)
        if made is None:
            return None
        try:
            self._folder.bring_in(step, captured=True)
        except Damaged:  # DVC starts the stage because of that, too
            return None
        for entry in made.entries if made.reusable else ():
            if self._bench.cache.look_up(entry.key).entry is None:
                self._bench.cache.commit(entry)
        return made

    def _made(
        self, step: str, finished: Mapping[str, StepFinished], units: Mapping[str, Unit]
    ) -> Made:
        node = self.graph.nodes[step]
        names = [name for name in units if name.partition("[")[0] == step]
        names.sort(key=lambda name: int(name.partition("[")[2].rstrip("]") or 0))
        entries, reusable = [], node.options.cache
        for name in names:
            kept = self._bench.cache.look_up(units[name].key).entry
            reusable = reusable and kept is not None
            story = finished[name]
            entries.append(
                Entry(
                    key=story.key,
                    step=name,
                    run="",
                    outputs=_artifacts(story.outputs),
                    captured=_artifacts(story.captured),
                    observed=kept.observed if kept else Observed(),
                )
            )
        return Made(
            function=node.function,
            fan_out=bool(node.each),
            entries=tuple(entries),
            parts=tuple(units[name].parts for name in names),
            reusable=reusable,
        )

    def _write_metrics(self, step: str, made: Made) -> None:
        node = self.graph.nodes[step]
        outputs = numbered(node, functions.get(node.function))
        if not outputs:
            return
        told = []
        for entry in made.entries:
            values = {o: numbers(self._bench.artifacts.load(entry.outputs[o])) for o in outputs}
            told.append(values[outputs[0]] if len(outputs) == 1 else values)
        elements = {str(i): value for i, value in enumerate(told)}
        self._folder.write_metrics(step, elements if made.fan_out else told[0])

    def _tell(self, steps: Iterable[str]) -> None:
        """Tell the run of steps that it has not heard of what their folders say."""
        for step in steps:
            made = self._folder.read(step)
            if made is None:
                raise _absent(step)
            news = [
                StepFinished(
                    step=entry.step,
                    function=made.function,
                    how="reused",
                    key=entry.key,
                    outputs={name: a.as_json() for name, a in entry.outputs.items()},
                    captured={name: a.as_json() for name, a in entry.captured.items()},
                    seconds=entry.seconds,
                )
                for entry in made.entries
            ]
            if not self.run.knows(step, news):
                self._folder.bring_in(step, captured=True)
                for event in news:
                    self.run.tell(event)


class _Run:
    """The run of a stage, a Listener: it begins, at the latest moment, when there is news."""

    def __init__(self, project: Project, graph: Graph, run: str | None) -> None:
        self._project, self._graph, self._wanted = project, graph, run
        self.id, self.driven = new_id(), False
        self.begun = False  # whether there was any news
        self._before: Callable[[], None] | None = None  # to be called ahead of the first news
        self._held: list[Event] = []

    @cached_property
    def _board(self) -> Board:
        return open_board(self._project, self.id)

    def find(self, before: Callable[[], None] | None = None) -> Graph:
        """Go on with the run that has begun already, where it is one of the same parameters.

        Returns the graph to walk: of a run that somebody has begun for us, the one that it began
        with, which holds all steps to the same data.
        """
        self._before = before
        if self._wanted is not None:
            self.id, self.driven, self.begun = self._wanted, True, True
            return self._graph
        try:
            kept = Current(**json.loads((self._project.state / _FILE).read_bytes()))
            board = open_board(self._project, kept.run)
            opening = board.opening()
        except (FileNotFoundError, NotFound, ValueError, TypeError):
            return self._graph
        if board.ended() is not None:
            return self._graph
        if not _same(opening.graph, self._graph):
            board.keep("stopped", {"by": "other parameters"})
            conclude(self._project, kept.run)
            return self._graph
        self.id, self.driven, self.begun = kept.run, kept.driven, True
        return opening.graph if kept.driven else self._graph

    def __call__(self, event: Event) -> None:
        if self.begun or isinstance(event, StepStarted | StepFailed):
            self.begin()
            self.tell(event)
        else:
            self._held.append(event)

    def begin(self) -> None:
        """Begin the run, unless it goes on already, and tell it what was held back."""
        if not self.begun:
            opened = started(self.id, self._graph, self._project)
            self._board.open(ENGINE, opened, self._graph)
            keep(self._project, self.id, ENGINE, {"group": str(os.getpgrp())})
            Current(run=self.id, driven=False).write(self._project)
            self.begun = True
        if (before := self._before) is not None:
            self._before = None
            before()
        while self._held:
            self.tell(self._held.pop(0))

    def stop(self) -> None:
        """Say that a person had the run stopped."""
        self._board.keep("stopped", {"by": ENGINE})

    def tell(self, event: Event) -> None:
        """Write on the run's board what happened."""
        if step := getattr(event, "step", None):
            self._board.post(step.partition("[")[0], event)

    def knows(self, step: str, news: Iterable[StepFinished]) -> bool:
        """Whether the run has heard this of the step's elements, and nothing else since."""
        events = [line.event for line in self._board.events([step])]
        heard = {event.step: event for event in events if isinstance(event, StepFinished)}
        return all(
            (told := heard.get(new.step)) is not None
            and (told.key, told.outputs) == (new.key, new.outputs)
            for new in news
        )


class _Memory:
    """What all know of the steps, and where they know nothing, what lies in their folders."""

    def __init__(self, shared: SharedMemory, before: Iterable[Made]) -> None:
        self._shared = shared
        self._before: dict[str, Parts] = {
            entry.step: parts
            for made in before
            for entry, parts in zip(made.entries, made.parts, strict=True)
        }
        self.units: dict[str, Unit] = {}  # that are over

    def because(self, unit: Unit) -> list[Reason]:
        return difference(self._shared.parts(unit) or self._before.get(unit.name), unit)

    def keep(self, unit: Unit) -> None:
        self.units[unit.name] = unit
        self._shared.keep(unit)

    def is_new(self, hint: str, unit: Unit) -> bool:
        return self._shared.is_new(hint, unit)

    def save(self) -> None:
        self._shared.save()


def _same(one: Graph, other: Graph) -> bool:
    told = [json.dumps(graph.params, sort_keys=True) for graph in (one, other)]
    return told[0] == told[1] and shape_of(one) == shape_of(other)


def _artifacts(kept: Mapping[str, dict[str, object]]) -> dict[str, Artifact]:
    return {name: Artifact.from_json(artifact) for name, artifact in kept.items()}


def _note(finished: dict[str, StepFinished], event: Event) -> None:
    if isinstance(event, StepFinished):
        finished[event.step] = event


def _absent(step: str) -> UserError:
    return UserError(f"step {step!r} has left nothing here", fix="dvc pull, or dvc repro")


if TYPE_CHECKING:

    def _fits(shared: SharedMemory) -> Memory:
        return _Memory(shared, [])
