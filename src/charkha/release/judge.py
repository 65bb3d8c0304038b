"""The judge: promote, roll back or keep collecting, as a pure function of evidence.

A version is rolled back when one metric is surely worse and, as far as can be told, by more than the
margin that matters; the error budget `alpha` is split over the metrics, so that a version that is no
worse is rolled back in at most that part of all releases, in whatever way and however often anybody
looked (a union bound). It may be promoted when every required metric is surely less than its margin
worse; all have to be, so nothing is split (intersection-union test, Berger 1982).
"""

from __future__ import annotations

from collections.abc import Sequence

from charkha.release.evidence import Evidence
from charkha.release.findings import findings
from charkha.release.rules import Finding, Kind, Rules, Verdict


def judge(evidence: Evidence, rules: Rules, stage: int = 0) -> Verdict:
    """Return the verdict on what was seen until now.

    Args:
        evidence: of all stages.
        rules: what it is held against.
        stage: of the plan, that goes on now.
    """
    found = tuple(findings(evidence.windows, rules))
    now = evidence.window(stage)
    least = min(now.baseline.requests, now.candidate.requests)
    exposed = least >= rules.requests
    kind, because = _say(found, rules, least, exposed=exposed)
    return Verdict(
        kind=kind,
        because=because,
        findings=found,
        exposed=exposed,
        stage_s=now.lasted_s,
        total_s=sum(w.lasted_s for w in evidence.windows),
    )


def _say(found: Sequence[Finding], rules: Rules, least: int, *, exposed: bool) -> tuple[Kind, str]:
    worse = [f for f in found if f.worse]
    if worse:
        return "roll back", "; ".join(f"worse: {f.said()}" for f in worse)
    if not least:
        return "keep collecting", "no traffic on both versions yet: waiting"
    if not exposed:
        return "keep collecting", f"{least:,} of {rules.requests:,} requests in this stage"
    needed = [f for f in found if f.metric in rules.required and f.name != "loss, capped"]
    still = [f for f in needed if not f.fine]
    if not still:
        shown = "; ".join(f.said() for f in needed) or "nothing is worse"
        return "promote", f"no worse by what matters: {shown}"
    return "keep collecting", "; ".join(f"not shown yet: {f.said()}" for f in still)
