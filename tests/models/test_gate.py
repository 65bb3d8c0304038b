import json

import numpy as np
import pytest

from charkha.errors import DataError, UserError
from charkha.models.bootstrap import draw, estimate
from charkha.models.evidence import Scored, measure
from charkha.models.gate import Gate, choose_rules, read_rules
from charkha.models.predictions import Predictions
from charkha.models.scores import statistic
from charkha.models.verdict import Case, Champion, Estimate, Evidence, judge
from charkha.project import GateSettings

RNG = np.random.default_rng(3)
TRUTH = RNG.normal(180_000, 80_000, 600)
NOISE = RNG.normal(0, 25_000, 600)
REIGNING = Champion(version="3", package="c" * 64)


def scored(error, truth=TRUTH):
    return Scored(truth=truth, predicted=Predictions(values=truth + error))


def case(champion=None, same=False, rows=600):
    return Case(
        model="ames", target="Sale_Price", rows=rows, metrics={}, champion=champion, same=same
    )


def decide(rule, candidate, champion=None, train=None, same=False):
    evidence = measure(rule, candidate, champion, train)
    return judge(case(champion and REIGNING, same, len(candidate.truth)), [(rule, evidence)])


BETTER = Gate("rmse", better_than="champion")


class TestComparison:
    def test_a_clearly_better_candidate_passes(self):
        verdict = decide(BETTER, scored(NOISE * 0.8), scored(NOISE))
        assert verdict.passed
        assert verdict.rules[0].low > 0
        assert verdict.rules[0].difference == pytest.approx(
            verdict.rules[0].champion - verdict.rules[0].candidate
        )

    def test_a_worse_candidate_is_refused_with_rule_amount_and_interval(self):
        verdict = decide(BETTER, scored(NOISE * 1.1), scored(NOISE))
        assert not verdict.passed
        (reason,) = verdict.because
        assert "rmse of Sale_Price is 27," in reason
        assert "of the champion (version 3) on the same 600 rows: worse by 2," in reason
        assert "95 % interval -2," in reason
        assert "better by more than 0 is not shown" in reason

    def test_an_improvement_that_may_be_an_accident_is_refused(self):
        other = RNG.permutation(NOISE) * 0.99  # a little better, on other rows
        verdict = decide(BETTER, scored(other), scored(NOISE))
        (rule,) = verdict.rules
        assert rule.difference > 0 > rule.low
        assert not verdict.passed

    def test_paired_rows_find_a_difference_that_unpaired_ones_would_miss(self):
        (rule,) = decide(BETTER, scored(NOISE * 0.98), scored(NOISE)).rules
        alone = estimate(0, draw(statistic("rmse", TRUTH, scored(NOISE).predicted), 600,
                                 resamples=2000, seed=0), 0.95)  # fmt: skip
        assert rule.passed
        assert rule.high - rule.low < (alone.high - alone.low) / 10

    def test_by_has_to_lie_below_the_whole_interval(self):
        small, large = (Gate("rmse", better_than="champion", by=by) for by in (1_000.0, 20_000.0))
        assert decide(small, scored(NOISE * 0.8), scored(NOISE)).passed
        refused = decide(large, scored(NOISE * 0.8), scored(NOISE))
        assert not refused.passed
        assert "better by more than 20,000 is not shown" in refused.because[0]

    def test_a_negative_by_accepts_what_is_at_most_that_much_worse(self):
        rule = Gate("rmse", better_than="champion", by=-2_000)
        assert decide(rule, scored(NOISE * 1.02), scored(NOISE)).passed
        assert not decide(rule, scored(NOISE * 1.2), scored(NOISE)).passed

    def test_equal_predictions_are_not_better_and_no_error(self):
        verdict = decide(BETTER, scored(NOISE), scored(NOISE))
        assert not verdict.passed
        assert verdict.rules[0].difference == verdict.rules[0].low == verdict.rules[0].high == 0
        assert verdict.because[0].endswith("600 rows: the same, and better was asked")
        assert "-0" not in json.dumps(verdict.as_json())

    def test_equal_predictions_are_told_by_how_much_better_was_asked(self):
        rule = Gate("rmse", better_than="champion", by=500)
        verdict = decide(rule, scored(NOISE), scored(NOISE))
        assert verdict.because[0].endswith("the same, and better by more than 500 was asked")
        kind = decide(Gate("rmse", better_than="champion", by=-500), scored(NOISE), scored(NOISE))
        assert kind.passed
        assert kind.because[0].endswith("the same, 95 % interval 0 to 0, all above -500")

    def test_an_interval_that_ends_at_the_limit_would_have_to_lie_above_it(self):
        evidence = Evidence(
            candidate=Estimate(value=9, low=8, high=10),
            champion=12,
            improvement=Estimate(value=3, low=0, high=5),
        )
        verdict = judge(case(REIGNING), [(BETTER, evidence)])
        assert verdict.because[0].endswith("the interval's lower end would have to lie above it")

    def test_the_champions_own_package_is_said_to_be_itself(self):
        verdict = decide(BETTER, scored(NOISE), scored(NOISE), same=True)
        assert verdict.same
        assert not verdict.passed
        assert verdict.because == ["this is version 3 itself, the champion: same package"]

    def test_the_first_model_needs_no_champion(self):
        verdict = decide(BETTER, scored(NOISE))
        assert verdict.passed
        assert verdict.first
        assert verdict.judged_against == "champion:none"
        assert "no champion yet" in verdict.because[0]

    def test_a_higher_score_is_better_where_it_is(self):
        rule = Gate("r2", better_than="champion")
        assert decide(rule, scored(NOISE * 0.8), scored(NOISE)).passed
        assert not decide(rule, scored(NOISE * 1.2), scored(NOISE)).passed

    def test_an_equal_candidate_passes_as_rarely_as_the_interval_promises(self):
        rng = np.random.default_rng(11)
        rule = Gate("rmse", better_than="champion", resamples=400)
        passed = 0
        for _ in range(400):
            hard = rng.normal(0, 20_000, 300)  # what makes a row hard for both
            truth = rng.normal(180_000, 80_000, 300)
            one, two = (scored(hard + rng.normal(0, 15_000, 300), truth) for _ in range(2))
            passed += decide(rule, one, two).passed
        assert passed / 400 <= 0.025 + 3 * (0.025 * 0.975 / 400) ** 0.5


