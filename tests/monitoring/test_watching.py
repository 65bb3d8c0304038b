"""A look at a version, the causes that it finds, and `charkha monitor watch`."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from charkha.cli.main import main
from charkha.errors import UserError
from charkha.ledger import Decision, open_ledger
from charkha.monitoring import causes
from charkha.monitoring.checking import Checked
from charkha.monitoring.drift import Alarm, ColumnVerdict, Verdict
from charkha.monitoring.effects import Effects
from charkha.monitoring.performance import (
    MetricVerdict,
    Performance,
    PerformanceAlarm,
    WindowPerformance,
)
from charkha.monitoring.reporting.report import make_report
from charkha.monitoring.telling import alerts_of
from charkha.monitoring.watching import look
from charkha.project import open_project

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def column(name, *counting, missing=0.0):
    return ColumnVerdict(
        column=name,
        kind="numbers",
        drifted=bool(counting),
        because="median up 12 % (rank, p = 1e-09)",
        p=1e-9,
        tests=(),
        effects=Effects(distance=0.2, shift_sd=0.5, psi=0.3, jensen_shannon=0.2),
        missing=(0.0, missing),
        notices=(),
        counting=counting,
    )


def checked(*columns, raised=True, rows=500):
    verdict = Verdict(
        outcome="drift" if any(c.drifted for c in columns) else "no drift",
        because="so",
        rows=rows,
        since=AT,
        until=AT + timedelta(hours=1),
        columns=columns,
    )
    since = {c.column: AT - timedelta(hours=1) for c in columns if c.drifted}
    return Checked(
        version="prices@3",
        segment=None,
        verdicts=(verdict,),
        alarm=Alarm(raised=raised, because="it is so", since=since if raised else {}),
        reference_rows=2_000,
    )


def test_drift_that_lasts_is_a_cause_whose_state_is_its_columns():
    found = causes.of_drift(
        "prices@3", checked(column("input.b", "rank"), column("input.a", "KS"), column("input.c"))
    )
    [cause] = found.causes
    assert (cause.key, cause.kind, cause.severity) == ("drift/prices@3", "drift", "warning")
    assert cause.state == ("input.a", "input.b")
    assert cause.title == "Drift in b and a"
    assert "b: median up 12 % (rank, p = 1e-09)" in cause.text
    assert "drifting since 2026-11-24 11:00Z" in cause.text
    assert found.unknown == ()
    json.dumps(dict(cause.numbers))


def test_drift_in_one_window_is_none():
    assert causes.of_drift("prices@3", checked(column("a", "rank"), raised=False)) == causes.Found()


def test_few_rows_say_nothing_of_drift():
    none = causes.Found(unknown=("drift/prices@3", "quality/prices@3"))
    assert causes.of_drift("prices@3", None) == none
    assert causes.of_drift("prices@3", checked(rows=20)) == none


def test_missing_and_new_values_are_a_cause_of_their_own():
    found = causes.of_drift(
        "prices@3",
        checked(
            column("input.a", "rank", "range"),
            column("input.b", "missing", missing=0.1),
            column("input.c", "new", "range"),
        ),
    )
    drift, quality = found.causes
    assert (drift.state, quality.state) == (("input.a",), ("input.b", "input.c"))
    assert (quality.key, quality.severity) == ("quality/prices@3", "warning")


def test_a_column_that_is_mostly_missing_is_critical():
    found = causes.of_drift("prices@3", checked(column("input.b", "missing", missing=0.6)))
    assert [c.severity for c in found.causes] == ["critical"]


def performance(*lower, raised=True, judged=True):
    metrics = tuple(
        MetricVerdict(
            metric=name,
            value=30.0,
            low=28.0,
            high=32.0,
            held_out=20.0,
            worse_by=10.0,
            share=0.5,
            p=1e-6,
            lower=name in lower,
            because=f"{name} is 30, 50 % more than 20 on the held-out rows",
        )
        for name in ("mae", "rmse")
    )
    window = WindowPerformance(
        outcome="lower" if judged else "not enough labels",
        because="so",
        since=AT,
        until=AT + timedelta(hours=1),
        rows=500,
        labelled=400,
        metrics=metrics if judged else (),
    )
    return Performance(
        version="prices@3",
        task="regression",
        target="price",
        held_out=(),
        windows=(window,),
        segments=(),
        alarm=PerformanceAlarm(raised=raised, because="", since=dict.fromkeys(lower, AT)),
    )


def test_lower_performance_is_a_critical_cause():
    [cause] = causes.of_performance("prices@3", performance("mae")).causes
    assert (cause.key, cause.state, cause.severity) == (
        "performance/prices@3",
        ("mae",),
        "critical",
    )
    assert cause.title == "Performance is lower: mae"
    assert "50 % more than 20 on the held-out rows" in cause.text
    assert "400 rows with ground truth, 2026-11-24 12:00Z to 13:00Z" in cause.text


def test_without_ground_truth_nobody_knows_of_the_performance():
    unknown = causes.Found(unknown=("performance/prices@3",))
    assert causes.of_performance("prices@3", None) == unknown
    assert causes.of_performance("prices@3", performance(judged=False)) == unknown
    assert causes.of_performance("prices@3", performance("mae", raised=False)) == causes.Found()


def released(phase, at, *, id="r1", to=4):
    return Decision(
        at=at,
        kind="release",
        subject=f"prices@{to}",
        because="errors are higher",
        numbers={"release": id, "phase": phase, "from": 3, "to": to},
        who="eve",
    )


def test_a_release_that_was_rolled_back_is_told_for_a_day_or_until_the_next_one():
    back = released("rolled back", 1000.0)
    [cause] = causes.of_releases("prices@3", [back], 1060.0).causes
    assert (cause.key, cause.subject, cause.state) == ("release/prices", "prices@4", ("r1",))
    assert cause.text == "errors are higher"
    assert causes.of_releases("prices@3", [back], 1000.0 + 86_401).causes == ()
    again = [back, released("judging", 2000.0, id="r2", to=5)]
    assert causes.of_releases("prices@3", again, 2060.0).causes == ()
    assert causes.of_releases("prices@8", [back], 1060.0).causes == ()


def test_a_turn_of_the_loop_that_failed_is_told_until_the_next_one():
    numbers = {"turn": "t1", "run": "r", "outcome": "failed", "phase": "ended"}
    told = {"kind": "loop", "subject": "prices", "who": "loop"}
    failed = Decision(at=1000.0, because="step 'train' failed", numbers=numbers, **told)
    [cause] = causes.of_loop("prices", [failed], 1060.0).causes
    assert (cause.key, cause.text, cause.state) == ("loop/prices", "step 'train' failed", ("t1",))
    begun = {**numbers, "turn": "t2", "outcome": None, "phase": "training"}
    again = Decision(at=2000.0, because="asked for", numbers=begun, **told)
    assert causes.of_loop("prices", [failed, again], 2060.0).causes == ()
    assert causes.of_loop("prices", [failed], 1000.0 + 86_401).causes == ()


def test_silence_is_a_cause_only_where_asked_for_and_only_after_there_was_traffic():
    an_hour = AT - timedelta(hours=1)
    assert causes.of_silence("prices@3", an_hour, AT, 0) == causes.Found()
    assert causes.of_silence("prices@3", an_hour, AT, 3_700) == causes.Found()
    assert causes.of_silence("prices@3", None, AT, 60).unknown == ("records/prices@3",)
    [cause] = causes.of_silence("prices@3", an_hour, AT, 1_800).causes
    assert cause.severity == "critical"


def test_having_no_record_is_a_finding_and_no_error(watched):
    found = look(watched.project, "prices")
    assert (found.version, found.checked, found.causes) == ("prices@1", None, ())
    assert found.notes == ("there is no record of prices@1",)
    assert "drift/prices@1" in found.unknown
    with pytest.raises(UserError):
        look(watched.project, "prices@7")
    with pytest.raises(UserError, match="size of a window"):
        look(watched.project, "prices", window="many")


def test_two_windows_that_drift_are_a_cause(watched):
    watched.record(watched.houses(1_500, 5), minutes_ago=9)
    assert look(watched.project, "prices", window="500").causes == ()
    watched.record(watched.houses(1_000, 6, grown=1.3), minutes_ago=4)
    [cause] = look(watched.project, "prices", window="500").causes
    assert cause.key == "drift/prices@1"
    assert cause.state == ("input.area", "prediction")
    assert cause.title == "Drift in area and the prediction"


def test_a_look_reads_no_further_back_than_an_alarm_takes(watched):
    watched.record(watched.houses(2_000, 5))
    found = look(watched.project, "prices", window="300")
    assert sum(v.rows for v in found.checked.verdicts) == 900


def test_looking_often_keeps_only_what_is_news(watched):
    def kept():
        ledger = open_ledger(watched.project)
        found = ledger.read("drift", "prices")
        ledger.close()
        return len(found)

    watched.record(watched.houses(600, 5), minutes_ago=9)
    look(watched.project, "prices", window="1000")
    assert kept() == 1
    for minutes in (8, 7, 6):
        watched.record(watched.houses(20, minutes), minutes_ago=minutes)
        look(watched.project, "prices", window="1000")
    assert kept() == 1
    watched.record(watched.houses(600, 6, grown=1.5), minutes_ago=4)
    look(watched.project, "prices", window="1000")
    assert kept() == 2


def test_quiet_predictions_are_told_where_the_settings_want_it(watched):
    watched.record(watched.houses(300, 5), minutes_ago=90)
    (watched.project.root / "charkha.toml").write_text("[alerts]\nsilence_s = 1800\n")
    project = open_project(watched.project.root)
    assert [c.key for c in look(project, "prices").causes] == ["records/prices@1"]
    assert look(watched.project, "prices").causes == ()


@pytest.fixture
def said(capsys):
    def said(*arguments, code=0):
        assert main(["monitor", "watch", "prices", "--once", *arguments]) == code
        return capsys.readouterr()

    return said


def test_watch_tells_of_drift_once_and_of_its_end(watched, said):
    watched.record(watched.houses(1_000, 6, grown=1.3), minutes_ago=20)
    first = said("--window", "500")
    [alert] = alerts_of(watched.project)
    assert f"1 alert ({alert.id})" in first.out
    assert f"WARNING {alert.id} opened: prices@1: Drift in area and the prediction" in first.err
    again = said("--window", "500")
    assert alert.id in again.out
    assert "opened" not in again.err
    watched.record(watched.houses(1_000, 7), minutes_ago=5)
    ended = said("--window", "500")
    assert f"INFO {alert.id} resolved" in ended.err
    assert "prices@1: no drift; too little ground truth yet\n" in ended.out
    assert alerts_of(watched.project) == []


def test_watch_says_a_line_of_json_a_look(watched, said):
    told = json.loads(said("--json").out)
    assert told["drift"] is None
    assert told["notes"][0] == "there is no record of prices@1"
    watched.record(watched.houses(1_000, 6, grown=1.3))
    [line] = said("--json", "--window", "500").out.splitlines()
    told = json.loads(line)
    assert (told["version"], told["drift"]["outcome"]) == ("prices@1", "drift")
    assert [a["cause"] for a in told["alerts"]] == ["drift/prices@1"]


def test_a_secret_that_is_not_there_is_told_before_the_first_look(watched, said):
    (watched.project.root / "charkha.toml").write_text('[alerts]\nwebhook = "env:NO_HOOK"\n')
    assert "charkha.toml:2" in said(code=1).err


def test_a_time_that_is_none_is_a_wrong_command_line(watched):
    for every in ("soon", "0s", "-1s", "5x", "nan"):
        assert main(["monitor", "watch", "prices", "--every", every]) == 2


def test_watch_waits_for_what_does_not_answer_and_ends_with_a_sentence(watched):
    database = watched.project.state / "mlflow.db"
    away = database.with_suffix(".away")
    database.rename(away)
    database.mkdir()  # what is there is no database
    command = [sys.executable, "-m", "charkha", "monitor", "watch", "prices", "--every", "0.2s"]
    process = subprocess.Popen(
        command,
        cwd=watched.project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert "waiting: " in process.stderr.readline()
        database.rmdir()
        away.rename(database)
        assert "prices@1: there is no record of prices@1" in process.stdout.readline()
        assert "prices@1: as before" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "no longer watching prices" in err
    assert "Traceback" not in err


def test_a_model_that_errs_more_than_it_did_is_a_critical_cause_once_the_truth_has_come(watched):
    rows = watched.houses(800, 6)
    ids = watched.record(rows, minutes_ago=9)
    assert look(watched.project, "prices", window="400").performance.last_judged is None
    watched.tell(ids, rows["price"] + np.random.default_rng(0).normal(0, 30_000, len(rows)))
    found = look(watched.project, "prices", window="400")
    severities = {cause.key: cause.severity for cause in found.causes}
    assert severities == {"performance/prices@1": "critical", "drift/prices@1": "warning"}
    assert "performance/prices@1" not in found.unknown
    page = make_report(watched.project, "prices", window="400")
    assert "prices@1: its" in page
    assert page.count('class="bad-dot"') >= 2


def test_a_cause_is_a_value_that_json_can_hold():
    [cause] = causes.of_drift("prices@3", checked(column("input.a", "rank"))).causes
    assert replace(cause) == cause
    assert json.loads(json.dumps(dict(cause.numbers)))["rows"] == 500
