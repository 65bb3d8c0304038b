"""The verdict of a report: one sentence with its numbers, and how serious it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from charkha.monitoring.causes import listed, plain
from charkha.monitoring.reporting.svg import written

if TYPE_CHECKING:
    from charkha.monitoring.checking import Checked
    from charkha.monitoring.drift import Verdict
    from charkha.monitoring.performance import MetricVerdict, Performance
    from charkha.monitoring.reporting.gathering import Gathered

Tone = Literal["bad", "watch", "good", "neutral"]
_ORDER: tuple[Tone, ...] = ("bad", "watch", "good", "neutral")
_WORDS = {
    "bad": "needs attention",
    "watch": "worth watching",
    "good": "as it should be",
    "neutral": "too early to tell",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is told first."""

    tone: Tone
    word: str
    sentence: str
    details: tuple[str, ...]


def summary(gathered: Gathered) -> Summary:
    """Return the verdict; performance weighs more than drift, as it is what the model is for."""
    of_drift, drift_tone, drift_details = _drift(gathered.checked)
    of_truth, truth_tone, truth_details = _performance(gathered.performance)
    tone = min((drift_tone, truth_tone), key=_ORDER.index)
    parts = [of_drift, of_truth] if truth_tone == "neutral" else [of_truth, of_drift]
    return Summary(
        tone=tone,
        word=_WORDS[tone],
        sentence=f"{gathered.version}: {', and '.join(part for part in parts if part)}.",
        details=(*truth_details, *drift_details),
    )


def judged(checked: Checked | None) -> Verdict | None:
    """Return the newest window of which something could be said."""
    found = [v for v in checked.verdicts if v.outcome != "not enough data"] if checked else []
    return found[-1] if found else None


def _drift(checked: Checked | None) -> tuple[str, Tone, tuple[str, ...]]:
    if checked is None:
        return "there is no record yet", "neutral", ()
    last = judged(checked)
    if last is None:
        return f"no window has enough rows yet ({checked.last.rows:,})", "neutral", ()
    if last.outcome == "no drift":
        text = f"none of {len(last.columns)} columns has drifted"
        return text, "good", (f"The newest window has {last.rows:,} rows.",)
    names = [plain(column) for column in last.drifted]
    what = f"{len(names)} of {len(last.columns)} columns drifted ({listed(names)})"
    strongest = max((c for c in last.columns if c.drifted), key=lambda c: c.effects.shift_sd)
    said = f"Strongest in {plain(strongest.column)}: {strongest.because}."
    if checked.alarm.raised:
        return what, "bad", (said,)
    return f"{what}, not yet for long enough to be an alarm", "watch", (said,)


def _performance(performance: Performance | None) -> tuple[str, Tone, tuple[str, ...]]:
    if performance is None:
        return "", "neutral", ()
    last = performance.last_judged
    if last is None or not last.metrics:
        return "too little ground truth has come to measure it", "neutral", ()
    lower = [m for m in last.metrics if m.lower]
    shown = (lower or list(last.metrics))[0]
    detail = f"{_interval(shown)}, measured on {last.labelled:,} rows; {shown.because}."
    if not lower:
        return f"{shown.metric} is as expected ({written(shown.value)})", "good", (detail,)
    held = f"{written(shown.value)} where {written(shown.held_out)} was held out"
    if performance.alarm.raised:
        return f"its {shown.metric} is worse: {held}", "bad", (detail,)
    return f"its {shown.metric} was worse in the newest window ({held})", "watch", (detail,)


def _interval(metric: MetricVerdict) -> str:
    return (
        f"{metric.metric} {written(metric.value)} "
        f"(95 %: {written(metric.low)} to {written(metric.high)})"
    )