class TestThresholds:
    def test_a_limit_is_about_the_score(self):
        assert decide(Gate("rmse", at_most=30_000), scored(NOISE)).passed
        refused = decide(Gate("rmse", at_most=20_000), scored(NOISE))
        assert not refused.passed
        assert "above the limit: at most 20,000 was asked" in refused.because[0]

    def test_at_least_refuses_what_is_below(self):
        refused = decide(Gate("r2", at_least=0.99), scored(NOISE))
        assert "below the limit: at least 0.99 was asked" in refused.because[0]

    def test_a_limit_inside_the_interval_is_a_warning(self):
        verdict = decide(Gate("rmse", at_most=25_100), scored(NOISE))
        assert any("lies inside" in warning for warning in verdict.warnings)

    def test_the_first_model_still_has_to_keep_the_limits(self):
        verdict = decide(Gate("rmse", at_most=20_000, better_than="champion"), scored(NOISE))
        assert verdict.first
        assert [r.passed for r in verdict.rules] == [False, True]
        assert len(verdict.because) == 1

    def test_every_rule_has_to_hold(self):
        evidence = measure(BETTER, scored(NOISE), None, None)
        rules = [Gate("rmse", at_most=30_000), Gate("rmse", at_most=10_000)]
        verdict = judge(case(), [(rule, evidence) for rule in rules])
        assert [r.passed for r in verdict.rules] == [True, False]
        assert not verdict.passed


class TestFit:
    def test_a_model_that_remembers_its_rows_is_warned_of(self):
        verdict = decide(BETTER, scored(NOISE), train=scored(NOISE * 0.4))
        (warning,) = verdict.warnings
        assert warning.startswith("overfitting: rmse of Sale_Price is 9,958 on")
        assert "2.5 times as much (95 % interval 2." in warning

    def test_a_model_that_fits_both_alike_is_not(self):
        other = RNG.normal(0, 24_000, 600)
        assert decide(BETTER, scored(NOISE), train=scored(other)).warnings == []

    def test_a_perfect_fit_is_the_worst_case(self):
        verdict = decide(BETTER, scored(NOISE), train=scored(NOISE * 0))
        assert verdict.warnings[0].startswith("overfitting: rmse of Sale_Price is 0 on")
        assert "inf" not in verdict.warnings[0]

    def test_a_model_no_better_than_the_mean_is_warned_of(self):
        blind = Scored(truth=TRUTH, predicted=Predictions(values=np.full(600, 181_000.0)))
        verdict = decide(BETTER, blind, train=blind)
        (warning,) = verdict.warnings
        assert warning.startswith("underfitting")
        assert "always predicting the training mean scores" in warning

    def test_few_rows_are_a_warning(self):
        few = scored(NOISE[:20], TRUTH[:20])
        assert decide(BETTER, few).warnings == [
            "only 20 held-out rows: below 30 the intervals are too narrow"
        ]

    def test_a_classifier_is_held_against_the_commonest_class(self):
        truth = np.array(["no"] * 180 + ["yes"] * 20, dtype=object)
        always = Predictions(
            values=np.array(["no"] * 200, dtype=object),
            probabilities=np.tile([0.9, 0.1], (200, 1)),
            classes=("no", "yes"),
        )
        blind = Scored(truth=truth, predicted=always)
        for name in ("accuracy", "f1", "auc", "log_loss"):
            verdict = decide(Gate(name, better_than="champion"), blind, train=blind)
            assert any("how common each class is" in w for w in verdict.warnings), name

    def test_resamples_without_a_class_are_counted_and_left_out(self):
        truth = np.array(["no"] * 98 + ["yes"] * 2, dtype=object)
        shares = np.linspace(0.1, 0.9, 100)
        said = Predictions(
            values=np.where(shares > 0.5, "yes", "no").astype(object),
            probabilities=np.column_stack([1 - shares, shares]),
            classes=("no", "yes"),
        )
        verdict = decide(Gate("auc", at_least=0.5), Scored(truth=truth, predicted=said))
        assert verdict.passed
        assert np.isfinite(verdict.rules[0].low)
        assert any("a class is too rare" in w for w in verdict.warnings)


