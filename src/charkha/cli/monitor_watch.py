"""`charkha monitor watch`: a look again and again, told in a line each, and alerts for who is away."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from charkha.cli import show
from charkha.clock import to_second
from charkha.errors import DONE, BackendError
from charkha.models.verdict import show as number
from charkha.monitoring.telling import LASTS_S, tell
from charkha.monitoring.watching import look
from charkha.project import read_secret

if TYPE_CHECKING:
    from charkha.monitoring.alerts import Alert
    from charkha.monitoring.watching import Looked
    from charkha.project import Project


def act(project: Project, given: argparse.Namespace) -> int:
    """Watch until Ctrl-C, or look once; what does not answer is waited for."""
    read_secret(project, "alerts", "webhook")  # else the first alert would find out
    with _logging():
        try:
            _watch(project, given)
        except KeyboardInterrupt:
            show.note(
                f"\nno longer watching {given.model}; open alerts stay as they are, and the next "
                "look goes on with them"
            )
    return DONE


def _watch(project: Project, given: argparse.Namespace) -> None:
    said, waiting = "", False
    while True:
        try:
            looked = look(project, given.model, since=given.since, window=given.window)
            alerts = tell(
                project,
                looked.causes,
                scope=given.model,
                unknown=looked.unknown,
                lasts_s=max(LASTS_S, 3 * given.every),
            )
        except BackendError as e:
            if given.once:
                raise
            if not waiting:
                show.note(f"waiting: {e}")
            waiting = True
        else:
            waiting = False
            said = _tell(looked, alerts, said, as_json=given.json)
        if given.once:
            return
        time.sleep(given.every)


def _tell(looked: Looked, alerts: list[Alert], said: str, *, as_json: bool) -> str:
    """Print a line, and return what it says besides the time."""
    now = datetime.now(UTC)
    if as_json:
        show.as_line({"at": now, **_plain(looked, alerts)})
        return said
    words = f"{looked.version}: {'; '.join(_words(looked, alerts))}"
    shown = f"{looked.version}: as before" if words == said else words
    print(f"{to_second(now)}  {shown}", flush=True)
    return words


def _words(looked: Looked, alerts: list[Alert]) -> Iterator[str]:
    if looked.checked is not None:
        last = looked.checked.last
        yield looked.checked.alarm.because if last.outcome == "drift" else last.outcome
        yield from looked.checked.notes
    judged = looked.performance.last_judged if looked.performance else None
    for metric in judged.metrics if judged else ():
        state = "lower" if metric.lower else "as expected"
        yield f"{metric.metric} {number(metric.value)}, {state}"
    if looked.performance is not None and judged is None:
        yield "too little ground truth yet"
    yield from looked.notes
    firing = [alert.id for alert in alerts if alert.firing]
    if firing:
        yield f"{len(firing)} alert{'s' if len(firing) > 1 else ''} ({', '.join(firing)})"


def _plain(looked: Looked, alerts: list[Alert]) -> dict[str, Any]:
    checked, performance = looked.checked, looked.performance
    judged = performance.last_judged if performance else None
    return {
        "version": looked.version,
        "drift": checked
        and {
            "outcome": checked.last.outcome,
            "because": checked.last.because,
            "drifted": checked.last.drifted,
            "rows": checked.last.rows,
            "alarm": checked.alarm.raised,
        },
        "performance": judged
        and {
            "outcome": judged.outcome,
            "because": judged.because,
            "metrics": {m.metric: m.value for m in judged.metrics},
            "labelled": judged.labelled,
        },
        "alerts": [
            {
                "alert": a.id,
                "change": a.change,
                "cause": a.cause.key,
                "severity": a.cause.severity,
                "title": a.cause.title,
                "text": a.cause.text,
            }
            for a in alerts
        ],
        "notes": looked.notes,
    }


@contextmanager
def _logging() -> Iterator[None]:
    """Show what Charkha logs on stderr: alerts in full, and who could not be told of them."""
    log, handler = logging.getLogger("charkha"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
