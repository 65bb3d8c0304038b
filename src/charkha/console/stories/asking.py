"""What a reference means: a prediction, run, step, version, release, alert, turn or decision."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charkha.clock import to_second
from charkha.console.stories.decided import tell_alert, tell_decision, tell_turn
from charkha.console.stories.happened import alerts, model_of, releases, turns
from charkha.console.stories.release import tell_release
from charkha.console.stories.run import tell_run, tell_step
from charkha.console.stories.sources import Sources
from charkha.console.stories.version import tell_version
from charkha.data.late import late
from charkha.definition import nearest
from charkha.errors import BackendError, CharkhaError, NotFound, UserError
from charkha.models.registry import find_version
from charkha.pipeline.runs import read_run

if TYPE_CHECKING:
    from charkha.console.stories.story import Story
    from charkha.project import Project

_LEAST = 4  # characters of an id that stand for it
_SHOWN = 6  # of what a reference may mean
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, kw_only=True)
class Match:
    """Something that a reference may mean."""

    kind: str  # "run" | "release" | "alert" | "turn" | "version" | "prediction" | "decision"
    id: str
    about: str  # "canary of house-prices@3"
    tell: Callable[[], Story]

    @property
    def reference(self) -> str:
        """What means this and nothing else."""
        return f"{self.kind}:{self.id}"


def tell(project: Project, reference: str) -> Story:
    """Tell the story of what a reference means.

    Args:
        project: where it is looked for.
        reference: the id of a prediction, run, release, alert, turn or decision, or how one begins;
            `last` (run), RUN/STEP, NAME@VERSION, NAME (its champion), MODEL/RELEASE; with `run:`,
            `release:` and so on in front where it could be several.

    Raises:
        UserError: it means nothing here, or several things; says what was looked for where.
        BackendError: the only place that could know does not answer.
    """
    sources = Sources(project)
    asked = reference.strip()
    kind, colon, rest = asked.partition(":")
    wanted = kind if colon and kind in _KINDS else None
    asked = rest.strip() if wanted else asked
    if not asked:
        raise UserError("nothing was asked for", fix="charkha why last")
    if _UUID.fullmatch(asked.lower()):
        return _prediction(sources, asked.lower())
    named = "/" in asked or "@" in asked
    found = _matches(sources, asked, wanted, only=_NAMED if named else None)
    if named and not found and wanted in (None, "run", "release", "version"):
        if "/" in asked and not asked.startswith("models:/"):
            return _below(sources, asked)
        return tell_version(sources, find_version(project, asked))
    if len(found) == 1:
        return found[0].tell()
    if found:
        raise _several(asked, found)
    raise _nothing(sources, asked, wanted)


def _prediction(sources: Sources, id: str) -> Story:
    recorded = late("charkha.console.stories.recorded", extra="records")
    if id[14] != "7":
        raise UserError(
            f"{id} is a UUID, and the id of a prediction is one of version 7",
            fix="give the id as the answer has it, or the header charkha-id",
        )
    found = recorded.remembered(sources.project, id)
    if found is None:
        near = recorded.nearest_ids(sources.project, id)
        day = to_second(recorded.time_of(id))
        said = f"nearest are: {', '.join(near)}" if near else "none was recorded within 10 minutes"
        raise NotFound(
            f"no prediction {id} is recorded; looked for in the records of {day} and the days "
            f"beside it, in {sources.project.records.url} and the open logs; {said}",
            fix=f"charkha why {near[0]}"
            if near
            else "ask where the server runs that made it; with [records] sample not all are kept",
        )
    prediction = late("charkha.console.stories.prediction", extra="records")
    story: Story = prediction.tell_prediction(sources, found)
    return story


def _below(sources: Sources, asked: str) -> Story:
    """Tell of RUN/STEP, or of the release of a model: MODEL/RELEASE."""
    head, _, tail = asked.partition("/")
    told = releases(sources.entries("release", head))
    for released in told:
        if released.id == tail and released.model == head:
            return tell_release(sources, released)
    if told and head not in sources.run_ids:
        known = [released.id for released in told]
        meant = nearest(tail, known)
        raise UserError(
            f"model {head!r} has no release {tail!r}",
            fix=f"did you mean {meant!r}?" if meant else f"its releases are: {', '.join(known)}",
        )
    run = read_run(head, sources.project)
    if not tail:
        return tell_run(sources, run)
    if tail not in run.steps:
        meant = nearest(tail, run.steps)
        raise UserError(
            f"run {run.id} has no step {tail!r}",
            fix=f"did you mean {meant!r}?" if meant else f"its steps are: {', '.join(run.steps)}",
        )
    return tell_step(sources, run, run.steps[tail], alone=True)


def _matches(
    sources: Sources, asked: str, wanted: str | None, only: frozenset[str] | None
) -> list[Match]:
    """Return what a reference may mean: what it is, else what begins so; of `only` these kinds."""
    if asked == "last" and wanted in (None, "run"):
        read_run("last", sources.project)  # or a word that there is none
    found = [
        match
        for kind, look in _LOOKS.items()
        if wanted in (None, kind) and (only is None or kind in only)
        for match in look(sources, asked)
    ]
    exact = [match for match in found if asked in (match.id, "last")]
    return exact or (found if only is None or wanted else [])


def _begins(id: str, asked: str) -> bool:
    return id == asked or (len(asked) >= _LEAST and id.startswith(asked))


def _runs(sources: Sources, asked: str) -> list[Match]:
    ids = sources.run_ids
    if asked == "last":
        ids = ids[-1:]
    elif len(asked) == 32 and _HEX.fullmatch(asked):  # as MLflow calls it
        ids = [id for id in ids if sources.mlflow_run(id) == asked]
    else:
        ids = [id for id in ids if _begins(id, asked)]

    def match(id: str) -> Match:
        return Match(
            kind="run",
            id=id,
            about="run",
            tell=lambda: tell_run(sources, read_run(id, sources.project)),
        )

    return [match(id) for id in ids]


def _models(sources: Sources, asked: str) -> list[Match]:
    if asked not in {version.name for version in sources.versions}:
        return []
    return [
        Match(
            kind="version",
            id=asked,
            about="the champion of that model",
            tell=lambda: tell_version(sources, find_version(sources.project, asked)),
        )
    ]


def _releases(sources: Sources, asked: str) -> list[Match]:
    told = [r for r in releases(sources.entries("release")) if _begins(r.id, asked)]
    twice = len({r.id for r in told}) < len(told)

    def match(released: Any) -> Match:
        return Match(
            kind="release",
            id=f"{released.model}/{released.id}" if twice else released.id,
            about=f"{released.strategy} of {released.model}@{released.candidate}",
            tell=lambda: tell_release(sources, released),
        )

    return [match(released) for released in told]


def _alerts(sources: Sources, asked: str) -> list[Match]:
    told = [a for a in alerts(sources.entries("alert")) if _begins(a.id, asked)]

    def match(alert: Any) -> Match:
        return Match(
            kind="alert",
            id=alert.id,
            about=f"{alert.cause} of {alert.subject}",
            tell=lambda: tell_alert(sources, alert),
        )

    return [match(alert) for alert in told]


def _turns(sources: Sources, asked: str) -> list[Match]:
    told = turns(sources.entries("loop"))

    def match(id: str) -> Match:
        return Match(
            kind="turn",
            id=id,
            about=f"turn of the loop for {model_of(told[id][0].subject)}",
            tell=lambda: tell_turn(sources, id, told[id]),
        )

    return [match(id) for id in told if _begins(id, asked)]


def _predictions(sources: Sources, asked: str) -> list[Match]:
    """Return predictions whose id begins so; of a whole number of a run's id nobody has made one."""
    recorded = _maybe(lambda: late("charkha.console.stories.recorded", extra="records"))
    if recorded is None or not recorded.is_beginning(asked.lower()):
        return []
    ids = _maybe(lambda: recorded.beginning_so(sources.project, asked.lower())) or []

    def match(id: str) -> Match:
        return Match(
            kind="prediction", id=id, about="prediction", tell=lambda: _prediction(sources, id)
        )

    return [match(id) for id in ids]


