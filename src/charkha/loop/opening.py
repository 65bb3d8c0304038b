"""The loop of a project, with everything that it observes and acts on; and asking it for a turn."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from typing import TYPE_CHECKING

from charkha.ledger import ledger_url, open_ledger
from charkha.loop.controller import Around, Loop
from charkha.loop.cronsim import last_due
from charkha.loop.observing import Observer
from charkha.loop.training import ProcessTrainer
from charkha.loop.triggers import triggers_of
from charkha.loop.turns import KIND, REQUEST, Kept
from charkha.release.starting import surroundings
from charkha.states import States

if TYPE_CHECKING:
    from charkha.project import Project


@contextmanager
def open_loop(project: Project, model: str) -> Iterator[Loop]:
    """Yield the loop of a model.

    Raises:
        ProjectError: a schedule is none.
        Unavailable: the ledger does not answer.
    """
    triggers = triggers_of(project.trigger)
    for trigger in triggers:
        if trigger.cron is not None:
            last_due(trigger.cron, time.time())
    states, ledger = States(ledger_url(project)), open_ledger(project)
    try:
        around = Around(
            observer=Observer(project=project, model=model, triggers=triggers, states=states),
            trainer=ProcessTrainer(project),
            release=lambda: surroundings(project, model),
            states=states,
            ledger=ledger,
        )
        loop = Loop(project, model, around, who=f"loop of {getuser()}")
        try:
            yield loop
        finally:
            loop.close()
    finally:
        states.close()
        ledger.close()


def ask(project: Project, model: str, because: str) -> str:
    """Leave the wish for a turn, which the next look of a loop serves; return its id.

    Raises:
        Unavailable: the ledger does not answer.
    """
    states = States(ledger_url(project))
    wish = {"id": uuid.uuid4().hex, "by": getuser(), "because": because, "at": time.time()}
    try:
        while True:
            found = states.read(REQUEST, model)
            after = 0 if found is None else found.revision
            if states.write(REQUEST, model, wish, after=after):
                return str(wish["id"])
    finally:
        states.close()


def kept_of(project: Project, model: str) -> Kept | None:
    """Return what the loop of a model remembers; None where it never looked.

    Raises:
        Unavailable: the ledger does not answer.
    """
    states = States(ledger_url(project))
    try:
        found = states.read(KIND, model)
    finally:
        states.close()
    return None if found is None else Kept.from_json(found.value)
