"""What the loop sees before it decides: people's wishes, performance, drift, data, the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as compute

from charkha.clock import to_minute
from charkha.data.datasets import dataset
from charkha.errors import UserError
from charkha.loop.cronsim import last_due
from charkha.loop.triggers import Kind, Signal
from charkha.loop.turns import REQUEST, Kept
from charkha.monitoring.watching import Looked, look
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.monitoring.causes import Cause
    from charkha.project import Project, TriggerSettings
    from charkha.states import States


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that a decision needs."""

    signals: tuple[Signal, ...]
    data: Mapping[str, str]  # dataset -> version now
    labels: int  # ground truths by now
    causes: tuple[Cause, ...] = ()  # to tell people of
    unknown: tuple[str, ...] = ()  # keys of causes of which this look cannot tell


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Looks at what surrounds one model.

    Args:
        project: whose records, registry and datasets are looked at.
        model: its name.
        triggers: only what these need is looked at.
        states: where people leave their wishes.
    """

    project: Project
    model: str
    triggers: Sequence[TriggerSettings]
    states: States

    def look(self, champion: ModelVersion, kept: Kept, now: float) -> Seen:
        """Look once at everything; what cannot be looked at says why, as a signal that does not fire.

        Raises:
            BackendError: the registry, the records or the ledger do not answer.
            ProjectError: a schedule is none.
        """
        asked = {t.on: t for t in self.triggers}
        looked = look(self.project, str(champion))
        data = self._data(champion)
        counted = any(t.labels is not None for t in self.triggers)
        labels = self._labels() if counted else kept.labels
        signals = [self._person(kept)]
        looks: dict[Kind, Callable[[], Signal]] = {
            "performance": lambda: _performance(looked),
            "drift": lambda: _drift(looked),
            "data": lambda: self._news(champion, kept, asked["data"], data, labels),
            "schedule": lambda: _schedule(asked["schedule"], kept, now),
        }
        signals += [look() for kind, look in looks.items() if kind in asked]
        return Seen(
            signals=tuple(signals),
            data=data,
            labels=labels,
            causes=looked.causes,
            unknown=looked.unknown,
        )

    def _person(self, kept: Kept) -> Signal:
        wish = self.states.read(REQUEST, self.model)
        if wish is None or wish.value["id"] == kept.served:
            return Signal(kind="person", fires=False, because="nobody asked")
        because = f"{wish.value['by']}: {wish.value['because']}"
        return Signal(kind="person", fires=True, because=because, request=wish.value["id"])

    def _news(
        self,
        champion: ModelVersion,
        kept: Kept,
        rules: TriggerSettings,
        data: Mapping[str, str],
        labels: int,
    ) -> Signal:
        learnt = dict(_trained_on(champion))
        for name, version in data.items():
            if version not in (learnt[name], kept.data.get(name)):
                because = f"{name} is {_short(version)} now, and was {_short(learnt[name])}"
                return Signal(kind="data", fires=True, because=because)
        new = labels - kept.labels
        if rules.labels is not None:
            said = f"{new:,} new ground truths"
            if new >= rules.labels:
                return Signal(kind="data", fires=True, because=said)
            return Signal(kind="data", fires=False, because=f"{said} of {rules.labels:,}")
        return Signal(kind="data", fires=False, because="no dataset has changed")

    def _data(self, champion: ModelVersion) -> dict[str, str]:
        """Return the datasets that the champion was trained on, as they are now."""
        return dict(self._versions_now([name for name, _ in _trained_on(champion)]))

    def _versions_now(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        for name in names:
            try:
                now = dataset(name).bind(self.project).fingerprint({})
            except UserError:  # it was taken out of the project: no new version of it
                continue
            yield name, now.partition(" ")[0]

    def _labels(self) -> int:
        found = read_records(self.model, columns=["id", "ground_truth"], project=self.project)
        return int(compute.count(found["ground_truth"]).as_py())


def _performance(looked: Looked) -> Signal:
    if looked.performance is None:
        because = "; ".join(looked.notes) or "nothing to measure yet"
        return Signal(kind="performance", fires=False, because=because)
    alarm, judged = looked.performance.alarm, looked.performance.last_judged
    because = alarm.because
    if alarm.raised and judged is not None:
        because = f"{because}; {judged.because}"
    since = min((m.timestamp() for m in alarm.since.values()), default=None)
    return Signal(kind="performance", fires=alarm.raised, because=because, since=since)


def _drift(looked: Looked) -> Signal:
    if looked.checked is None:
        because = "; ".join(looked.notes) or "nothing to compare yet"
        return Signal(kind="drift", fires=False, because=because)
    alarm = looked.checked.alarm
    because = f"{alarm.because}; {looked.checked.last.because}" if alarm.raised else alarm.because
    moments = [m.timestamp() for m in alarm.since.values() if m is not None]
    since = min(moments, default=None)
    return Signal(kind="drift", fires=alarm.raised, because=because, since=since)


def _trained_on(version: ModelVersion) -> Iterator[tuple[str, str]]:
    """Yield the datasets of a version, with theirs; the records that it learnt from are none."""
    for use in version.tags.get("charkha.data", "").split():
        name, _, digest = use.partition("=")
        if not name.endswith(".records"):
            yield name, digest


def _schedule(rules: TriggerSettings, kept: Kept, now: float) -> Signal:
    """Look whether a moment was due after the last turn, whatever began that.

    What a clock that went back put into the future does not count.
    """
    due = last_due(str(rules.cron), now)
    turns = [b.at for b in kept.begun] + ([kept.turn.began_at] if kept.turn else [])
    last = max((at for at in (kept.watching_since, *turns) if at <= now), default=0.0)
    when = to_minute(due)
    if due > last:
        return Signal(kind="schedule", fires=True, because=f"{rules.cron} was due at {when}")
    return Signal(kind="schedule", fires=False, because=f"{rules.cron} was last due at {when}")


def _short(version: str) -> str:
    kind, _, digest = version.partition(":")
    return f"{kind}:{digest[:7]}" if digest else version[:7]
