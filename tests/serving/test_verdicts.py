"""What the ledger says of a model, as gauges: decisions are recorded as their writers do."""

import json

import pytest

from charkha.ledger import Decision, Ledger, ledger_url, open_ledger
from charkha.project import default_project
from charkha.release.evidence import Scales
from charkha.release.kept import Release
from charkha.release.plan import TERMINAL, Phase, State, make_plan
from charkha.release.rules import Rules
from charkha.serving import verdicts
from charkha.serving.remembering import AnyLedger, Remembering
from charkha.serving.sqlite import SqliteLedger
from charkha.serving.verdicts import gauges
from charkha.states import States


def decision(kind, at, subject="houses@3", **numbers):
    return Decision(at=at, kind=kind, subject=subject, because="", numbers=numbers, who="test")


def drift(at, drifted=(), outcome=None, subject="houses@3", segment=None):
    return decision(
        "drift",
        at,
        subject,
        outcome=outcome or ("drift" if drifted else "no drift"),
        segment=segment,
        rows=500,
        since=f"2026-11-24T{at:02}:00:00+00:00",
        until=f"2026-11-24T{at:02}:59:00+00:00",
        drifted=list(drifted),
        columns={
            name: {"p": 0.001 if name in drifted else 0.9, "shift_sd": 0.5, "psi": 0.2}
            for name in ("input.area", "input.rooms")
        },
    )


