import pytest

from charkha.errors import Damaged
from charkha.models.aliasing import Move
from charkha.models.champion import Champion
from charkha.models.following import Tracker
from charkha.models.mlflow import MlflowRegistry


@pytest.fixture
def registered(project, write_run):
    """Version 1 is champion, version 2 challenger."""
    Tracker(project, write_run()).work()
    first, *_ = MlflowRegistry(project.tracking.uri).versions("prices")
    Tracker(project, write_run(slope=3.0, against=first.package)).work()
    return MlflowRegistry(project.tracking.uri)


def test_without_a_registry_there_is_no_champion(project):
    champion = Champion("prices").bind(project)
    assert champion.fingerprint({"package": "p" * 64}) == "champion:none"
    assert champion.load(None) is None


def test_a_candidate_is_judged_against_the_champion_of_now(project, registered):
    first, _ = registered.versions("prices")
    champion = Champion("prices").bind(project)
    assert champion.fingerprint({"package": f"dir:{'n' * 64}:package"}) == (
        f"champion:{first.package}"
    )
    loaded = champion.load(None)
    assert (loaded["version"], loaded["package"]) == (1, first.package)
    assert (loaded["folder"] / "model.skops").exists()


def test_after_its_promotion_a_candidate_is_judged_as_it_was_before(project, registered):
    first, second = registered.versions("prices")
    before = Champion("prices").bind(project).fingerprint({"package": second.package})
    registered.move("prices", [Move("previous", 1), Move("champion", 2)])
    after = Champion("prices").bind(project)
    assert after.fingerprint({"package": second.package}) == before
    assert after.load(None)["package"] == first.package


def test_a_worker_judges_by_the_champion_that_the_fingerprint_saw(project, registered):
    first, second = registered.versions("prices")
    champion = Champion("prices").bind(project)
    champion.fingerprint({"package": "n" * 64})
    registered.move("prices", [Move("champion", 2)])
    revived = Champion.revive(champion.describe(), project)
    assert revived.load(None)["package"] == first.package


def test_when_the_registry_is_away_the_last_answer_counts(project, registered, caplog):
    first, _ = registered.versions("prices")
    Champion("prices").bind(project).fingerprint({"package": "n" * 64})
    (project.state / "mlflow.db").write_text("gone" * 1000)
    champion = Champion("prices").bind(project)
    assert champion.fingerprint({"package": "n" * 64}) == f"champion:{first.package}"
    assert "as it was last seen" in caplog.text


def test_when_the_registry_was_never_seen_there_is_no_champion_and_it_says_so(project, caplog):
    (project.state / "mlflow.db").write_text("gone" * 1000)
    assert Champion("prices").bind(project).fingerprint({}) == "champion:none"
    assert "never seen" in caplog.text


def test_a_champion_whose_bytes_are_gone_is_named(project, registered):
    for blob in (project.state / "blobs").glob("*/*"):
        blob.unlink()
    with pytest.raises(Damaged, match="the package of the champion of prices cannot be read"):
        Champion("prices").bind(project).load(None)
