"""Evidence adds up, in any order and after a killed controller, to what was seen."""

import json

import numpy as np
import pytest

from charkha.release.evidence import (
    BIN,
    MOST_BINS,
    Evidence,
    Scales,
    Window,
    latency_bin,
    latency_of,
)

from .conftest import arm, pairs, sample


@pytest.fixture
def parts(chance):
    return [
        Window(
            stage=1,
            baseline=arm(chance, 50 + n),
            candidate=arm(chance, 20),
            **pairs(chance, 30),
            first_at=10.0 * n,
            last_at=10.0 * n + 5,
        )
        for n in range(3)
    ]


def flat(value, at=""):
    """Return every number of a tree with where it stands."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{at}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for n, inner in enumerate(value) for k, v in flat(inner, f"{at}/{n}").items()}
    return {at: value}


def test_parts_of_a_window_add_up_to_the_same_in_any_order(parts):
    a, b, c = (Evidence(windows=(p,)) for p in parts)
    assert flat(((a + b) + c).as_json()) == pytest.approx(flat((c + (b + a)).as_json()))
    whole = (a + b + c).window(1)
    assert whole.baseline.requests == 50 + 51 + 52
    assert (whole.first_at, whole.last_at, whole.lasted_s) == (0, 25, 25)


def test_a_sum_of_samples_is_the_sample_of_all(chance):
    x, y = chance.lognormal(0, 2, 40), 1e6 + chance.random(7)
    assert vars(sample(x) + sample(y)) == pytest.approx(vars(sample(np.concatenate([x, y]))))
    assert sample(x) + sample(x[:0]) == sample(x) == sample(x[:0]) + sample(x)


def test_a_sum_of_pairs_knows_their_products(chance):
    base, cand = chance.random((2, 60))

    def pair(of):
        from_base, from_cand = base[of], cand[of]
        apart = (from_base - from_base.mean()) * (from_cand - from_cand.mean())
        return sample(from_base), sample(from_cand), float(apart.sum())

    made = pairs(chance, 5)["pairs"].__class__
    (b1, c1, p1), (b2, c2, p2) = pair(slice(0, 20)), pair(slice(20, 60))
    whole = made(baseline=b1, candidate=c1, products=p1) + made(
        baseline=b2, candidate=c2, products=p2
    )
    assert whole.products == pytest.approx(pair(slice(0, 60))[2])


def test_windows_of_other_stages_are_kept_apart(parts):
    other = Evidence(windows=(Window(stage=2), Window(stage=1, paired=True)))
    added = Evidence(windows=tuple(parts[:1])) + other
    assert [(w.stage, w.paired) for w in added.windows] == [(1, False), (1, True), (2, False)]
    with pytest.raises(ValueError, match="not one"):
        parts[0] + Window(stage=2)


def test_evidence_on_other_scales_is_not_added(parts):
    one = Evidence(windows=tuple(parts[:1]), scales=Scales(edges=(1.0,)))
    with pytest.raises(ValueError, match="scales"):
        one + Evidence(windows=tuple(parts[:1]), scales=Scales(edges=(2.0,)))


@pytest.mark.parametrize(
    "scales", [Scales(), Scales(edges=(0.5, 1.5), cap=3.0), Scales(classes=("a",))]
)
def test_evidence_comes_back_from_json_as_it_was(parts, scales):
    whole = Evidence(windows=(*parts[:1], Window(stage=3)), scales=scales)
    assert Evidence.from_json(json.loads(json.dumps(whole.as_json()))) == whole


@pytest.mark.parametrize("seconds", [1e-9, 1e-4, 0.0123, 1.0, 999.0])
def test_a_latency_is_in_a_bin_that_is_two_percent_wide(seconds):
    at = latency_bin(seconds)
    assert seconds <= latency_of(at) * (1 + 1e-9)
    assert at == 0 or latency_of(at) / BIN < seconds * (1 + 1e-9)
    assert latency_bin(1e9) == MOST_BINS - 1
