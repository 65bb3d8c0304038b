"""What the judge says about evidence, and that it says why."""

import json
from dataclasses import replace

import pytest

from charkha.release.evidence import Arm, Evidence, Window
from charkha.release.judge import judge
from charkha.release.rules import METRICS, Rules

from .conftest import arm, pairs


def named(verdict, name):
    return next(f for f in verdict.findings if f.name == name)


def worse(verdict):
    return {f.metric for f in verdict.findings if f.worse}


def test_a_version_that_is_no_worse_is_promoted_once_it_is_shown(seen):
    few, many = judge(seen(400), Rules()), judge(seen(20_000), Rules())
    assert few.kind == "keep collecting"
    assert "not shown yet: errors" in few.because
    assert many.kind == "promote"
    assert many.because.startswith("no worse by what matters: errors ")


@pytest.mark.parametrize(
    ("how", "metric"),
    [
        ({"errors": 0.05}, "errors"),
        ({"slower": 1.5}, "latency"),
        ({"shift": 2.0}, "predictions"),
        ({"loss": 1.3}, "loss"),
    ],
)
def test_each_metric_can_roll_a_version_back_and_says_by_how_much(seen, how, metric):
    verdict = judge(seen(**how), Rules())
    assert (verdict.kind, worse(verdict)) == ("roll back", {metric})
    found = next(f for f in verdict.findings if f.worse)
    assert found.low <= found.difference <= found.high
    assert f"worse: {found.name} +" in verdict.because


def test_better_is_never_worse(seen):
    better = seen(20_000, base_errors=0.05, errors=0.001, slower=0.5, loss=0.7)
    assert judge(better, Rules()).kind == "promote"


def test_what_is_sure_but_too_small_to_matter_is_no_reason(seen):
    evidence = seen(3000, loss=1.3)
    relaxed = Rules(margins={**Rules().margins, "loss": 0.5})
    found = named(judge(evidence, relaxed), "loss")
    assert found.low > 0
    assert not found.worse
    assert judge(evidence, Rules()).kind == "roll back"


def test_without_traffic_it_waits_and_says_so(seen):
    for evidence in (Evidence(), Evidence(windows=(Window(stage=0, baseline=Arm(requests=900)),))):
        verdict = judge(evidence, Rules())
        assert (verdict.kind, verdict.exposed) == ("keep collecting", False)
        assert verdict.because == "no traffic on both versions yet: waiting"


def test_before_the_least_exposure_of_the_stage_nothing_is_promoted(seen):
    done = seen(20_000, stage=0)
    begun = done + seen(40, stage=1)
    verdict = judge(begun, Rules(), stage=1)
    assert (verdict.kind, verdict.exposed) == ("keep collecting", False)
    assert verdict.because == "40 of 100 requests in this stage"
    assert judge(done, Rules(), stage=0).exposed


def test_a_hundred_labels_are_the_least_for_losses_and_none_are_no_fault(seen):
    few = judge(seen(20_000, labels=99), Rules())
    assert named(few, "loss").difference is None
    assert few.kind == "promote"
    assert judge(seen(20_000, labels=99), Rules(required=("loss",))).kind == "keep collecting"


def test_few_labels_can_show_that_a_loss_is_worse_and_not_yet_that_it_is_not(seen):
    relaxed = Rules(margins={**Rules().margins, "loss": 2.0})
    found = {n: named(judge(seen(20_000, labels=n), relaxed), "loss") for n in (399, 400)}
    assert found[399].high < 2.0
    assert (found[399].fine, found[400].fine) == (False, True)


def test_a_metric_that_is_required_has_to_be_shown(seen):
    evidence = seen(20_000)
    assert judge(evidence, Rules(required=METRICS)).kind == "promote"
    unsure = judge(seen(600), Rules(required=("loss",)))
    assert unsure.kind == "keep collecting"
    assert "not shown yet: loss " in unsure.because


def test_few_dear_rows_do_not_hide_a_loss_and_a_cap_alone_rolls_nothing_back(chance, seen):
    whole = seen(3000).windows[0]
    typical = replace(whole.candidate, capped=replace(whole.candidate.capped, mean=1.5))
    only_capped = Evidence(windows=(replace(whole, candidate=typical),))
    verdict = judge(only_capped, Rules())
    assert named(verdict, "loss, capped").low > 0.2
    assert verdict.kind != "roll back"


def test_pairs_find_what_the_arms_alone_do_not(chance):
    alone = {"baseline": arm(chance, 300), "candidate": arm(chance, 300)}
    told = pairs(chance, 300, loss=1.1)
    found = {
        paired: named(
            judge(Evidence(windows=(Window(stage=0, paired=paired, **how),)), Rules()), "loss"
        )
        for paired, how in ((True, {**alone, **told}), (False, alone))
    }
    assert found[True].worse
    assert not found[False].worse
    assert found[True].counts == (300, 300)


def test_a_shadows_latency_is_not_judged(chance):
    window = Window(
        stage=0, paired=True, baseline=arm(chance, 900), candidate=arm(chance, 900, slower=9)
    )
    verdict = judge(Evidence(windows=(window,)), Rules())
    assert named(verdict, "latency p50").difference is None


def test_stages_with_other_shares_are_compared_each_by_itself(chance):
    # The second stage has ten times the errors, loss and latency, and most of the candidate's traffic.
    def stage(number, base, cand, level):
        how = {"errors": 0.004 * level, "slower": level, "loss": level}
        return Window(
            stage=number, baseline=arm(chance, base, **how), candidate=arm(chance, cand, **how)
        )

    verdict = judge(Evidence(windows=(stage(0, 9000, 1000, 1), stage(1, 1000, 9000, 10))), Rules())
    assert worse(verdict) == set()


def test_alpha_is_split_over_all_that_can_roll_back(seen):
    findings = judge(seen(3000), Rules()).findings
    assert sum(f.alpha for f in findings) == pytest.approx(0.05)
    by_weight = Rules(weights={"loss": 1, "errors": 0, "latency": 0, "predictions": 0})
    assert by_weight.share("loss") == 0.05
    assert {f.metric for f in judge(seen(3000, errors=0.5), by_weight).findings} == {"loss"}


def test_a_verdict_is_plain_data(seen):
    told = json.loads(json.dumps(judge(seen(3000), Rules()).as_json()))
    assert told["kind"] == "keep collecting"
    assert {f["metric"] for f in told["findings"]} == set(METRICS)
    assert told["total_s"] == 600
