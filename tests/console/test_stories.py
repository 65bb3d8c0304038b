"""Stories of what is written here: each fact is the one that was written, and what lacks is said."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from charkha.cli.main import main
from charkha.cli.why import lines
from charkha.console.stories.asking import tell
from charkha.console.stories.story import every
from charkha.errors import DONE, CharkhaError, NotFound, UserError
from charkha.project import open_project
from charkha.serving.records.ids import new_ids
from charkha.serving.records.sealing import seal_project

RELEASE = {
    "release": "20261126T142627",
    "from": 1,
    "to": 2,
    "strategy": "canary",
    "home": "champion",
}


def traffic(candidate):
    return {"traffic": {"baseline": 100.0 - candidate, "candidate": candidate, "shadow": None}}


@pytest.mark.parametrize("sealed", [False, True])
def test_a_prediction_is_told_as_it_was_recorded(world, sealed):
    others = [world.predict(value=float(n)) for n in range(3)]
    id = world.predict(value=181_000.0, version=3, variant="canary")
    world.feed(id, 179_500.0, at=datetime(2026, 11, 25, tzinfo=UTC))
    world.feed(others[0], 5.0)
    if sealed:
        seal_project(world.project)
    told = tell(world.project, id)
    assert (told.kind, told.id, told.value("answer")) == ("prediction", id, 181_000.0)
    assert told.value("latency_s") == 0.0015
    assert told.part("arm").value("variant") == "canary"
    inputs = {f.name: f.value["value"] for f in told.part("inputs").facts}
    assert inputs == {"area": 42.5, "district": "North"}
    truth = told.part("truth")
    assert truth.value("ground_truth") == 179_500.0
    assert truth.value("error") == 1500.0
    assert truth.value("ground_truth_time") == datetime(2026, 11, 25, tzinfo=UTC)


def test_of_several_truths_the_one_that_records_show_is_told_and_the_others_named(world):
    id = world.predict()
    world.feed(id, 2.0, at=datetime(2026, 11, 25, tzinfo=UTC))
    world.feed(id, 1.0, at=datetime(2026, 11, 24, tzinfo=UTC))
    truth = tell(world.project, id).part("truth")
    assert truth.value("ground_truth") == 2.0
    assert truth.value("told before") == [1.0]


def test_a_shadow_of_the_same_request_stands_beside_the_answer(world):
    id = world.predict(value=100.0)
    world.predict(id=id, value=110.0, version=2, variant="next", role="shadow")
    told = tell(world.project, id)
    assert told.value("answer") == 100.0
    shadow = told.part("answer")
    assert (shadow.value("prediction"), shadow.value("apart")) == (110.0, 10.0)


def test_what_is_redacted_stays_so(world):
    id = world.predict(row=(42.5, "Secret Street"), redact=("district", "price"), value=123_456.0)
    (world.root / "charkha.toml").write_text('[records]\nredact = ["district", "price"]\n')
    told = tell(open_project(world.root), id)
    text = json.dumps(told.as_json())
    assert "Secret Street" not in text
    assert "123456" not in text
    assert told.part("inputs").value("district")["where"] == "redacted"
    assert told.title == "prices@1 said what is redacted"


def test_the_release_of_that_time_is_told_with_the_decision_that_held(world):
    now = time.time()
    world.decide(
        "release",
        "prices@2",
        {**RELEASE, "phase": "judging", "stage": 0, **traffic(1)},
        at=now - 100,
        because="it begins",
    )
    world.decide(
        "release",
        "prices@2",
        {**RELEASE, "phase": "judging", "stage": 1, **traffic(5)},
        at=now - 50,
        because="nothing is worse, so it gets 5 %",
    )
    id = world.predict(variant="champion", at=now - 20)
    world.decide(
        "release",
        "prices@2",
        {**RELEASE, "phase": "rolled back", "stage": 1, **traffic(0)},
        at=now - 5,
        because="errors are worse",
    )
    told = tell(world.project, id)
    release = told.part("release")
    assert (release.id, release.value("stage")) == ("20261126T142627", 1)
    assert release.value("ended as") == "rolled back"
    assert told.part("arm").value("share") == 0.95
    assert [p.because for p in told.part("afterwards").parts] == [("errors are worse",)]
    after = tell(world.project, world.predict(at=now))
    assert after.part("release") is None


def test_a_finding_is_told_with_its_interval(world):
    finding = {
        "name": "errors", "metric": "errors", "baseline": 0.0, "candidate": 0.03,
        "difference": 0.03, "low": 0.011, "high": 0.06, "margin": 0.005, "alpha": 0.01,
        "counts": [900, 100], "worse": True, "fine": False,
    }  # fmt: skip
    numbers = {**RELEASE, "phase": "rolled back", "findings": [finding, {"odd": 1}]}
    world.decide("release", "prices@2", numbers)
    told = tell(world.project, "20261126T142627")
    said = " ".join(text for part in every(told) for text in part.because)
    assert "worse: errors +3.0 % (between +1.1 % and +6.0 %, margin +0.5 %) of 900 and 100" in said


def test_drift_is_told_of_the_window_around_and_else_of_those_beside(world):
    now = datetime.now(UTC)

    def window(begin, end, outcome):
        numbers = {
            "outcome": outcome, "segment": None, "drifted": [],
            "since": (now + timedelta(hours=begin)).isoformat(),
            "until": (now + timedelta(hours=end)).isoformat(),
        }  # fmt: skip
        return world.decide(
            "drift",
            "prices@1",
            numbers,
            because=f"{outcome}: {begin}",
            at=(now + timedelta(hours=end)).timestamp(),
        )

    window(-5, -4, "no drift")
    before = window(-3, -2, "drift")
    after = window(1, 2, "no drift")
    id = world.predict(at=now.timestamp())
    found = [p for p in tell(world.project, id).parts if p.kind == "drift"]
    assert [p.value("decision") for p in found] == [before.id, after.id]
    inside = window(-1, 0.5, "drift")
    found = [p for p in tell(world.project, id).parts if p.kind == "drift"]
    assert [p.value("decision") for p in found] == [inside.id]
    assert tell(world.project, found[0].id).value("outcome") == "drift"


def test_alerts_that_were_open_are_told_and_resolved_ones_are_not(world):
    now = time.time()

    def alert(id, state, ago):
        numbers = {
            "alert": id,
            "state": state,
            "cause": f"drift/prices@1/{id}",
            "severity": "warning",
        }
        world.decide("alert", "prices@1", numbers, at=now - ago, because=f"{id} is {state}")

    alert("a-old", "open", 100)
    alert("a-old", "resolved", 90)
    alert("a-then", "open", 80)
    alert("a-then", "resolved", 10)
    alert("a-later", "open", 5)
    id = world.predict(at=now - 50)
    told = tell(world.project, id)
    assert [p.id for p in told.parts if p.kind == "alert"] == ["a-then"]
    story = tell(world.project, "a-then")
    assert (story.kind, story.value("state")) == ("alert", "resolved")
    assert "prices@1" in [n.reference for n in story.next]


@pytest.mark.parametrize("front", ["", "alert:"])
def test_the_id_of_an_alert_may_look_like_a_version_or_a_step(world, front):
    for id in ("drift/prices@1", "drift@1", "drift/1"):
        world.decide("alert", "prices@1", {"alert": id, "state": "open", "cause": id})
        assert tell(world.project, f"{front}{id}").id == id


def test_a_turn_of_the_loop_leads_to_its_run_version_and_release(world):
    now = time.time()
    turn = {"turn": "t-77", "trigger": "drift"}
    world.decide(
        "loop",
        "prices",
        {**turn, "phase": "training", "run": "r-1"},
        at=now - 9,
        because="drift in area",
    )
    world.decide(
        "loop",
        "prices",
        {**turn, "phase": "done", "run": "r-1", "version": 2, "outcome": "promoted"},
        at=now - 1,
        because="it is better",
    )
    world.decide("release", "prices@2", {**RELEASE, "phase": "promoted"}, at=now - 3)
    told = tell(world.project, "t-77")
    assert (told.value("trigger"), told.value("version")) == ("drift", 2)
    assert [n.reference for n in told.next] == ["r-1", "prices@2", "20261126T142627"]
    assert "drift in area" in told.because


def test_every_reference_that_a_story_names_in_the_ledger_can_be_asked_for(world):
    world.decide("release", "prices@2", {**RELEASE, "phase": "judging"})
    world.decide(
        "promotion", "prices@2", {"from": 1, "to": 2}, because="release 20261126T142627: x"
    )
    world.decide("alert", "prices@2", {"alert": "a-1", "state": "open", "cause": "drift/prices@2"})
    for reference in ("20261126T142627", "a-1"):
        for each in tell(world.project, reference).next:
            if "@" not in each.reference:  # there is no registry here
                assert tell(world.project, each.reference)


def test_what_could_be_several_things_is_told_with_what_means_each(world):
    world.decide("release", "prices@2", {**RELEASE, "phase": "judging"})
    world.decide("release", "rents@5", {**RELEASE, "phase": "judging", "to": 5})
    with pytest.raises(UserError, match="could be 2 things") as told:
        tell(world.project, "20261126T142627")
    assert "release:prices/20261126T142627 (canary of prices@2)" in told.value.what
    assert "rents@5" in tell(world.project, "release:rents/20261126T142627").title
    assert "prices@2" in tell(world.project, "prices/20261126T142627").title


def test_the_beginning_of_an_id_is_enough_where_it_is_one_things(world):
    world.decide("alert", "prices@2", {"alert": "abc-1234", "state": "open"})
    assert tell(world.project, "abc-").id == "abc-1234"
    id = world.predict()
    assert tell(world.project, id[:30]).id == id
    drift = world.decide("drift", "prices@2", {"outcome": "no drift"})
    assert tell(world.project, drift.id[:12]).kind == "decision"


def test_what_nothing_is_called_says_what_was_looked_for_where_and_what_is_near(world):
    world.decide("release", "prices@2", {**RELEASE, "phase": "judging"})
    with pytest.raises(UserError, match="1 release in the ledger") as told:
        tell(world.project, "20261126T142672")
    assert told.value.fix == "did you mean '20261126T142627'?"
    with pytest.raises(UserError, match="nothing was asked for"):
        tell(world.project, "run:")
    for kind, where in (("decision", "the ledger"), ("prediction", "the records")):
        with pytest.raises(UserError, match=f"looked at {where}") as told:
            tell(world.project, f"{kind}:zz")
        assert told.value.fix == "charkha why, which says what can be asked for"


def test_a_prediction_that_is_not_recorded_names_the_nearest(world):
    (absent,) = new_ids(1)
    with pytest.raises(NotFound, match="none was recorded within 10 minutes"):
        tell(world.project, absent)
    id = world.predict()
    slip = f"{id[:-1]}{'0' if id[-1] != '0' else '1'}"
    with pytest.raises(NotFound, match="looked for in the records of") as told:
        tell(world.project, slip)
    assert told.value.fix == f"charkha why {id}"


def test_another_kind_of_uuid_is_told_to_be_none_of_ours(world):
    with pytest.raises(UserError, match="version 7"):
        tell(world.project, "8c2fdd6a-1f0c-4c55-9b1e-0b9b3ec41b6e")


def test_a_ledger_that_does_not_answer_leaves_its_parts_out_and_is_named(world):
    id = world.predict()
    (world.project.state / "ledger.db").write_bytes(b"this is no database at all, not one bit" * 30)
    told = tell(world.project, id)
    assert told.value("answer") == 100.0
    assert any("ledger" in text for text in told.part("silence").because)


def test_a_story_fits_the_width_and_its_json_has_the_same_facts(world, monkeypatch, capsys):
    id = world.predict()
    told = tell(world.project, id)
    for width in (60, 100):
        wide = [line for line in lines(told, width) if len(line) > width]
        assert [line for line in wide if "charkha why" not in line] == []
    monkeypatch.chdir(world.root)
    assert main(["why", id, "--json"]) == DONE
    said = json.loads(capsys.readouterr().out)
    assert said["id"] == id
    assert [p["kind"] for p in said["parts"]] == [p.kind for p in told.parts]


def test_without_a_reference_it_says_what_can_be_asked_for(world, monkeypatch, capsys):
    monkeypatch.chdir(world.root)
    assert main(["why"]) == DONE
    out = capsys.readouterr().out
    assert all(word in out for word in ("PREDICTION", "RUN/STEP", "VERSION", "RELEASE", "ALERT"))


def test_nothing_is_written_by_asking(world):
    id = world.predict()
    world.decide("release", "prices@2", {**RELEASE, "phase": "judging"})
    before = {p: p.read_bytes() for p in world.root.rglob("*") if p.is_file()}
    tell(world.project, id)
    tell(world.project, "20261126T142627")
    with pytest.raises(CharkhaError):
        tell(world.project, "nothing-is-called-so")
    assert {p: p.read_bytes() for p in world.root.rglob("*") if p.is_file()} == before


def test_a_sealed_prediction_is_told_without_the_libraries_that_cost_a_second(world):
    id = world.predict()
    world.feed(id, 99.0)
    seal_project(world.project)
    world.decide("gate", "prices@1", {"verdict": {"passed": True, "because": ["it is better"]}})
    code = f"import sys; from charkha.cli.main import main\nassert main(['why', {id!r}]) == 0"
    slow = ("mlflow", "pandas", "duckdb", "sqlalchemy", "sklearn", "onnxruntime")
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(sorted({set(slow)} & sys.modules.keys()))"],
        cwd=world.root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "it is better" in done.stdout
