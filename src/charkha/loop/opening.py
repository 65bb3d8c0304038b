"""The loop of a project, with everything that it observes and acts on; and asking it for a turn."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from charkha.errors import ProjectError, UserError
from charkha.ledger import ledger_url, open_ledger, who_acts
from charkha.loop.controller import Around, Loop
from charkha.loop.cronsim import last_due
from charkha.loop.material import check_parameters, check_window
from charkha.loop.observing import Observer
from charkha.loop.training import EngineTrainer, ProcessTrainer
from charkha.loop.triggers import triggers_of
from charkha.loop.turns import KIND, REQUEST, Kept
from charkha.models.registry import find_version, list_versions
from charkha.monitoring.telling import tell
from charkha.pipeline.engines.port import open_engine
from charkha.release.plan import make_plan, steps_of
from charkha.release.starting import open_platform, surroundings
from charkha.states import States

if TYPE_CHECKING:
    from charkha.loop.training import Trainer
    from charkha.project import Project


@contextmanager
def open_loop(project: Project, model: str, *, checked: bool = True) -> Iterator[Loop]:
    """Yield the loop of a model; one that is not `checked` may only abort its turn.

    Raises:
        UserError: the settings could not be carried out when a turn comes to it.
        Unavailable: the ledger does not answer.
    """
    if checked:
        check_settings(project)
    triggers = triggers_of(project.trigger)
    states, ledger = States(ledger_url(project)), open_ledger(project)
    try:
        around = Around(
            observer=Observer(project=project, model=model, triggers=triggers, states=states),
            trainer=trainer_of(project),
            release=lambda: surroundings(project, model),
            states=states,
            ledger=ledger,
            alert=lambda causes, unknown: tell(project, causes, scope=model, unknown=unknown),
        )
        loop = Loop(project, model, around, who=f"loop of {who_acts()}")
        try:
            yield loop
        finally:
            loop.close()
    finally:
        states.close()
        ledger.close()


def trainer_of(project: Project) -> Trainer:
    """Return who trains for the loop: a process here, or the engine of `[loop] engine`."""
    return ProcessTrainer(project) if project.loop.engine == "local" else EngineTrainer(project)


def check_settings(project: Project, *, served: bool = False) -> None:
    """See now that a turn can be carried out, and not when one is begun, perhaps in weeks.

    Args:
        project: whose loop it is.
        served: whether the loop is given a server, with its administration API and a token.

    Raises:
        ProjectError: a schedule or a window is none, triggers are there twice, or the pipeline lacks
            a parameter that a turn would give it.
        UserError: the steps cannot be, there is no such engine, or no administration API is named.
    """
    given = project.loop
    if given.engine != "local":
        try:
            open_engine(project, given.engine)
        except UserError as e:
            raise ProjectError(e.what, where="charkha.toml, [loop] engine", fix=e.fix) from e
    for trigger in triggers_of(project.trigger):
        if trigger.cron is not None:
            last_due(trigger.cron, time.time())
    check_window(given.window)
    check_parameters(project)
    if given.strategy != "none":
        try:
            make_plan(given.strategy, steps=steps_of(given.steps))
        except UserError as e:
            raise ProjectError(
                e.what,
                where="charkha.toml, [loop]",
                fix='steps = "1,5,25,50,100"'
                if given.strategy in ("canary", "rolling")
                else 'take the line out, or strategy = "canary"',
            ) from e
        if served:
            return
        open_platform(project)
        if project.serving.admin_token is None:  # the server makes one that nobody else knows
            raise UserError(
                "a release asks the server's administration API, which wants a token, and none is set",
                fix='[serving] admin_token = "env:NAME" in charkha.toml, for the server too',
            )


def check_model(project: Project, model: str) -> None:
    """See that a model is one: the project's own, which may wait for its first run, or a registered.

    Raises:
        UserError: it is neither.
        Unavailable: the registry does not answer.
    """
    if model != project.model.name and not list_versions(project, model):
        find_version(project, model)  # raises, and says what may be meant


def ask(project: Project, model: str, because: str) -> str:
    """Leave the wish for a turn, which the next look of a loop serves; return its id.

    Raises:
        Unavailable: the ledger does not answer.
    """
    states = States(ledger_url(project))
    wish = {"id": uuid.uuid4().hex, "by": who_acts(), "because": because, "at": time.time()}
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
