"""What the loop sees before it decides: people's wishes, performance, drift, data, the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.compute as compute

from charkha.data.datasets import dataset
from charkha.errors import UserError
from charkha.loop.cronsim import last_due
from charkha.loop.triggers import Kind, Signal
from charkha.loop.turns import REQUEST, Kept
from charkha.monitoring.checking import check
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project, TriggerSettings
    from charkha.states import States


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that a decision needs."""

    signals: tuple[Signal, ...]
    data: Mapping[str, str]  # dataset -> version now
    labels: int  # ground truths by now


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
        data = self._data(champion)
        counted = any(t.labels is not None for t in self.triggers)
        labels = self._labels() if counted else kept.labels
        signals = [self._person(kept)]
        looks: dict[Kind, Callable[[], Signal]] = {
            "performance": lambda: self._performance(champion),
            "drift": lambda: self._drift(champion),
            "data": lambda: self._news(champion, kept, asked["data"], data, labels),
            "schedule": lambda: _schedule(asked["schedule"], kept, now),
        }
        signals += [look() for kind, look in looks.items() if kind in asked]
        return Seen(signals=tuple(signals), data=data, labels=labels)

    def _person(self, kept: Kept) -> Signal:
        wish = self.states.read(REQUEST, self.model)
        if wish is None or wish.value["id"] == kept.served:
            return Signal(kind="person", fires=False, because="nobody asked")
        because = f"{wish.value['by']}: {wish.value['because']}"
        return Signal(kind="person", fires=True, because=because, request=wish.value["id"])

    def _performance(self, champion: ModelVersion) -> Signal:
        return Signal(kind="performance", fires=False, because="not looked at")

    def _drift(self, champion: ModelVersion) -> Signal:
        try:
            checked = check(self.project, str(champion), since=self.project.loop.look_back)[0]
        except UserError as e:
            return Signal(kind="drift", fires=False, because=e.what)
        raised = checked.alarm.raised
        moments = [m.timestamp() for m in checked.alarm.since.values() if m is not None]
        because = checked.alarm.because
        if raised:
            because = f"{because}; {checked.last.because}"
        return Signal(kind="drift", fires=raised, because=because, since=min(moments, default=None))

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
    when = datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if due > last:
        return Signal(kind="schedule", fires=True, because=f"{rules.cron} was due at {when}")
    return Signal(kind="schedule", fires=False, because=f"{rules.cron} was last due at {when}")


def _short(version: str) -> str:
    kind, _, digest = version.partition(":")
    return f"{kind}:{digest[:7]}" if digest else version[:7]
