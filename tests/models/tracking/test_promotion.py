import pytest

from charkha.errors import Refused, UserError
from charkha.ledger import open_ledger
from charkha.models.mlflow import MlflowRegistry
from charkha.models.promotion import promote, roll_back
from charkha.models.registry import find_version, list_versions


@pytest.fixture
def registered(project):
    """Version 1 is champion, 2 passed, 3 was refused."""
    client = MlflowRegistry(project.tracking.uri)._client
    client.create_registered_model("prices")
    for gate in ("passed", "passed", "refused"):
        tags = {"charkha.gate": gate, "charkha.because": "rmse is 5, above 3"}
        client.create_model_version("prices", "file:///nowhere", tags=tags)
    client.set_registered_model_alias("prices", "champion", "1")
    return project


def decisions(project):
    ledger = open_ledger(project)
    try:
        return ledger.read(subject="prices")
    finally:
        ledger.close()


def aliases(project):
    return [version.aliases for version in list_versions(project, "prices")]


def test_a_promotion_moves_the_aliases_and_is_recorded_with_its_reason(registered):
    moved = promote(registered, "prices@2", "sales asked for it")
    assert (moved.champion.version, moved.before.version, moved.changed) == (2, 1, True)
    assert aliases(registered) == [("previous",), ("champion",), ()]
    [told] = decisions(registered)
    assert (told.kind, told.subject, told.because) == (
        "promotion",
        "prices@2",
        "sales asked for it",
    )
    assert told.numbers == {"from": 1, "to": 2}


def test_a_promotion_twice_changes_and_records_nothing_more(registered):
    promote(registered, "prices@2")
    assert not promote(registered, "prices@2").changed
    assert len(decisions(registered)) == 1


def test_a_promotion_cut_off_before_it_was_recorded_is_recorded_by_the_next(registered):
    promote(registered, "prices@2")
    (registered.state / "ledger.db").unlink()
    promote(registered, "prices@2", "as I said")
    assert [d.because for d in decisions(registered)] == ["as I said"]


def test_a_refused_version_needs_force_and_a_reason(registered):
    with pytest.raises(Refused, match="rmse is 5, above 3"):
        promote(registered, "prices@3")
    with pytest.raises(UserError, match="needs a reason"):
        promote(registered, "prices@3", force=True)
    assert promote(registered, "prices@3", "an emergency", force=True).champion.version == 3


def test_a_rollback_goes_back_once(registered):
    promote(registered, "prices@2")
    moved = roll_back(registered, "prices", "customers complain")
    assert (moved.champion.version, moved.before.version) == (1, 2)
    assert aliases(registered) == [("champion",), (), ()]
    assert [d.kind for d in decisions(registered)] == ["promotion", "rollback"]
    with pytest.raises(Refused, match="no previous version"):
        roll_back(registered, "prices")
    assert find_version(registered, "prices@champion").version == 1


def test_promoting_the_champion_that_its_registration_made_records_nothing(registered):
    assert not promote(registered, "prices@1").changed
    assert decisions(registered) == []
