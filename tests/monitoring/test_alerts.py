"""Alerts open, change and end by a rule; each change is sent once, whoever looks and whoever dies."""

import json
import logging
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from charkha.ledger import ledger_url, open_ledger
from charkha.monitoring.alerting.memory import MemoryDestination
from charkha.monitoring.alerts import Kept, follow, resolve
from charkha.monitoring.causes import Cause
from charkha.monitoring.telling import KIND, LEASE_S, alerts_of, tell
from charkha.project import default_project
from charkha.states import States

NOW = 1_790_000_000.0
DRIFT = Cause(
    key="drift/prices@3",
    title="Drift in area",
    text="area: median up 12 %",
    severity="warning",
    subject="prices@3",
    state=("area",),
    numbers={"columns": {"area": 0.3}},
)
BOTH = replace(DRIFT, title="Drift in area, place", state=("area", "place"))


def followed(*causes):
    kept, changes = None, []
    for at, cause in enumerate(causes):
        if cause is None:
            kept = resolve(kept, now=NOW + at, by="eve")
        else:
            kept = follow(kept, cause, scope="prices", now=NOW + at, by="eve")
        changes.append((kept.alert.change, kept.alert.count))
    return kept, changes


def test_an_alert_is_silent_until_its_cause_changes():
    _, changes = followed(DRIFT, DRIFT, BOTH, BOTH, None)
    assert changes == [
        ("opened", 1),
        ("opened", 1),
        ("changed", 2),
        ("changed", 2),
        ("resolved", 3),
    ]


def test_what_goes_and_comes_again_is_not_told_again():
    kept, changes = followed(BOTH, DRIFT, BOTH)
    assert changes[-1] == ("opened", 1)
    assert kept.alert.cause == BOTH


def test_becoming_critical_is_a_change_and_going_back_is_none():
    critical = replace(DRIFT, severity="critical")
    kept, changes = followed(DRIFT, critical, DRIFT)
    assert changes == [("opened", 1), ("changed", 2), ("changed", 2)]
    assert kept.alert.cause.severity == "critical"
    assert "now critical" in kept.alert.because


def test_a_cause_that_comes_back_is_another_alert():
    first, _ = followed(DRIFT)
    again, changes = followed(DRIFT, None, DRIFT)
    assert changes == [("opened", 1), ("resolved", 2), ("opened", 3)]
    assert again.alert.id != first.alert.id


def test_an_id_can_be_typed():
    kept, _ = followed(DRIFT)
    assert kept.alert.id.startswith("al-")
    assert len(kept.alert.id) == 10
    assert set(kept.alert.id[3:]) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_what_is_kept_is_read_back():
    kept, _ = followed(DRIFT, BOTH)
    kept = kept.was_sent("webhook", count=2, at=NOW)
    assert Kept.from_json(json.loads(json.dumps(kept.as_json()))) == kept


@pytest.fixture
def project(tmp_path):
    return default_project(tmp_path)


@pytest.fixture
def there():
    return MemoryDestination()


def at(project, there, causes, seconds, **more):
    told = tell(project, causes, scope="prices", now=NOW + seconds, destinations=[there], **more)
    return [(a.cause.key, a.change) for a in told]


def test_each_change_is_sent_once(project, there):
    assert at(project, there, [DRIFT], 0) == [(DRIFT.key, "opened")]
    at(project, there, [DRIFT], 60)
    at(project, there, [BOTH], 120)
    at(project, there, [BOTH], 180)
    assert at(project, there, [], 240) == [(DRIFT.key, "resolved")]
    assert at(project, there, [], 300) == []
    assert [a.change for a in there.alerts] == ["opened", "changed", "resolved"]
    assert len({a.id for a in there.alerts}) == 1


def test_each_change_stands_in_the_ledger_with_the_id_of_its_alert(project, there):
    for seconds, causes in enumerate(([DRIFT], [DRIFT], [BOTH], [])):
        at(project, there, causes, seconds)
    ledger = open_ledger(project)
    kept = ledger.read(KIND, "prices")
    ledger.close()
    assert [d.numbers["state"] for d in kept] == ["opened", "changed", "resolved"]
    assert {d.numbers["alert"] for d in kept} == {there.alerts[0].id}
    assert (kept[0].subject, kept[0].because) == ("prices@3", "opened: area: median up 12 %")
    assert kept[0].numbers["columns"] == {"area": 0.3}


