"""Turns of the wheel from a trigger to a verdict, and the loop killed at every call in between."""

import time
from contextlib import suppress

import pytest

from charkha.errors import Refused, Unavailable, UserError
from charkha.ledger import open_ledger
from charkha.loop import controller as loops
from charkha.loop.triggers import Signal
from charkha.loop.turns import KIND
from charkha.models import promotion
from charkha.models.promotion import promote, roll_back
from charkha.models.registry import list_versions
from charkha.release.controller import KIND as RELEASE
from charkha.release.controller import command
from charkha.release.plan import abort

from .world import BAD, MODEL, NEW, OLD, OTHER, Killed, World

DAY = 86_400.0
REFUSED = [("training", None, None), ("ended", "refused", BAD)]
PROMOTED = [("training", None, None), ("releasing", None, NEW), ("ended", "promoted", NEW)]
ROLLED_BACK = [*PROMOTED[:2], ("ended", "rolled back", NEW)]
QUIET = (Signal(kind="drift", fires=False, because="no drift"),)


def wish(id):
    return (Signal(kind="person", fires=True, because="eve: why not", request=id),)


def test_what_the_gate_refused_leaves_the_champion_and_says_why(world):
    made = world()
    made.trainer.makes = BAD
    assert made.run().outcome == "refused"
    assert made.turn.because == f"the gate refused prices@{BAD}: rmse 9 is not better"
    assert made.story() == REFUSED
    assert (made.champion(), made.releases()) == (OLD, [])


def test_what_passed_is_released_and_becomes_champion(world):
    made = world()
    assert made.run().outcome == "promoted"
    assert made.story() == PROMOTED
    assert (made.aliases.moves, made.releases()) == ([NEW], [NEW])
    assert made.turn.because.endswith("nothing was worse while it was watched")
    first = made.ledger.read(KIND)[0]
    assert (first.because, first.numbers["trigger"]) == ("drift: area went up", "drift")


def test_what_is_worse_is_rolled_back_and_the_champion_stays(world):
    made = world(failing=0.9)
    assert made.run().outcome == "rolled back"
    assert "worse: errors" in made.turn.because
    assert made.story() == ROLLED_BACK
    assert (made.champion(), made.releases()) == (OLD, [NEW])


def test_what_was_rolled_back_gets_no_second_release_until_a_person_asks(world):
    made = world(failing=0.9)
    made.run()
    made.service.failing = 0.0
    made.service.now += 2 * DAY  # the trigger has cooled down, and fires still
    made.loop.tick()
    turn = made.run()
    assert (turn.trigger, turn.outcome, made.releases()) == ("drift", "not released", [NEW])
    assert "was rolled back" in turn.because
    assert f"to do: charkha loop --now, or charkha release start {MODEL}@{NEW}" in turn.because
    made.observer.signals = wish("w1")
    made.loop.tick()
    assert made.run().outcome == "promoted"
    assert made.releases() == [NEW, NEW]


@pytest.mark.parametrize("strategy", ["none", "canary"])
def test_what_a_person_rolled_back_is_not_brought_back_by_the_loop(world, strategy):
    made = world(settings=f'strategy = "{strategy}"\n')
    made.run()
    roll_back(made.project, MODEL, "eve does not like it")
    made.aliases.follow()
    made.service.now += 2 * DAY
    made.loop.tick()
    turn = made.run()
    assert (turn.outcome, made.champion()) == ("not released", OLD)
    assert "eve does not like it" in turn.because


def test_a_run_that_makes_the_champion_again_changes_nothing(world):
    made = world()
    made.trainer.makes = OLD
    assert made.run().outcome == "unchanged"
    assert (made.aliases.moves, made.releases()) == ([], [])


def test_a_run_that_fails_ends_the_turn_with_what_it_said(world):
    made = world()
    made.trainer.fails = "charkha run ended with 1: error: step 'fit' failed"
    assert made.run().outcome == "failed"
    assert "step 'fit' failed" in made.turn.because
    assert made.releases() == []