def of(shown, name, **labels):
    """Return the value of the one gauge with these labels."""
    found = [
        v for (n, own), v in shown.items() if n == name and labels.items() <= dict(own).items()
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_newest_judged_window_of_each_version_is_shown():
    told = [drift(1, ["input.area"]), drift(2), drift(1, ["input.rooms"], subject="houses@4")]
    shown = gauges("houses", {"drift": told}, None)
    assert of(shown, "charkha_drift", version="3") == 0
    assert of(shown, "charkha_drift", version="4") == 1
    assert of(shown, "charkha_drift_column", version="4", column="input.rooms") == 1
    assert of(shown, "charkha_drift_column", version="4", column="input.area") == 0
    assert of(shown, "charkha_drift_column_psi", version="4", column="input.area") == 0.2
    assert of(shown, "charkha_drift_window_end_timestamp_seconds", version="3") == 2


def test_windows_in_a_row_are_those_of_one_column_without_a_break():
    told = [drift(1, ["a"]), drift(2, ["a", "b"]), drift(3, ["b", "c"])]
    shown = gauges("houses", {"drift": told}, None)
    assert of(shown, "charkha_drift_windows_in_a_row") == 2
    assert of(shown, "charkha_drift_columns") == 2


def test_a_window_that_was_checked_twice_counts_once():
    again = decision("drift", 2, outcome="drift", segment=None, drifted=["a"], rows=500,
                     since="2026-11-24T01:00:00+00:00", until="2026-11-24T02:00:00+00:00")  # fmt: skip
    shown = gauges("houses", {"drift": [drift(1, ["a"]), again]}, None)
    assert of(shown, "charkha_drift_windows_in_a_row") == 1


def test_a_window_with_too_few_rows_changes_nothing_but_when_it_was_looked():
    told = [drift(1, ["a"]), drift(5, outcome="not enough data")]
    shown = gauges("houses", {"drift": told}, None)
    assert of(shown, "charkha_drift") == 1
    assert of(shown, "charkha_drift_window_end_timestamp_seconds") == 5


def test_segments_and_other_models_are_not_taken_for_the_whole():
    told = [drift(1, ["a"], segment="quarter = North"), drift(1, ["a"], subject="houses-old@3")]
    assert of(gauges("houses", {"drift": told}, None), "charkha_drift") is None


def rmse(low, high, **more):
    return {"metric": "rmse", "value": (low + high) / 2, "low": low, "high": high,
            "held_out": 10.0, **more}  # fmt: skip


@pytest.mark.parametrize("listed", [False, True])
def test_performance_is_worse_where_its_whole_interval_is(listed):
    def told(at, one):
        return decision("performance", at, labelled=300, **({"metrics": [one]} if listed else one))

    shown = gauges("houses", {"performance": [told(1, rmse(9, 12))]}, None)
    assert of(shown, "charkha_performance_worse", metric="rmse") == 0
    assert of(shown, "charkha_performance", metric="rmse") == 10.5
    assert of(shown, "charkha_performance_held_out", metric="rmse") == 10
    assert of(shown, "charkha_performance_labelled") == 300
    later = [told(1, rmse(9, 12)), told(2, rmse(11, 12))]
    assert of(gauges("houses", {"performance": later}, None), "charkha_performance_worse") == 1


def measured(at, value, lower, labelled, **more):
    return decision(
        "performance", at, outcome="lower" if lower else "as expected", rows=500, labelled=labelled,
        since=f"2026-11-24T{at:02}:00:00+00:00", until=f"2026-11-24T{at:02}:59:00+00:00",
        lower=["rmse"] if lower else [],
        metrics={"rmse": {"value": value, "low": 1, "high": 99, "held_out": 10, "p": 0.1}}, **more,
    )  # fmt: skip


def test_performance_is_shown_as_it_was_judged_on_the_most_labels():
    told = [
        measured(1, 11, True, 200),
        measured(2, 13, True, 300),
        measured(2, 12, False, 100),
        decision("performance", 3, outcome="not enough labels", lower=[], metrics={}, labelled=3,
                 estimates={"rmse": {"value": 15.0, "low": 14.0, "high": 16.0}}),
    ]  # fmt: skip
    shown = gauges("houses", {"performance": told}, None)
    assert of(shown, "charkha_performance", metric="rmse") == 13
    assert of(shown, "charkha_performance_worse", metric="rmse") == 1
    assert of(shown, "charkha_performance_windows_in_a_row") == 2
    assert of(shown, "charkha_performance_estimate", metric="rmse") == 15
    assert of(shown, "charkha_performance_labelled") == 3


def test_an_alert_that_says_what_has_changed_is_open_as_well():
    told = [
        decision("alert", 1, alert="a", change="opened", state=["area"], severity="critical"),
        decision("alert", 2, alert="b", change="resolved", state=[], severity="critical"),
    ]
    shown = gauges("houses", {"alert": told}, None)
    assert of(shown, "charkha_alerts_open", severity="critical") == 1


def test_a_score_that_should_be_high_is_worse_below():
    one = {"metric": "auc", "value": 0.7, "low": 0.65, "high": 0.75, "held_out": 0.8}
    shown = gauges("houses", {"performance": [decision("performance", 1, **one)]}, None)
    assert of(shown, "charkha_performance_worse", metric="auc") == 1


def test_an_alert_is_open_until_it_is_resolved():
    told = [
        decision("alert", 1, alert="a", state="open", severity="warning"),
        decision("alert", 2, alert="b", state="open", severity="critical"),
        decision("alert", 3, alert="a", state="changed", severity="critical"),
        decision("alert", 4, alert="b", state="resolved", severity="critical"),
    ]
    shown = gauges("houses", {"alert": told}, None)
    assert of(shown, "charkha_alerts_open", severity="critical") == 1
    assert of(shown, "charkha_alerts_open", severity="warning") == 0


def test_no_alert_is_a_zero_that_a_rule_can_see():
    assert of(gauges("houses", {}, None), "charkha_alerts_open", severity="critical") == 0


def test_a_turn_of_the_loop_counts_once_as_it_last_was():
    told = [
        decision("loop", 1, "houses", turn="t1", trigger="drift", phase="running", outcome=None),
        decision("loop", 2, "houses", turn="t1", trigger="drift", phase="done", outcome="released"),
        decision("loop", 3, "houses", turn="t2", trigger="drift", phase="running", outcome=None),
    ]
    shown = gauges("houses", {"loop": told}, None)
    assert of(shown, "charkha_loop_turns", trigger="drift", outcome="released") == 1
    assert of(shown, "charkha_loop_turns", trigger="drift", outcome="going on") == 1
    assert of(shown, "charkha_loop_phase", phase="running") == 1
    assert of(shown, "charkha_loop_turn_timestamp_seconds") == 3


def release(**changed):
    made = Release(
        id="r1", model="houses", baseline=3, candidate=4, plan=make_plan("canary"), rules=Rules(),
        loss="absolute", home="champion", began_at=100.0, by="test", scales=Scales(),
        **changed,
    )  # fmt: skip
    return json.loads(json.dumps(made.as_json()))


def test_a_release_shows_its_phase_its_stage_and_its_share():
    told = release(state=State(stage=2), looked_at=130.0, decided_at=120.0)
    shown = gauges("houses", {}, told)
    assert of(shown, "charkha_release_active", version="4") == 1
    assert of(shown, "charkha_release_phase", phase="judging") == 1
    assert of(shown, "charkha_release_phase", phase="promoted") == 0
    assert of(shown, "charkha_release_stage") == 2
    assert of(shown, "charkha_release_share") == 0.25
    assert of(shown, "charkha_release_looked_timestamp_seconds") == 130
    assert of(shown, "charkha_release_changed_timestamp_seconds") == 120


@pytest.mark.parametrize(
    ("phase", "share"), [("watching", 0.95), ("promoted", 1), ("rolled back", 0), ("aborted", 0)]
)
def test_a_release_that_was_decided_shows_what_its_version_gets(phase, share):
    shown = gauges("houses", {}, release(state=State(phase=phase, stage=5), ended_at=200.0))
    assert of(shown, "charkha_release_share") == pytest.approx(share)
    assert of(shown, "charkha_release_active") == 0


def test_the_phases_are_those_of_releases():
    assert set(verdicts.PHASES) == set(Phase.__args__) >= TERMINAL


@pytest.mark.parametrize("kind", ["drift", "performance", "alert", "loop"])
def test_numbers_of_another_shape_are_not_shown_and_break_nothing(kind):
    told = [decision(kind, 1), decision(kind, 2, metrics=7, drifted=3, columns=[], since=None,
            outcome=None, alert=None, state=None, metric=3, rows="many", turn=None)]  # fmt: skip
    gauges("houses", {kind: told}, {"state": 3})


@pytest.fixture
def project(tmp_path):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "houses"\n')
    return default_project(tmp_path)


def test_the_ledger_is_read_anew_each_time(project):
    ledger, remembering = open_ledger(project), Remembering(project, "houses")
    remembering.read()
    assert of(remembering.gauges, "charkha_drift") is None
    ledger.record(drift(1, ["input.area"]))
    remembering.read()
    assert of(remembering.gauges, "charkha_drift") == 1
    remembering.close()
    ledger.close()


def test_a_file_is_read_as_sqlalchemy_reads_it(project):
    ledger, states = open_ledger(project), States(ledger_url(project))
    for at in (3, 1, 2):
        for subject in ("houses@3", "houses", "houses-old@3", "houses%@3"):
            ledger.record(drift(at, ["input.area"], subject=subject))
    states.write("release", "houses", release(), after=0)
    file, other = SqliteLedger(str(project.state / "ledger.db")), AnyLedger(ledger_url(project))
    for subject in ("houses", "houses%"):
        told = [(d.at, d.subject, d.numbers) for d in other.read("drift", subject, newest=4)]
        assert [tuple(row) for row in file.read("drift", subject, newest=4)] == told
        assert told
    assert file.state("release", "houses") == other.state("release", "houses") == release()
    assert file.state("release", "barns") is other.state("release", "barns") is None
    other.close()
    states.close()
    ledger.close()


def test_a_ledger_that_does_not_answer_leaves_what_was_read(project):
    ledger, remembering = open_ledger(project), Remembering(project, "houses")
    ledger.record(drift(1, ["input.area"]))
    ledger.close()
    remembering.read()
    file = project.state / "ledger.db"
    whole = file.read_bytes()
    file.write_bytes(b"no database" + whole[11:])
    remembering.read()
    assert not remembering.reachable
    assert of(remembering.gauges, "charkha_drift") == 1
    file.write_bytes(whole)
    remembering.read()
    assert remembering.reachable
    remembering.close()


def test_the_newest_decisions_are_the_last_ones_oldest_first(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    for at in (3, 1, 2, 4):
        ledger.record(drift(at))
    assert [d.at for d in ledger.read("drift", "houses", newest=3)] == [2, 3, 4]
    ledger.close()