def _decisions(sources: Sources, asked: str) -> list[Match]:
    if not _HEX.fullmatch(asked):
        return []

    def match(entry: Any) -> Match:
        return Match(
            kind="decision",
            id=entry.short,
            about=f"{entry.kind} of {entry.subject}",
            tell=lambda: tell_decision(sources, entry),
        )

    return [match(entry) for entry in sources.entry(asked)]


def _maybe(ask: Callable[[], Any]) -> Any:
    """Return what is asked for; None where that cannot be had: other kinds are looked at as well."""
    try:
        return ask()
    except CharkhaError:
        return None


_LOOKS: dict[str, Callable[[Sources, str], list[Match]]] = {
    "run": _runs,
    "version": _models,
    "release": _releases,
    "alert": _alerts,
    "turn": _turns,
    "decision": _decisions,
    "prediction": _predictions,
}
_KINDS = frozenset(_LOOKS)
_NAMED = frozenset({"alert", "turn"})  # whose ids may have a / or an @ in them


def _several(asked: str, found: Sequence[Match]) -> UserError:
    shown = [f"{match.reference} ({match.about})" for match in found[:_SHOWN]]
    more = len(found) - _SHOWN
    listed = "\n  ".join([*shown, *([f"and {more} more"] if more > 0 else [])])
    return UserError(
        f"{asked!r} could be {len(found)} things:\n  {listed}",
        fix=f"type more of it, or which: charkha why {found[0].reference}",
    )