@pytest.mark.parametrize(("fails", "seen"), [("its disk was full", ({}, 0)), (None, None)])
def test_what_was_new_for_a_turn_that_failed_is_new_for_the_next_one(world, fails, seen):
    made = world()
    made.trainer.fails = fails
    made.run()
    kept = made.kept()
    assert (kept.data, kept.labels) == (seen or (made.observer.data, made.observer.labels))


def test_a_run_that_goes_on_elsewhere_is_looked_at_again_and_its_turn_stays(world):
    made = world()
    made.trainer.goes_on = 2
    assert [made.loop.tick() for _ in range(4)] == ["begun", "waiting", "waiting", "trained"]
    assert made.trainer.asked[0] == made.trainer.asked[-1]
    assert made.run().outcome == "promoted"
    assert made.story() == PROMOTED


def test_a_run_that_makes_no_version_ends_the_turn(world):
    made = world()
    made.trainer.makes = 99
    assert made.run().because == "run run-of-99 made no version of prices"


def test_without_a_strategy_what_passed_is_champion_at_once(world):
    made = world(settings='strategy = "none"\n')
    assert made.run().outcome == "promoted"
    assert (made.champion(), made.releases()) == (NEW, [])


def test_without_a_strategy_what_was_not_compared_with_the_champion_of_now_stays_below(world):
    """A person promoted another one while it was trained."""
    made = world(settings='strategy = "none"\n')
    made.trainer.meanwhile = lambda: promote(made.project, f"{MODEL}@{OTHER}", "eve's")
    turn = made.run()
    assert (turn.outcome, made.champion()) == ("not released", OTHER)
    assert f"was judged before prices@{OTHER} became champion; to do: charkha run" in turn.because


def test_a_person_who_promotes_the_candidate_meanwhile_has_released_it(world):
    made = world()
    made.loop.tick()
    made.loop.tick()
    promote(made.project, f"{MODEL}@{NEW}", "eve cannot wait")
    turn = made.run()
    assert (turn.outcome, made.releases()) == ("promoted", [])
    assert turn.because == f"prices@{NEW} is champion: somebody promoted it"


def test_a_release_compares_with_the_champion_that_a_person_made_meanwhile(world):
    made = world()
    made.trainer.meanwhile = lambda: (
        promote(made.project, f"{MODEL}@{OTHER}", "eve's"),
        made.aliases.follow(),
    )
    made.run()
    assert made.kept_release().baseline == OTHER


def test_a_release_that_a_person_started_goes_on_and_no_turn_begins_meanwhile(world):
    made = world()
    made.start_release(OTHER)
    while made.kept_release().ended_at is None:
        assert made.loop.tick() in ("waiting", "releasing")
        assert made.turn is None
        made.pass_time()
    assert made.champion() == OTHER
    made.loop.tick()
    assert made.turn.phase == "training"


def test_a_release_that_a_person_started_while_it_trained_ends_before_the_turns_own(world):
    made = world()
    made.trainer.meanwhile = lambda: made.start_release(OTHER)
    assert made.run().outcome == "promoted"
    assert made.releases() == [OTHER, NEW]


@pytest.mark.parametrize("strategy", ["none", "canary"])
def test_a_turn_waits_for_the_release_of_a_person_whatever_its_strategy(world, strategy):
    made = world(settings=f'strategy = "{strategy}"\n')
    made.trainer.meanwhile = lambda: made.start_release(OTHER)
    made.loop.tick(), made.loop.tick()
    assert made.loop.tick() == "waiting"
    assert made.champion() == OLD


def test_a_turn_is_released_once_though_a_person_has_started_another_release_since(world):
    made = world(failing=0.9)
    made.loop.tick(), made.loop.tick(), made.loop.tick()
    made.drive()  # as `charkha release run` does, in another process
    made.service.failing = 0.0
    made.start_release(OTHER)
    turn = made.run()
    assert turn.outcome == "rolled back"
    assert made.releases() == [NEW, OTHER]


def test_a_person_who_aborts_the_release_ends_the_turn(world):
    made = world()
    made.loop.tick(), made.loop.tick(), made.loop.tick()
    with made.release() as around:
        command(around, MODEL, lambda r: abort(r.state, "eve is afraid"), who="eve")
    turn = made.run()
    assert (turn.outcome, made.champion()) == ("rolled back", OLD)
    assert turn.because.endswith("was aborted: eve is afraid")


