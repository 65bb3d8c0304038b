"""A release drawn as text: where it is, and each interval closing in on its margin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charkha.release import plan as plans
from charkha.release.kept import Release
from charkha.release.rules import Finding, percent, verdict_from_json

if TYPE_CHECKING:
    from charkha.release.rules import Verdict

_WIDTH = 41  # of a line; the margin stands at three quarters, nothing at the middle
_HALF = _WIDTH // 2


def lines(release: Release) -> Iterator[str]:
    """Yield the lines of `charkha release status`."""
    traffic = plans.traffic(release.plan, release.state)
    shadow = "" if traffic.shadow is None else f", {traffic.shadow} follows as a shadow"
    yield (
        f"{release.subject} instead of version {release.baseline}: {release.state.phase}, "
        f"{release.plan.strategy}{_of_stages(release)}, {traffic.candidate:g} % of the traffic{shadow}"
    )
    yield f"  because {release.state.because}"
    if release.state.overdue:
        yield "  → its time is over: charkha release promote, or abort"
    if release.verdict is not None:
        yield from _of_verdict(verdict_from_json(release.verdict))


def _of_stages(release: Release) -> str:
    if release.state.phase != "judging":
        return ""
    return f" stage {release.state.stage + 1} of {len(release.plan.stages)}"


def _of_verdict(verdict: Verdict) -> Iterator[str]:
    yield f"  {verdict.kind}: {verdict.because}"
    if not verdict.findings:
        return
    width = max(len(f.name) for f in verdict.findings)
    head = "better".ljust(_HALF) + "0" + "margin".center(_HALF - 1)
    yield f"  {'':{width}}  {head}"
    for finding in verdict.findings:
        yield f"  {finding.name:<{width}}  {interval(finding)}  {_numbers(finding)}".rstrip()


def interval(finding: Finding) -> str:
    """Draw `low` to `high` on a line on which the margin stands three quarters to the right.

    `<` and `>` go on beyond the line; `│` is no difference, `┆` the margin, `●` the estimate.
    """
    if finding.difference is None:
        return "·" * _HALF + "│" + "·" * (_HALF // 2 - 1) + "┆" + "·" * (_HALF - _HALF // 2)
    margin = finding.margin or 1.0

    def place(value: float | None, otherwise: int) -> int:
        if value is None:
            return otherwise
        return max(0, min(_WIDTH - 1, _HALF + round(value / margin * (_HALF // 2))))

    low, high = place(finding.low, 0), place(finding.high, _WIDTH - 1)
    line = [" "] * _WIDTH
    line[_HALF], line[_HALF + _HALF // 2] = "│", "┆"
    for at in range(low, high + 1):
        line[at] = "─"
    line[low] = "<" if low == 0 else "├"
    line[high] = ">" if high == _WIDTH - 1 else "┤"
    line[place(finding.difference, _HALF)] = "●"
    return "".join(line)


def _numbers(finding: Finding) -> str:
    if finding.difference is None:
        return "nothing to compare yet"
    word = "worse" if finding.worse else "fine" if finding.fine else "open"
    low = "?" if finding.low is None else percent(finding.low)
    high = "?" if finding.high is None else percent(finding.high)
    return f"{word:<5} {percent(finding.difference)} ({low} to {high}) of {finding.counts[1]:,}"
