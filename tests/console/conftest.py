"""A project with records and decisions as Charkha's own rooms write them; no server, no registry."""

import time

import pytest

from charkha.ledger import Decision, ledger_url, open_ledger
from charkha.project import default_project
from charkha.serving.records import open_feedback, open_folder
from charkha.serving.records.feedback import Feedback
from charkha.serving.records.ids import new_ids
from charkha.serving.records.recorder import Recorder
from charkha.serving.records.source import Source
from charkha.states import States

INPUTS = ({"name": "area", "type": "double"}, {"name": "district", "type": "string"})


class World:
    def __init__(self, root):
        (root / "charkha.toml").write_text('[project]\nname = "prices"\n')
        self.root = root
        self.project = default_project(root)

    def predict(self, *, id=None, version=1, variant="champion", role="live", value=100.0, **more):
        """Record one prediction; return its id."""
        id = id or new_ids(1)[0]
        source = Source(
            model=more.get("model", "prices"),
            version=version,
            variant=variant,
            role=role,
            inputs=INPUTS,
            target="price",
        )
        recorder = Recorder(open_folder(self.project), redact=more.get("redact", ()))
        row = more.get("row", (42.5, "North"))
        at_us = int(more.get("at", time.time()) * 1e6)
        recorder.append(recorder.declare(source), [(id, at_us, 1500, None, None, row, value, None)])
        recorder.close()
        return id

    def feed(self, id, truth, at=None):
        log = open_feedback(self.project)
        log.append([Feedback(id=id, truth=truth, at=at)])
        log.close()

    def decide(self, kind, subject, numbers=None, *, at=None, because="so it is", who="ann"):
        """Record a decision; return it."""
        decision = Decision(
            at=time.time() if at is None else at,
            kind=kind,
            subject=subject,
            because=because,
            numbers=numbers or {},
            who=who,
        )
        ledger = open_ledger(self.project)
        ledger.record(decision)
        ledger.close()
        return decision

    def keep(self, kind, key, value):
        states = States(ledger_url(self.project))
        assert states.write(kind, key, value, after=0)
        states.close()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)
