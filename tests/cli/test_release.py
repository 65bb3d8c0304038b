"""What `charkha release` says of a release that is kept; carrying one out is in tests/release."""

import json
from contextlib import closing
from dataclasses import replace
from threading import Timer

import pytest

from charkha.cli.main import main
from charkha.ledger import ledger_url
from charkha.project import open_project
from charkha.release.kept import Release
from charkha.release.plan import abort, make_plan
from charkha.release.rules import Rules
from charkha.states import States

BEGAN = 1_795_741_566.0  # 2026-11-27 01:06:06 UTC


@pytest.fixture
def states(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n[release]\nevery_s = 0.1\n')
    monkeypatch.chdir(tmp_path)
    with closing(States(ledger_url(open_project()))) as opened:
        yield opened


@pytest.fixture
def release(states):
    begun = Release(
        id="20261127T010606", model="prices", baseline=2, candidate=3, plan=make_plan("canary"),
        rules=Rules(), loss="absolute", home="champion", began_at=BEGAN, by="ann",
    )  # fmt: skip
    assert states.write("release", "prices", begun.as_json(), after=0)
    return begun


def test_watching_with_json_writes_a_document_a_line_until_the_release_has_ended(
    states, release, capsys
):
    ended = replace(release, state=abort(release.state, "as agreed"), ended_at=BEGAN + 60)
    later = Timer(0.5, lambda: states.write("release", "prices", ended.as_json(), after=1))
    later.start()
    assert main(["release", "status", "--watch", "--json"]) == 0
    later.join()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in told] == ["20261127T010606"] * len(told)
    assert told[0]["ended_at"] is None
    assert (told[-1]["state"]["phase"], told[-1]["state"]["because"]) == ("aborted", "as agreed")


def test_status_with_json_is_one_document(states, release, capsys):
    assert main(["release", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"]["phase"] == "judging"