def test_a_turn_that_is_aborted_while_it_trains_releases_nothing_and_its_run_is_stopped(world):
    made = world()
    made.trainer.meanwhile = lambda: made.another("ann").abort("the data is wrong", "eve")
    assert [made.loop.tick(), made.loop.tick()] == ["begun", "ended"]
    assert (made.turn.outcome, made.turn.because) == ("aborted", "the data is wrong")
    assert made.story() == [("training", None, None), ("ended", "aborted", None)]
    assert made.ledger.read(KIND)[-1].who == "eve"
    assert (made.trainer.stopped, made.releases()) == ([made.turn.id], [])


def test_a_turn_that_is_aborted_while_it_is_released_gives_the_traffic_back(world):
    made = world()
    made.loop.tick(), made.loop.tick(), made.loop.tick()
    made.loop.tick()  # it has its first part of the traffic
    made.another("ann").abort("eve is afraid", "eve")
    release = made.kept_release()
    assert (release.state.phase, made.champion()) == ("aborted", OLD)
    assert release.state.because == f"turn {made.turn.id} was aborted: eve is afraid"
    assert [(a.name, a.share) for a in made.platform.holds()] == [("champion", 100)]
    assert made.story()[-1] == ("ended", "aborted", NEW)
    assert made.loop.tick() == "nothing"
    assert "cools down" in made.kept().said


def test_who_is_killed_while_aborting_has_aborted_and_the_next_look_gives_the_traffic_back(world):
    made = world()
    made.loop.tick(), made.loop.tick(), made.loop.tick()
    made.loop.tick()
    made.dies_at, made.dies = made.calls + 2, "after"  # it has read, and written
    with pytest.raises(Killed):
        made.another("ann").abort("eve is afraid", "eve")
    made.dies_at = 0
    assert (made.turn.outcome, made.kept_release().ended_at) == ("aborted", None)
    made.loop.tick()
    assert made.kept_release().state.phase == "aborted"
    assert made.story()[-1] == ("ended", "aborted", NEW)


def test_who_aborts_a_turn_that_waits_for_a_persons_release_leaves_that_one_alone(world):
    made = world()
    made.trainer.meanwhile = lambda: made.start_release(OTHER)
    made.loop.tick(), made.loop.tick()
    made.another("ann").abort("not now", "eve")
    assert (made.turn.outcome, made.kept_release().state.phase) == ("aborted", "judging")


def test_an_engine_that_does_not_answer_keeps_no_turn_from_being_aborted(world):
    made = world()
    made.trainer.goes_on = 9
    made.loop.tick(), made.loop.tick()
    made.trainer.away = True
    assert "the engine does not answer" in str(made.loop.abort("not now", "eve"))
    assert made.turn.outcome == "aborted"


def test_without_a_turn_there_is_nothing_to_abort(world):
    made = world()
    for _ in range(2):
        with pytest.raises(UserError, match="no turn of prices goes on"):
            made.loop.abort("not now", "eve")
        made.trainer.makes = OLD
        made.run()


def test_what_the_server_cannot_begin_with_is_said_and_the_loop_goes_on(world):
    made = world()
    made.platform.add("by hand", OTHER, shadow=False)
    made.platform.set_shares({"champion": 50, "by hand": 50})
    turn = made.run()
    assert turn.outcome == "not released"
    assert "a release starts from the champion alone" in turn.because
    assert "to do: charkha serve" in turn.because


def test_a_wish_is_served_once_whatever_begins_the_turns_after_it(world):
    made = world()
    made.trainer.makes = OLD
    made.observer.signals = wish("w1")
    assert made.run().trigger == "person"
    made.observer.signals = (Signal(kind="drift", fires=True, because="area went up"),)
    made.service.now += 2 * DAY
    made.loop.tick(), made.loop.tick()
    assert made.turn.trigger == "drift"
    assert made.kept().served == "w1"


