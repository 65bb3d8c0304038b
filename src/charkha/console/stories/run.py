"""The story of a run: its steps with why each ran, its code and data, what asked for it, what it made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charkha.clock import to_second
from charkha.console.stories.happened import turns
from charkha.console.stories.story import Fact, Next, Story, span, utc, word
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.runs import open_artifacts

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Entry
    from charkha.console.stories.sources import Sources
    from charkha.pipeline.reasons import Reason
    from charkha.pipeline.runs import Run, StepStory
    from charkha.project import Project

_DETAILS = 8  # columns of a changed table
_DIGEST = 12  # characters that are shown


def tell_run(sources: Sources, run: Run) -> Story:
    """Tell all that is known of a run."""
    made = _made(sources, run.id)
    asked = _asked(sources, run.id)
    steps = tuple(tell_step(sources, run, step) for step in run.steps.values())
    failed = (f"it failed: {run.error}",) if run.error else ()
    return Story(
        kind="run",
        id=run.id,
        title=f"run {run.id}: {run.status} in {span(run.seconds)}",
        at=utc(run.started_at),
        because=(*_because(asked), *failed, *run.notices),
        facts=(
            Fact(name="status", value=run.status, text=""),
            *_facts(run),
            Fact(name="MLflow run", value=sources.mlflow_run(run.id)),
        ),
        parts=(*steps, *made, *sources.silence()),
        next=(
            *(n for part in made for n in part.next),
            *(Next(reference=id, what="the turn of the loop that asked for it") for id in asked),
            *(Next(reference=f"{run.id}/{step}", what=f"step {step}") for step in run.steps),
        ),
    )


def run_part(sources: Sources, id: str) -> Iterator[Story]:
    """Yield a run as a part of another story; nothing where there was none."""
    if not id:
        return
    run = sources.run(id)
    if run is None:
        because = ("its journal is not on this machine",)
        yield Story(kind="run", id=id, title=f"made by run {id}", because=because)
        return
    steps = [
        f"{step.name} {step.how}"
        + (f" ({next(iter(step.outputs.values())).digest[:_DIGEST]})" if step.outputs else "")
        for step in run.steps.values()
    ]
    yield Story(
        kind="run",
        id=id,
        title=f"made by run {id}: {run.status} in {span(run.seconds)}, "
        f"{run.cached} of {len(run.steps)} steps reused",
        at=utc(run.started_at),
        because=_because(_asked(sources, id)),
        facts=(
            *_facts(run),
            Fact(
                name="steps",
                value=[_step_value(step) for step in run.steps.values()],
                text=", ".join(steps),
            ),
        ),
        next=(Next(reference=id, what="the run that made it"),),
    )


def tell_step(sources: Sources, run: Run, step: StepStory, *, alone: bool = False) -> Story:
    """Tell why a step ran or was reused; `alone` with how to get at what it made."""
    took = f" in {span(step.seconds)}" if step.how == "ran" else ""
    outputs = tuple(
        Fact(
            name=f"made {name}",
            value=artifact.as_json(),
            text=f"{artifact.type.rpartition(':')[2]}, {_size(artifact.size)} "
            f"({artifact.codec} {artifact.digest[:_DIGEST]})",
        )
        for name, artifact in step.outputs.items()
    )
    told = [Fact(name="how", value=step.how, text=""), Fact(name="key", value=step.key, text="")]
    if step.log:
        told.append(Fact(name="its log", value=step.log))
    if alone and step.outputs:
        python = f'charkha.read_run("{run.id}").output("{step.name}")'
        told.append(Fact(name="in Python", value=python))
    failed = (step.error,) if step.error else ()
    return Story(
        kind="step",
        id=f"{run.id}/{step.name}",
        title=f"{step.name}: {step.how}{took}",
        because=(*explained(step, sources.project if alone else None), *failed),
        facts=(*outputs, *told),
        next=(Next(reference=run.id, what="the whole run"),) if alone else (),
    )


def explained(step: StepStory, project: Project | None) -> tuple[str, ...]:
    """Return why a step ran or was reused; with a project also what is other in an input.

    That loads both versions of the input, which may take as long as it took to make them.
    """
    if step.how == "reused":
        return ("because nothing that it depends on has changed",)
    if step.how == "shared":
        return ("because another run computed it at the same moment",)
    return tuple(
        f"because {reason['text']}{_details(project, reason) if project else ''}"
        for reason in step.because
    )


def _details(project: Project, reason: Reason) -> str:
    was, now = reason["was"], reason["now"]
    if reason["kind"] != "inputs" or not was or not now or ":" not in f"{was}{now}":
        return ""
    artifacts = open_artifacts(project)
    old, new = (Artifact.from_identity(str(identity)) for identity in (was, now))
    differences = artifacts.difference(old, new)
    more = len(differences) - _DETAILS
    told = ", ".join(differences[:_DETAILS])
    return f": {told}{f' and {more} more' if more > 0 else ''}" if told else ""


def _facts(run: Run) -> Iterator[Fact]:
    started = run.started
    if started is None:
        return
    commit = started.commit
    dirty = " with changes that were not committed" if started.dirty and commit else ""
    text = f"{commit[:_DIGEST]}{dirty}" if commit else "not in git"
    yield Fact(name="commit", value=commit, text=text)
    data = {name: version.partition(" ")[0] for name, version in started.datasets.items()}
    short = [f"{name}@{version.rpartition(':')[2][:8]}" for name, version in data.items()]
    yield Fact(name="data", value=data, text=word(short))
    yield Fact(name="params", value=started.params)
    yield Fact(name="by", value=started.user, text=f"{started.user} on {started.host}")


def _step_value(step: StepStory) -> dict[str, object]:
    return {
        "name": step.name,
        "how": step.how,
        "because": [reason["text"] for reason in step.because],
        "key": step.key,
        "outputs": {name: artifact.digest for name, artifact in step.outputs.items()},
    }


def _made(sources: Sources, id: str) -> list[Story]:
    """Return the versions that the gate judged in this run."""
    return [
        Story(
            kind="gate",
            id=entry.short,
            title=f"the gate judged {entry.subject}",
            at=entry.when,
            because=(entry.because,),
            facts=(Fact(name="subject", value=entry.subject, text=""),),
            next=(Next(reference=entry.subject, what="the version that it made"),),
        )
        for entry in sources.entries("gate")
        if entry.text("run") == id
    ]


def _asked(sources: Sources, id: str) -> dict[str, tuple[Entry, ...]]:
    """Return the turns of the loop that name this run."""
    told = turns(sources.entries("loop"))
    return {turn: told_ for turn, told_ in told.items() if id in {e.text("run") for e in told_}}


def _because(asked: dict[str, tuple[Entry, ...]]) -> tuple[str, ...]:
    return tuple(
        f"the loop asked for it, turn {turn} of {to_second(told[0].when)}: {told[0].because}"
        for turn, told in asked.items()
    )


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
