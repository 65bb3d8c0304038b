"""Lower performance: how often it is said where nothing has changed, and when it is found; seeded."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from charkha.models.evidence import Scored
from charkha.models.predictions import Predictions
from charkha.monitoring.losses import HeldOut, chance, compare, interval
from charkha.monitoring.performance import ToldPerformance, performance_alarm
from charkha.project import MonitoringSettings

SETTINGS = MonitoringSettings()
WINDOWS = 200
LABELS = ("no", "yes")


def numbers(rows, chance, worse=1.0):
    truth = chance.lognormal(12, 0.4, rows)
    return Scored(
        truth=truth,
        predicted=Predictions(values=truth + worse * chance.standard_t(3, rows) * truth / 10),
    )


def labels(rows, chance, worse=1.0):
    sure = chance.beta(0.5, 0.5, rows)
    truth, said = (np.empty(rows, dtype=object) for _ in range(2))
    flipped = chance.random(rows) < 0.3 * (worse - 1)
    truth[:] = np.where((chance.random(rows) < sure) ^ flipped, "yes", "no").tolist()
    said[:] = np.where(sure > 0.5, "yes", "no").tolist()
    shares = np.stack([1 - sure, sure], axis=1).clip(1e-3, 1 - 1e-3)
    return Scored(
        truth=truth, predicted=Predictions(values=said, probabilities=shares, classes=LABELS)
    )


def held_out(kept, *, forgotten=False, names=()):
    once = np.ones((1, len(kept.truth)))
    figures = {name: float(kept.statistic(name)(once)[0]) for name in names}
    return HeldOut(figures=figures, rows=len(kept.truth), kept=None if forgotten else kept)


@pytest.mark.parametrize("rows", [100, 600])
@pytest.mark.parametrize(
    ("make", "names"),
    [(numbers, ("rmse", "mae", "r2")), (labels, ("accuracy", "f1", "auc", "log_loss"))],
)
@pytest.mark.parametrize("forgotten", [False, True])
def test_windows_in_which_nothing_has_changed_are_not_called_lower(rows, make, names, forgotten):
    rng = np.random.default_rng(rows)
    lower = 0
    for at in range(WINDOWS):
        if at % 10 == 0:
            before = held_out(make(400, rng), forgotten=forgotten, names=names)
        window = make(rows, rng)
        p = {name: chance(name, window, before, alpha=0.01 / len(names)) for name in names}
        lower += min(p.values()) * len(names) <= SETTINGS.false_alarms
    assert lower <= 6  # of 200 at 1 %; more come once in two hundred times


def test_a_loss_that_is_half_as_large_again_is_found():
    rng = np.random.default_rng(1)
    before = held_out(numbers(1_000, rng))
    found = [compare(("mae",), numbers(500, rng, 1.5), before, SETTINGS)[0][0] for _ in range(20)]
    assert all(v.lower for v in found)
    assert all(0.2 < v.share < 0.8 for v in found)
    assert " worse (p = " in found[0].because


def test_a_loss_that_is_no_chance_and_too_small_to_matter_is_as_expected():
    rng = np.random.default_rng(1)
    before = held_out(numbers(4_000, rng))
    many = numbers(60_000, rng, 1.07)
    [verdict], _ = compare(("mae",), many, before, SETTINGS)
    assert verdict.p < 0.01
    assert not verdict.lower
    assert "too little to matter" in verdict.because


def test_a_better_window_is_as_expected():
    rng = np.random.default_rng(1)
    [verdict], _ = compare(("rmse",), numbers(900, rng, 0.5), held_out(numbers(900, rng)), SETTINGS)
    assert not verdict.lower
    assert verdict.because.endswith("held out: no worse")


def test_a_metric_that_is_undefined_says_why_and_the_others_are_measured():
    rng = np.random.default_rng(1)
    constant = Scored(truth=np.ones(200), predicted=Predictions(values=rng.normal(1, 1, 200)))
    verdicts, notices = compare(("r2", "mae"), constant, held_out(numbers(300, rng)), SETTINGS)
    assert [v.metric for v in verdicts] == ["mae"]
    assert notices == ("r2 cannot be measured: r2 is undefined: the target is 1 in all 200 rows",)


def test_rounding_of_a_model_without_error_is_no_loss():
    rng = np.random.default_rng(1)
    truth = rng.normal(100_000, 20_000, 500)

    def exact(size):
        return Scored(truth=truth, predicted=Predictions(values=truth + size * rng.random(500)))

    [verdict], _ = compare(("rmse",), exact(1e-9), held_out(exact(1e-10)), SETTINGS)
    assert not verdict.lower


def test_many_rows_have_an_interval_without_resampling():
    rng = np.random.default_rng(1)
    few, many = (interval("mae", numbers(rows, rng)) for rows in (5_000, 45_000))
    width = (few.high - few.low) / (many.high - many.low)
    assert width == pytest.approx(3, rel=0.2)


def told(outcome, *lower, day=1):
    since = datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=1)
    return ToldPerformance(outcome=outcome, lower=lower, since=since)


def test_an_alarm_takes_two_windows_in_a_row_and_those_without_labels_do_not_break_it():
    first, gap, second = (
        told("lower", "rmse"),
        told("not enough labels", day=2),
        told("lower", "rmse", day=3),
    )
    assert not performance_alarm([first], SETTINGS).raised
    raised = performance_alarm([first, gap, second, gap], SETTINGS)
    assert raised.raised
    assert raised.because == "rmse lower in 2 windows in a row"
    assert raised.since == {"rmse": first.since}
    broken = performance_alarm([first, told("as expected", day=2), second], SETTINGS)
    assert broken.because == "rmse lower in 1 of 2 windows in a row"
    assert performance_alarm([gap], SETTINGS).because == "no window has had enough labels"
