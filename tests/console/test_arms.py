"""Why a variant answered, held against how a server draws."""

from datetime import UTC, datetime

import pytest

from charkha.console.stories.arms import Arm, Known, arms_of_file, arms_of_release, tell_arm
from charkha.console.stories.happened import releases
from charkha.console.stories.ledgers.port import Entry
from charkha.console.stories.recorded import Recorded
from charkha.console.stories.sources import Held
from charkha.release.controller import decision
from charkha.release.kept import Release
from charkha.release.plan import State, make_plan
from charkha.release.rules import Rules
from charkha.serving.records.ids import new_ids
from charkha.serving.variants import Rendezvous

ARMS = (
    Arm(name="champion", version=1, share=95.0),
    Arm(name="release-2", version=2, share=5.0),
)
KNOWN = Known(arms=ARMS, because="as the server has held")


def record(id, variant, role="live"):
    return Recorded(
        id=id,
        model="prices",
        version=1,
        variant=variant,
        role=role,
        at=datetime.now(UTC),
        latency_s=0.001,
        key=None,
        entities={},
        inputs={},
        target="price",
        prediction=1.0,
        probabilities={},
    )


def drawn(id):
    return ARMS[Rendezvous([a.name for a in ARMS], [a.share for a in ARMS]).find(id.encode())].name


def test_an_id_that_draws_the_variant_is_told_as_the_reason_with_its_share():
    for id in new_ids(200):
        told = tell_arm(record(id, drawn(id)), KNOWN)
        assert told.value("drawn") == drawn(id)
        assert told.value("share") == (0.95 if drawn(id) == "champion" else 0.05)
        assert "own id finds it" in told.because[1]


def test_an_id_that_draws_another_variant_says_what_else_it_can_have_been():
    id = next(id for id in new_ids(500) if drawn(id) == "champion")
    told = tell_arm(record(id, "release-2"), KNOWN)
    assert "would have found champion" in told.because[1]
    assert "charkha-key" in told.because[1]


def test_a_shadow_answers_nobody():
    (because,) = tell_arm(record(new_ids(1)[0], "next", role="shadow"), KNOWN).because
    assert "as a shadow" in because


def test_where_nobody_kept_the_shares_none_are_invented():
    told = tell_arm(record(new_ids(1)[0], "champion"), None)
    assert told.value("share") is None
    assert "not kept" in told.because[0]


def test_a_file_that_changed_after_the_prediction_says_nothing_of_then():
    held = Held(since=100.0, variants=({"name": "champion", "version": 1, "share": 100.0},))
    assert arms_of_file(held, 99.0) is None
    assert arms_of_file(held, 101.0).arms == (Arm(name="champion", version=1, share=100.0),)


@pytest.mark.parametrize(
    ("strategy", "state", "arms"),
    [
        ("canary", State(stage=1), [("champion", 95.0, False), ("release-2", 5.0, False)]),
        ("shadow", State(), [("champion", 100.0, False), ("release-2", 0.0, True)]),
        (
            "canary",
            State(phase="watching", stage=4),
            [("release-1", 5.0, False), ("release-2", 95.0, False)],
        ),
    ],
)
def test_the_decision_of_a_release_says_who_was_held_and_with_which_shares(strategy, state, arms):
    release = Release(
        id="20261126T142627",
        model="prices",
        baseline=1,
        candidate=2,
        plan=make_plan(strategy),
        rules=Rules(),
        loss="auto",
        home="champion",
        began_at=1.0,
        by="ann",
        state=state,
    )
    told = decision(release)
    entry = Entry(
        id=told.id,
        at=told.at,
        kind=told.kind,
        subject=told.subject,
        because=told.because,
        numbers=told.numbers,
        who=told.who,
    )
    (released,) = releases([entry])
    known = arms_of_release(released, entry, champion=1)
    assert [(a.name, a.share, a.shadow) for a in known.arms] == arms


def test_a_release_of_an_older_charkha_kept_no_shares():
    entry = Entry(
        id="x",
        at=1.0,
        kind="release",
        subject="prices@2",
        because="",
        numbers={"release": "r", "phase": "judging", "from": 1, "to": 2},
        who="",
    )
    assert arms_of_release(releases([entry])[0], entry, champion=1) is None