def _nothing(sources: Sources, asked: str, wanted: str | None) -> UserError | BackendError:
    """Return the word that nothing is called so: what was looked for where, and what is near."""
    state = sources.project.state
    runs = sources.run_ids
    known = {
        "run": (runs, f"{_count(len(runs), 'run')} in {state / 'runs'}"),
        "version": (
            sorted({version.name for version in sources.versions}),
            f"{_count(len(sources.versions), 'version')} in the registry",
        ),
        "release": _ids("release", [r.id for r in releases(sources.entries("release"))]),
        "alert": _ids("alert", [a.id for a in alerts(sources.entries("alert"))]),
        "turn": _ids("turn", list(turns(sources.entries("loop")))),
    }
    if wanted in ("prediction", "decision"):
        known[wanted] = ([], "the records" if wanted == "prediction" else "the ledger")
    looked = [text for kind, (_, text) in known.items() if wanted in (None, kind)]
    ids = [id for kind, (ids, _) in known.items() if wanted in (None, kind) for id in reversed(ids)]
    if wanted in (None, "run"):
        ids = ["last", *ids]
    meant = nearest(asked, ids)
    silent = f"; not asked: {'; '.join(dict.fromkeys(sources.silent))}" if sources.silent else ""
    fix = f"did you mean {meant!r}?" if meant else _newest(ids, wanted)
    return UserError(
        f"nothing here is called {asked!r}: looked at {', '.join(looked)}{silent}",
        fix=fix,
    )


def _ids(what: str, ids: list[str]) -> tuple[list[str], str]:
    return ids, f"{_count(len(ids), what)} in the ledger"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _newest(ids: Sequence[str], wanted: str | None) -> str:
    found = [id for id in ids if id != "last"][:3]
    if found:
        return f"there are: {', '.join(found)}"
    if wanted in (None, "run", "version"):
        return "charkha run; then charkha why last"
    return "charkha why, which says what can be asked for"