def test_after_a_turn_its_trigger_cools_down_and_the_reason_is_kept(world):
    made = world()
    made.trainer.makes = BAD
    made.run()
    assert made.loop.tick() == "nothing"
    assert "it cools down" in made.kept().said
    assert len(made.story()) == 2


def test_what_no_champion_or_nothing_seen_means_is_kept_for_who_asks(world):
    made = world()
    made.observer.signals = QUIET
    assert made.loop.tick() == "nothing"
    assert made.kept().said == "drift: no drift"
    assert made.story() == []


def test_of_two_loops_one_acts(world):
    made = world()
    other = made.another("bob")
    inside = []
    made.trainer.meanwhile = lambda: inside.append(other.tick())
    assert made.run().outcome == "promoted"
    assert inside == ["busy"]
    assert (made.story(), made.releases()) == (PROMOTED, [NEW])


def test_of_two_loops_whose_leases_are_worthless_one_decides(world):
    """The second takes over in the middle of every act of the first."""
    made = world()
    other = made.another("bob")

    def meanwhile():
        if len(made.trainer.asked) > 3:
            return
        made.service.now += 61  # the first one hangs, and its lease is over
        other.tick()

    made.trainer.meanwhile = meanwhile
    made.run()
    assert made.story() == PROMOTED
    assert (made.aliases.moves, made.releases()) == ([NEW], [NEW])


def walk(made, dies, at):
    made.dies, made.dies_at = dies, at
    return made.run()


@pytest.mark.parametrize("dies", ["before", "after"])
def test_killed_at_any_call_a_refused_turn_ends_the_same(world, dies):
    whole = world()
    whole.trainer.makes = BAD
    whole.run()
    for at in range(1, whole.calls + 1, 2):
        made = world()
        made.trainer.makes = BAD
        walk(made, dies, at)
        assert (made.story(), made.champion(), made.releases()) == (REFUSED, OLD, []), at


@pytest.mark.parametrize(("dies", "first"), [("before", 2), ("after", 14)])
@pytest.mark.parametrize(("failing", "story"), [(0.0, PROMOTED), (0.9, ROLLED_BACK)])
def test_killed_at_any_call_a_turn_is_released_once_and_ends_the_same(
    world, dies, first, failing, story
):
    whole = world(failing=failing)
    whole.run()
    for at in range(first, whole.calls + 1, 24):
        made = world(failing=failing)
        walk(made, dies, at)
        assert made.story() == story, at
        assert made.aliases.moves == whole.aliases.moves, at
        assert made.releases() == [NEW], at


@pytest.mark.parametrize("dies", ["before", "after"])
def test_killed_at_any_call_a_turn_without_a_strategy_promotes_once(world, dies):
    whole = world(settings='strategy = "none"\n')
    whole.run()
    for at in range(1, whole.calls + 1, 3):
        made = world(settings='strategy = "none"\n')
        walk(made, dies, at)
        assert (made.story(), made.champion()) == (PROMOTED, NEW), at
        assert len(made.ledger.read("promotion")) == 1, at


@pytest.fixture
def dies_once(monkeypatch):
    """Return `dies_once(after)`: who has moved aliases is killed before the ledger has it, after so many."""

    def dies_once(after=0):
        opened = []

        def opening(project):
            opened.append(project)
            if len(opened) == after + 1:
                raise Killed
            return open_ledger(project)

        monkeypatch.setattr(promotion, "open_ledger", opening)
        return opened

    return dies_once


def moves(made):
    told = [*made.ledger.read("promotion"), *made.ledger.read("rollback")]
    return [(d.kind, d.subject, d.numbers["from"]) for d in told]


@pytest.mark.parametrize("settings", ["", 'strategy = "none"\n'])
def test_killed_between_registry_and_ledger_a_promotion_is_told_by_the_next_one(
    world, dies_once, settings
):
    made, opened = world(settings=settings), dies_once()
    assert made.run().outcome == "promoted"
    assert opened
    assert made.aliases.moves in ([NEW], [])
    assert [subject for _, subject, _ in moves(made)] == [f"{MODEL}@{NEW}"]