def test_what_this_look_could_not_tell_stays_as_it_is(project, there):
    at(project, there, [DRIFT], 0)
    assert at(project, there, [], 60, unknown=[DRIFT.key]) == [(DRIFT.key, "opened")]
    assert at(project, there, [], 120, unknown=["drift/prices@4"]) == [(DRIFT.key, "resolved")]


def test_a_look_resolves_nothing_of_another_scope(project, there):
    at(project, there, [DRIFT], 0)
    assert tell(project, [], scope="loop/prices", now=NOW + 60, destinations=[there]) == []
    assert [a.change for a in there.alerts] == ["opened"]


def test_a_destination_that_is_down_is_told_later_and_the_log_says_so(project, there, caplog):
    there.down = True
    other = MemoryDestination()
    other.name = "other"
    with caplog.at_level(logging.WARNING):
        tell(project, [DRIFT], scope="prices", now=NOW, destinations=[there, other])
    assert "was not told, and is again at the next look" in caplog.text
    assert len(other.alerts) == 1
    there.down = False
    tell(project, [DRIFT], scope="prices", now=NOW + 60, destinations=[there, other])
    assert (len(there.alerts), len(other.alerts)) == (1, 1)


def test_a_resolution_that_nobody_took_is_sent_later(project, there):
    at(project, there, [DRIFT], 0)
    there.down = True
    at(project, there, [], 60)
    there.down = False
    at(project, there, [], 120)
    assert [a.change for a in there.alerts] == ["opened", "resolved"]


def test_who_forgets_is_reminded_before_it_does(project):
    there = MemoryDestination(forgets=True)
    for seconds in (0, 60, 299, 301, 400):
        at(project, there, [DRIFT], seconds, lasts_s=900)
    assert [a.change for a in there.alerts] == ["opened", "opened"]


def test_while_another_one_tells_nobody_else_does(project, there):
    states = States(ledger_url(project))
    assert states.take(f"alert/{DRIFT.key}", "another", now=NOW, for_s=LEASE_S)
    at(project, there, [DRIFT], 1)
    assert there.alerts == []
    at(project, there, [DRIFT], LEASE_S + 1)  # it was killed, and its lease is over
    states.close()
    assert len(there.alerts) == 1


def test_alerts_that_fire_are_listed(project, there):
    other = replace(DRIFT, key="drift/rents@1", subject="rents@1")
    at(project, there, [DRIFT, other], 0)
    assert [a.cause.key for a in alerts_of(project)] == [DRIFT.key, other.key]
    assert [a.cause.key for a in alerts_of(project, "rents")] == [other.key]
    at(project, there, [other], 60)
    assert [a.cause.key for a in alerts_of(project)] == [other.key]


class ToFile:
    """Writes a line for each alert; with `dies`, its process is killed before or after that."""

    name, forgets = "file", False

    def __init__(self, path, dies=None):
        self.path, self.dies = path, dies

    def send(self, alert, *, until):
        if self.dies == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        with self.path.open("a") as file:
            file.write(f"{alert.id} {alert.change}\n")
        if self.dies == "after":
            os.kill(os.getpid(), signal.SIGKILL)


def _tell(root, path, dies, now):
    tell(
        default_project(root),
        [DRIFT],
        scope="prices",
        now=now,
        destinations=[ToFile(path, dies)],
    )


def in_a_process(*arguments):
    started = multiprocessing.get_context("spawn").Process(target=_tell, args=arguments)
    started.start()
    return started


@pytest.mark.parametrize(("dies", "lines"), [("before", 1), ("after", 2)])
def test_who_is_killed_while_sending_has_it_sent_by_the_next(tmp_path, dies, lines):
    path = tmp_path / "told"
    killed = in_a_process(tmp_path, path, dies, NOW)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    for seconds in (LEASE_S + 1, LEASE_S + 60):
        _tell(tmp_path, path, None, NOW + seconds)
    told = path.read_text().splitlines()
    assert len(told) == lines
    assert len(set(told)) == 1


def test_watchers_side_by_side_send_a_change_once(tmp_path):
    path = tmp_path / "told"
    default_project(tmp_path).state.mkdir()
    started = [in_a_process(tmp_path, path, None, NOW) for _ in range(4)]
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0, 0]
    assert len(path.read_text().splitlines()) == 1
