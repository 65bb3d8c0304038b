"""Meters: what a worker counts and measures, one addition to shared memory for each number.

Prometheus's own client is not used here: it adds 37 ms, 46 modules and 4 MB to every worker, an
addition in it costs ten times as much, and its files of several processes end with the process. Its
parser reads our text in the tests.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from charkha.serving.counts import Cells, Counts, Key
from charkha.serving.families import BATCHES, BOUNDS, DELAYS_S, DURATIONS_S, FAMILIES

if TYPE_CHECKING:
    from charkha.serving.glancing import Glance

Read = Callable[[], float]
_NOT_THERE = math.nan  # a gauge that has no value now is not shown


class Meters:
    """All that one worker counts. Every method belongs to the thread of the event loop.

    A number that dies with this process goes on in the next one with the same number.

    Args:
        folder: of `charkha.serving.counts.counting`.
        worker: its number, from 0, or "lead" for a lead that answers no requests itself.
    """

    def __init__(self, folder: Path, worker: int | Literal["lead"]) -> None:
        self.folder = folder
        self._counts = Counts(folder, worker)
        self._statuses: dict[int, Cells] = {}
        self._watched: dict[int, tuple[Cells, Read, float | None]] = {}
        self._shown: dict[Key, Cells] = {}
        self._next = 0
        self._forget_gauges()

    def variant(self, model: str, version: int, variant: str, role: str) -> Meter:
        """Return the meter of a variant, whose counts start at what they were when it left.

        Args:
            model: the model's name.
            version: its version.
            variant: the variant's name.
            role: "live" or "shadow".
        """
        return Meter(self, model=model, version=str(version), variant=variant, role=role)

    def refused(self, status: int) -> None:
        """Count a request that asked for predictions and got this status instead."""
        cells = self._statuses.get(status)
        if cells is None:
            cells = self._statuses[status] = self.cells(
                "charkha_requests_total", status=str(status)
            )
        cells[0] += 1

    def feedback(self, predicted_at: Sequence[float]) -> None:
        """Count ground truths by how long after their predictions (unix seconds) they came."""
        cells, now = self.cells("charkha_feedback_delay_seconds"), time.time()
        for at in predicted_at:
            delay_s = max(0.0, now - at)
            cells[0] += delay_s
            cells[1 + bisect_left(DELAYS_S, delay_s)] += 1

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter; for what happens seldom."""
        self.cells(name, **labels)[0] += amount

    def watch(self, name: str, read: Read, **labels: str) -> int:
        """Have `read` asked at every refresh; what is returned ends that, given to `unwatch`.

        A gauge takes the value; to a counter is added what has come since the last time, so `read`
        starts at 0 and may be another object's own count.
        """
        self._next += 1
        last = 0.0 if FAMILIES[name].kind == "counter" else None
        self._watched[self._next] = (self.cells(name, **labels), read, last)
        self._refresh(self._next)
        return self._next

    def unwatch(self, *watched: int) -> None:
        """Read counters a last time, and show gauges no longer."""
        for number in watched:
            self._refresh(number)
            cells, _, last = self._watched.pop(number)
            if last is None:
                cells[0] = _NOT_THERE
        self.refresh()  # another may show the same: a version that left and came back

    def show(self, values: Mapping[Key, float]) -> None:
        """Show these gauges, and no longer those of the last call that are not among them."""
        for key, cells in self._shown.items():
            if key not in values:
                cells[0] = _NOT_THERE
        self._shown = {key: self.cells(key[0], **dict(key[1])) for key in values}
        for key, cells in self._shown.items():
            cells[0] = values[key]

    def refresh(self) -> None:
        """Read all that is watched; to be called each second, and before the counts are shown."""
        for number in self._watched:
            self._refresh(number)

    def close(self) -> None:
        """Say that this worker has ended; its counts stay."""
        self.show({})
        self.unwatch(*self._watched)
        self._counts.close()

    def cells(self, name: str, bounds: Iterable[float] = (), /, **labels: str) -> Cells:
        """Return the numbers of one label set, to be added to in place.

        Args:
            name: of the family.
            bounds: of a histogram whose family has none.
            labels: one for each that the family has.
        """
        family = FAMILIES[name]
        named = tuple((label, labels[label]) for label in family.labels)
        own = [repr(float(bound)) for bound in bounds]
        if own:
            named = (*named, (BOUNDS, " ".join(own)))
        return self._counts.take((name, named), family.cells + len(own))

    def _refresh(self, number: int) -> None:
        cells, read, last = self._watched[number]
        now = float(read())
        if last is None:
            cells[0] = now
        elif now != last:
            cells[0] += now - last
            self._watched[number] = (cells, read, now)

    def _forget_gauges(self) -> None:
        """Take away what a predecessor that was killed has left in its gauges."""
        for (name, _), cells in self._counts.found():
            if FAMILIES[name].kind in ("gauge", "info"):
                cells[0] = _NOT_THERE


class Meter:
    """What is counted of one variant.

    `answered` and `lost` belong to the thread of the event loop, `batch` to the lane's.
    """

    __slots__ = (
        "_batches", "_durations", "_failures", "_glance", "_meters", "_rows", "_watched", "labels",
    )  # fmt: skip

    def __init__(self, meters: Meters, **labels: str) -> None:
        self._meters, self.labels = meters, labels
        self._rows = meters.cells("charkha_predictions_total", **labels)
        self._durations = meters.cells("charkha_prediction_duration_seconds", **labels)
        self._batches = meters.cells("charkha_batch_size", **labels)
        # From the start: a rate does not see how a counter that was not there becomes 1.
        self._failures = meters.cells("charkha_prediction_failures_total", **labels)
        self._watched: tuple[int, ...] = ()
        self._glance: Glance | None = None

    def answered(self, rows: int, seconds: float) -> None:
        """Count a request that was answered, with so many rows after so long."""
        self._rows[0] += rows
        cells = self._durations
        cells[0] += seconds
        cells[1 + bisect_left(DURATIONS_S, seconds)] += 1

    def failed(self) -> None:
        """Count a request that it took and that was answered with 5xx."""
        self._failures[0] += 1

    def batch(self, rows: int) -> None:
        """Count a batch that the model is asked for."""
        cells = self._batches
        cells[0] += rows
        cells[1 + bisect_left(BATCHES, rows)] += 1

    def lost(self, reason: str) -> None:
        """Count a request that this shadow did not follow."""
        about = {name: value for name, value in self.labels.items() if name != "role"}
        self._meters.cells("charkha_shadow_dropped_total", **about, reason=reason)[0] += 1

    def look(self, glance: Glance) -> None:
        """Have what was seen of the variant's rows shown with it."""
        self._glance = glance

    def show(self, *, form: str, share: Read | None, waiting: Read) -> None:
        """Show the variant as held, from now until `gone`.

        Args:
            form: what answers, "onnx" or "native".
            share: reads its part of the traffic, from 0 to 1; None for a shadow.
            waiting: reads how many requests wait for their batch.
        """
        watch, labels = self._meters.watch, self.labels
        own = [
            watch("charkha_model_info", lambda: 1, **labels, form=form),
            watch("charkha_queue_depth", waiting, **labels),
        ]
        if share is not None:
            about = {name: value for name, value in labels.items() if name != "role"}
            own.append(watch("charkha_variant_share", share, **about))
        if self._glance is not None:
            own += self._glance.show()
        self._watched = tuple(own)

    def gone(self) -> None:
        """Show the variant as held no longer; its counts stay."""
        self._meters.unwatch(*self._watched)
        self._watched = ()