@pytest.mark.parametrize("after", [0, 2])
def test_killed_between_registry_and_ledger_a_rollback_is_told_by_the_next_one(
    world, dies_once, after
):
    made, opened = world(), dies_once(after)
    while made.kept_release() is None or made.kept_release().state.phase != "watching":
        with suppress(Killed):
            if made.loop.tick() == "waiting":
                made.pass_time()
    made.service.now += 61  # until the leases of a killed one are over
    made.loop = made.another("bob")
    made.loop.tick()  # it is watched
    with made.release() as around:
        command(around, MODEL, lambda r: abort(r.state, "eve is afraid"), who="eve")
    assert made.run().outcome == "rolled back"
    assert len(opened) > after
    assert made.champion() == OLD
    assert "previous" not in {a for v in list_versions(made.project) for a in v.aliases}
    assert moves(made) == [
        ("promotion", f"{MODEL}@{NEW}", OLD),
        ("rollback", f"{MODEL}@{OLD}", NEW),
    ]


class Away:
    """Passes calls on while it is not told to be away."""

    def __init__(self, thing, world, name):
        self._thing, self._world, self._name = thing, world, name

    def __getattr__(self, name):
        if self._name in self._world.away:
            raise Unavailable(f"{self._name} does not answer")
        return getattr(self._thing, name)


@pytest.mark.parametrize("name", ["observer", "trainer", "states", "ledger", "platform", "aliases"])
def test_what_does_not_answer_for_a_while_loses_nothing(world, monkeypatch, name):
    made = world()
    monkeypatch.setattr(made, "fatal", lambda n: Away(getattr(made, n), made, n))
    made.loop = made.another("ann")
    ticks = 0
    while made.turn is None or made.turn.phase != "ended":
        made.away = {name} if ticks % 2 else set()
        ticks += 1
        try:
            did = made.loop.tick()
        except Unavailable:
            made.pass_time(1)
        else:
            if did in ("waiting", "busy"):
                made.pass_time()
        assert ticks < 200
    assert (made.story(), made.releases(), made.champion()) == (PROMOTED, [NEW], NEW)


@pytest.mark.parametrize("phase", ["judging", "watching", None])
def test_a_server_that_is_away_for_a_month_is_waited_for_and_the_turn_goes_on_then(
    world, monkeypatch, phase
):
    """It is away before the release begins, while it is judged, or while it is watched."""
    made = world()
    monkeypatch.setattr(made, "fatal", lambda n: Away(getattr(made, n), made, n))
    made.loop = made.another("ann")

    def reached():
        return made.kept_release() and made.kept_release().state.phase

    while made.turn is None or made.turn.phase != "releasing" or reached() != phase:
        if made.loop.tick() == "waiting":
            made.pass_time(10)
    made.away, before = {"platform"}, (made.story(), made.turn, reached())
    for _ in range(30):
        with pytest.raises(Unavailable):
            made.loop.tick()
        made.service.now += DAY
    assert (made.story(), made.turn, reached()) == before
    made.away = set()
    assert made.run().outcome == "promoted"
    assert (made.story(), made.releases(), made.aliases.moves) == (PROMOTED, [NEW], [NEW])


def test_a_registry_that_is_away_keeps_the_turn_in_its_phase(world):
    made = world()
    made.loop.tick(), made.loop.tick()
    database = made.project.state / "mlflow.db"
    database.rename(database.with_suffix(".away"))
    database.mkdir()  # what SQLite cannot open
    with pytest.raises(Unavailable):
        made.loop.tick()
    assert made.turn.phase == "releasing"
    database.rmdir()
    database.with_suffix(".away").rename(database)
    assert made.run().outcome == "promoted"


def test_a_run_that_others_keep_from_ending_is_tried_for_a_day(world):
    made = world()

    def refuse():
        raise Unavailable("DVC's remote does not answer", fix="dvc doctor")

    made.trainer.meanwhile = refuse
    made.loop.tick()
    for _ in range(3):
        with pytest.raises(Unavailable):
            made.loop.tick()
    made.service.now += DAY
    assert made.loop.tick() == "ended"
    said = "nothing was heard of it for a day: DVC's remote does not answer; to do: dvc doctor"
    assert made.turn.because == said