class TestInterval:
    def test_equal_seeds_give_equal_verdicts(self):
        one, two = (decide(BETTER, scored(NOISE * 0.9), scored(NOISE)) for _ in range(2))
        assert one == two

    def test_a_large_table_is_drawn_in_parts_and_gives_what_one_draw_would(self, monkeypatch):
        whole = draw(statistic("mae", TRUTH, scored(NOISE).predicted), 600, resamples=500, seed=1)
        monkeypatch.setattr("charkha.models.bootstrap._CELLS", 600 * 7)
        parts = draw(statistic("mae", TRUTH, scored(NOISE).predicted), 600, resamples=500, seed=1)
        assert np.allclose(whole, parts, rtol=1e-12)

    @pytest.mark.parametrize("name", ["rmse", "mae", "r2"])
    def test_it_covers_the_truth_about_as_often_as_it_says(self, name):
        rng, covered, runs = np.random.default_rng(5), 0, 300
        true = {"rmse": 5.0, "mae": 5.0 * (2 / np.pi) ** 0.5, "r2": 1 - 25 / 100}[name]
        for _ in range(runs):
            truth = rng.normal(0, 10, 200)
            said = scored(rng.normal(0, 5, 200), truth).predicted
            score = statistic(name, truth, said)
            found = estimate(0.0, draw(score, 200, resamples=400, seed=0), 0.95)
            covered += found.low <= true <= found.high
        assert covered / runs > 0.95 - 3 * (0.95 * 0.05 / runs) ** 0.5 - 0.01  # small-sample loss


class TestRules:
    @pytest.mark.parametrize(
        ("arguments", "says", "fix"),
        [
            ({"metric": "rsme", "at_most": 1}, "no metric is called", "'rmse'"),
            ({"metric": "rmse"}, "asks for nothing", "at_most"),
            ({"metric": "rmse", "at_least": 5}, "would refuse good models", "at_most=5"),
            ({"metric": "auc", "at_most": 0.9}, "would refuse good models", "at_least=0.9"),
            ({"metric": "rmse", "at_most": 1, "by": 5}, "compares with nobody", "better_than"),
            ({"metric": "rmse", "better_than": "me"}, "is not known", "champion"),
            ({"metric": "rmse", "at_most": 1, "confidence": 95}, "no probability", "0.95"),
            ({"metric": "rmse", "at_most": 1, "resamples": 10}, "make no interval", "2000"),
        ],
    )
    def test_a_rule_that_contradicts_itself_is_refused(self, arguments, says, fix):
        with pytest.raises(UserError, match=says) as refused:
            Gate(**arguments)
        assert fix in refused.value.fix

    def test_rules_survive_json(self):
        rule = Gate("rmse", at_most=3, better_than="champion", by=1.5)
        assert read_rules([rule.as_json()]) == [rule]

    def test_rules_in_code_stand_before_those_of_the_project(self):
        settings = [GateSettings(metric="mae", at_most=9.0)]
        assert choose_rules(BETTER, settings, "regression") == [BETTER]
        assert choose_rules(None, settings, "regression") == [Gate("mae", at_most=9.0)]

    def test_without_rules_a_later_model_has_to_beat_the_champion(self):
        assert choose_rules(None, (), "regression") == [Gate("rmse", better_than="champion")]
        assert choose_rules(None, (), "classification")[0].metric == "accuracy"

    def test_a_rule_of_the_other_task_is_refused(self):
        with pytest.raises(UserError, match="measures classification"):
            choose_rules(Gate("auc", at_least=0.5), (), "regression")


def test_a_verdict_can_be_decided_from_numbers_alone():
    evidence = Evidence(
        candidate=Estimate(value=9, low=8, high=10),
        champion=12,
        improvement=Estimate(value=3, low=1, high=5),
    )
    verdict = judge(case(REIGNING), [(BETTER, evidence)])
    assert verdict.passed
    assert verdict.judged_against == f"champion:{'c' * 64}"
    assert verdict.as_json()["rules"][0]["low"] == 1


def test_a_champion_that_predicts_no_number_is_an_error():
    with pytest.raises(DataError, match="nan in row 1"):
        decide(BETTER, scored(NOISE), scored(NOISE * np.nan))
