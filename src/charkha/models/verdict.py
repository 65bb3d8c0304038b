"""Whether a candidate passes: pure rules over estimates, and the sentences that give the reason.

`better_than` is one strict rule: the whole confidence interval of the improvement has to lie above
`by`. With a 95 % interval a candidate that is no better passes in nominally 2.5 % of cases (what it
is in practice: benchmarks/gate.py), and all rules have to hold, which needs no correction for their
number (intersection-union test, Berger 1982). Thresholds (`at_most`, `at_least`) are about the score itself, as everybody reads them; where
its interval reaches across, a warning says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from charkha.models.gate import Gate
from charkha.models.metrics import METRICS, Metric

OVERFIT_RATIO = 1.25  # held-out error over training error; what is above is worth a warning
OVERFIT_GAP = 0.05  # the same for scores where higher is better
FEW_ROWS = 30  # below, a percentile interval is too narrow


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with the interval in which it lies, at the rule's confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured for one rule; every number is in the metric's own unit."""

    candidate: Estimate  # on the held-out rows
    champion: float | None = None  # on the same rows
    improvement: Estimate | None = None  # over the champion; positive is better
    train: float | None = None
    loss_of_fit: Estimate | None = None  # held-out over training error, or training minus held-out
    baseline: float | None = None  # of predicting the training mean, or the commonest class
    over_baseline: Estimate | None = None  # improvement over it
    undefined: int = 0  # resamples in which the metric had no value


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version that a candidate is compared with."""

    version: str
    package: str  # the digest of its package


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What became of one rule."""

    metric: str
    rule: str  # "at_most 30,000"
    passed: bool
    candidate: float
    champion: float | None
    difference: float | None  # improvement over the champion; positive is better
    low: float  # of the difference, or of the score where nothing is compared
    high: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a candidate may become a version that takes over, and why."""

    model: str
    passed: bool
    first: bool  # there is no champion yet
    same: bool  # the candidate is the champion's own package
    because: list[str]
    rules: list[RuleResult]
    warnings: list[str]
    metrics: dict[str, dict[str, float]]  # "train" | "test" -> metric -> score
    champion: Champion | None
    judged_against: str  # "champion:<package digest>" | "champion:none"
    rows: int  # held out

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is judged."""

    model: str
    target: str
    rows: int
    metrics: dict[str, dict[str, float]]
    champion: Champion | None
    same: bool


def judge(case: Case, rules: Sequence[tuple[Gate, Evidence]]) -> Verdict:
    """Decide.

    Args:
        case: what is judged.
        rules: each with what was measured for it; all have to hold.
    """
    results = [r for rule, evidence in rules for r in _results(rule, evidence, case)]
    failed = [r.text for r in results if not r.passed]
    if case.same and case.champion:
        because = [f"this is version {case.champion.version} itself, the champion: same package"]
    else:
        because = failed or [r.text for r in results]
    return Verdict(
        model=case.model,
        passed=not failed and not case.same,
        first=case.champion is None,
        same=case.same,
        because=because,
        rules=results,
        warnings=_warnings(rules, case),
        metrics=case.metrics,
        champion=case.champion,
        judged_against=f"champion:{case.champion.package if case.champion else 'none'}",
        rows=case.rows,
    )


def show(number: float) -> str:
    """Write a score for people: four digits that matter, thousands set apart."""
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:,.4g}"


def _results(rule: Gate, evidence: Evidence, case: Case) -> list[RuleResult]:
    results = []
    if rule.at_most is not None:
        results.append(_threshold(rule, "at_most", rule.at_most, evidence, case))
    if rule.at_least is not None:
        results.append(_threshold(rule, "at_least", rule.at_least, evidence, case))
    if rule.better_than is not None:
        results.append(_comparison(rule, evidence, case))
    return results


def _threshold(rule: Gate, kind: str, limit: float, evidence: Evidence, case: Case) -> RuleResult:
    score = evidence.candidate
    beyond = score.value - limit if kind == "at_most" else limit - score.value
    words = kind.replace("_", " ")
    subject = f"{METRICS[rule.metric].of(case.target)} is {show(score.value)}"
    if beyond <= 0:
        text = f"{subject} ({_interval(rule, score)}), and {words} {show(limit)} was asked"
    else:
        side = "above" if kind == "at_most" else "below"
        text = (
            f"{subject} ({_interval(rule, score)}), {show(beyond)} {side} the limit: "
            f"{words} {show(limit)} was asked"
        )
    return RuleResult(
        metric=rule.metric,
        rule=f"{words} {show(limit)}",
        passed=beyond <= 0,
        candidate=score.value,
        champion=evidence.champion,
        difference=None,
        low=score.low,
        high=score.high,
        text=text,
    )