def test_a_run_that_takes_days_has_not_failed_when_its_engine_does_not_answer_for_a_moment(world):
    made = world()
    made.trainer.goes_on = 9
    made.loop.tick(), made.loop.tick()
    for answers in (False, True, False, True):
        made.service.now += 2 * DAY
        made.trainer.away = not answers
        if answers:
            assert made.loop.tick() == "waiting"
            assert made.kept().silent_since is None
        else:
            with pytest.raises(Unavailable):
                made.loop.tick()
            assert made.kept().silent == "the engine does not answer"
    made.trainer.goes_on = 0
    assert made.run().outcome == "promoted"


def test_while_it_trains_for_long_the_lease_is_renewed(world, monkeypatch):
    monkeypatch.setattr(loops, "LEASE_S", 0.6)
    made = world()
    made.trainer.makes = OLD
    other, said = made.another("bob"), []

    def meanwhile():
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            made.service.now += 0.1
            said.append(other.tick())
            time.sleep(0.1)

    made.trainer.meanwhile = meanwhile
    made.run()
    assert set(said) == {"busy"}


def test_a_ledger_that_is_away_while_the_lease_is_to_be_renewed_ends_nothing(world, monkeypatch):
    monkeypatch.setattr(loops, "LEASE_S", 0.3)
    made = world()
    monkeypatch.setattr(made, "fatal", lambda n: Away(getattr(made, n), made, n))
    made.loop = made.another("ann")
    made.trainer.makes = OLD

    def meanwhile():
        made.away = {"states"}
        time.sleep(0.5)
        made.away = set()

    made.trainer.meanwhile = meanwhile
    assert made.run().outcome == "unchanged"


@pytest.mark.parametrize("jump", [-DAY, DAY])
@pytest.mark.parametrize("ticks", [1, 2, 3, 5])
def test_a_clock_that_jumps_in_the_middle_of_a_turn_changes_no_end(world, jump, ticks):
    made = world()
    for _ in range(ticks):
        if made.loop.tick() == "waiting":
            made.pass_time()
    made.service.now += jump
    for _ in range(60):
        if made.turn.phase != "ended" and made.loop.tick() in ("waiting", "nothing"):
            made.pass_time()
    if made.turn.phase == "releasing":  # a release waits until a clock that was set back catches up
        assert (made.champion(), jump) == (OLD, -DAY)
        made.service.now += DAY
    assert made.run().outcome == "promoted"
    assert made.story() == PROMOTED
    assert (made.aliases.moves, made.releases()) == ([NEW], [NEW])


def test_a_lease_of_a_killed_loop_whose_clock_was_ahead_does_not_hold_the_next_for_a_day(world):
    made = world()
    made.service.now += DAY
    made.loop.tick()  # and is killed
    made.service.now -= DAY
    assert made.another("bob").tick() != "busy"


def test_a_candidate_that_is_gone_ends_the_turn(world):
    for settings in ("", 'strategy = "none"\n'):
        made = world(settings=settings)
        made.loop.tick(), made.loop.tick()
        client = _client(made)
        client.delete_model_version(MODEL, str(NEW))
        assert made.loop.tick() == "ended"
        assert (made.turn.outcome, made.champion()) == ("not released", OLD)


def _client(made: World):
    from charkha.models.mlflow import MlflowRegistry

    return MlflowRegistry(made.project.tracking.uri)._client


def test_a_loop_without_a_champion_waits_for_the_first_run(world):
    made = world()
    _client(made).delete_registered_model_alias(MODEL, "champion")
    assert made.loop.tick() == "nothing"
    assert made.kept().said == "there is no champion: charkha run"


def test_a_release_says_in_the_ledger_whose_turn_it_is(world):
    made = world()
    made.run()
    assert {d.numbers["turn"] for d in made.ledger.read(RELEASE)} == {made.turn.id}
    made.start_release(OTHER)
    assert made.ledger.read(RELEASE)[-1].numbers["turn"] is None
    with pytest.raises(Refused):
        made.start_release(OLD)