def _comparison(rule: Gate, evidence: Evidence, case: Case) -> RuleResult:
    metric, gain = METRICS[rule.metric], evidence.improvement
    asked = "better than the champion" + (f" by {show(rule.by)}" if rule.by else "")
    if gain is None or case.champion is None:
        passed = True
        text = f"there is no champion yet whose {metric.name} it would have to beat"
    else:
        passed = gain.low > rule.by and not case.same
        text = _compared(rule, metric, evidence, gain, case, case.champion)
    return RuleResult(
        metric=rule.metric,
        rule=asked,
        passed=passed,
        candidate=evidence.candidate.value,
        champion=evidence.champion,
        difference=gain.value if gain else None,
        low=gain.low if gain else evidence.candidate.low,
        high=gain.high if gain else evidence.candidate.high,
        text=text,
    )


def _compared(
    rule: Gate, metric: Metric, evidence: Evidence, gain: Estimate, case: Case, champion: Champion
) -> str:
    subject = (
        f"{metric.of(case.target)} is {show(evidence.candidate.value)} against "
        f"{show(evidence.champion or 0.0)} of the champion (version {champion.version}) on the "
        f"same {case.rows:,} rows"
    )
    if case.same:
        return f"{subject}; it is the champion's own package"
    asked = f"better by more than {show(rule.by)}" if rule.by else "better"
    if gain.value == gain.low == gain.high == 0 <= rule.by:
        return f"{subject}: the same, and {asked} was asked"
    direction = "better" if gain.value > 0 else "worse"
    by_how_much = f"{direction} by {show(abs(gain.value))}" if gain.value else "the same"
    subject = f"{subject}: {by_how_much}, {_interval(rule, gain)}"
    if gain.low > rule.by:
        return f"{subject}, all above {show(rule.by)}"
    missing = rule.by - gain.low
    lacking = (
        f"would have to be {show(missing)} higher" if missing else "would have to lie above it"
    )
    return (
        f"{subject}; better by more than {show(rule.by)} is not shown: "
        f"the interval's lower end {lacking}"
    )


def _interval(rule: Gate, estimate: Estimate) -> str:
    return f"{rule.confidence * 100:g} % interval {show(estimate.low)} to {show(estimate.high)}"


def _warnings(rules: Sequence[tuple[Gate, Evidence]], case: Case) -> list[str]:
    warnings: list[str] = []
    if case.rows < FEW_ROWS:
        warnings.append(
            f"only {case.rows} held-out rows: below {FEW_ROWS} the intervals are too narrow"
        )
    warnings += [w for rule, measured in rules for w in _near_threshold(rule, measured, case)]
    for rule, measured in {rule.metric: (rule, measured) for rule, measured in rules}.values():
        metric = METRICS[rule.metric]
        if measured.undefined:
            warnings.append(
                f"{metric.name} was undefined in {measured.undefined:,} of {rule.resamples:,} "
                "resamples, which are left out of its interval: a class is too rare"
            )
        warnings += _overfitting(rule, metric, measured, case)
        warnings += _underfitting(rule, metric, measured, case)
    return warnings


def _near_threshold(rule: Gate, evidence: Evidence, case: Case) -> list[str]:
    limit = rule.at_most if rule.at_most is not None else rule.at_least
    if limit is None or not evidence.candidate.low < limit < evidence.candidate.high:
        return []
    return [
        f"{METRICS[rule.metric].of(case.target)}: the limit {show(limit)} lies inside the "
        f"{_interval(rule, evidence.candidate)}; other held-out rows could decide otherwise"
    ]


def _overfitting(rule: Gate, metric: Metric, evidence: Evidence, case: Case) -> list[str]:
    loss, train = evidence.loss_of_fit, evidence.train
    if loss is None or train is None:
        return []
    if metric.better == "lower" and loss.low > OVERFIT_RATIO:
        size = f"{loss.value:.3g} times as much ({_interval(rule, loss)})"
        size = size if loss.value != float("inf") else "and nothing to divide by"
    elif metric.better == "higher" and loss.low > OVERFIT_GAP:
        size = f"{show(loss.value)} lower ({_interval(rule, loss)})"
    else:
        return []
    return [
        f"overfitting: {metric.of(case.target)} is {show(train)} on the training rows and "
        f"{show(evidence.candidate.value)} on the held-out rows, {size}"
    ]


def _underfitting(rule: Gate, metric: Metric, evidence: Evidence, case: Case) -> list[str]:
    gain, baseline = evidence.over_baseline, evidence.baseline
    if gain is None or baseline is None or gain.low > 0:
        return []
    naive = "the training mean" if metric.task == "regression" else "how common each class is"
    return [
        f"underfitting: {metric.of(case.target)} is {show(evidence.candidate.value)}, and always "
        f"predicting {naive} scores {show(baseline)}: not shown to be better "
        f"(improvement {_interval(rule, gain)})"
    ]
