"""Starting a release, and everything that its controller needs, from the project's settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from charkha.errors import Refused, UserError
from charkha.ledger import ledger_url, open_ledger, who_acts
from charkha.models import aliasing
from charkha.models.promotion import promote, roll_back
from charkha.models.registry import CHAMPION, find_version, list_versions
from charkha.project import read_secret
from charkha.release.collecting import COLUMNS, moment
from charkha.release.controller import KIND, Surroundings, decision
from charkha.release.kept import Release
from charkha.release.plan import Plan, Strategy, make_plan
from charkha.release.platforms.server import ServerPlatform
from charkha.release.rules import Rules
from charkha.serving.records.reading import read_records
from charkha.states import States

if TYPE_CHECKING:
    import pyarrow as pa

    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project


class ProjectAliases:
    """The aliases of a model in the project's registry."""

    def __init__(self, project: Project, model: str) -> None:
        self._project, self._model = project, model

    def champion(self) -> int | None:
        found = champion_of(self._project, self._model)
        return None if found is None else found.version

    def promote(self, version: int, because: str) -> None:
        promote(self._project, f"{self._model}@{version}", because)

    def roll_back(self, version: int, because: str) -> None:
        roll_back(self._project, self._model, because, to=version)


@contextmanager
def surroundings(project: Project, model: str) -> Iterator[Surroundings]:
    """Yield what the controller of a model's release observes and acts on.

    Raises:
        UserError: charkha.toml names no administration API.
        Unavailable: the ledger does not answer.
    """

    def records(since: float) -> pa.Table:
        return read_records(
            model, since=moment(since), shadow=True, columns=COLUMNS, project=project
        )

    states, ledger = States(ledger_url(project)), open_ledger(project)
    try:
        yield Surroundings(
            platform=open_platform(project),
            aliases=ProjectAliases(project, model),
            records=records,
            states=states,
            ledger=ledger,
        )
    finally:
        states.close()
        ledger.close()


def open_platform(project: Project) -> ServerPlatform:
    """Return the model server that the settings name.

    Raises:
        UserError: they name no administration API.
    """
    serving, given = project.serving, project.release
    if given.admin is None and not serving.admin_port:
        raise UserError(
            "a release moves traffic over the server's administration API, and none is set",
            fix='charkha up, which has one; or [serving] admin_port = 8001 and admin_token = "env:NAME"',
        )
    host = "127.0.0.1" if serving.host in ("0.0.0.0", "::") else serving.host  # noqa: S104  # compared
    return ServerPlatform(
        given.admin or f"http://127.0.0.1:{serving.admin_port}",
        read_secret(project, "serving", "admin_token"),
        given.server or f"http://{host}:{serving.port}",
    )


def start(
    project: Project,
    around: Surroundings,
    reference: str,
    *,
    strategy: Strategy = "canary",
    steps: tuple[float, ...] | None = None,
    turn: str | None = None,
) -> Release:
    """Record that a version is to be released; the controller carries it out.

    Args:
        project: whose settings are used.
        around: of the model's controller.
        reference: of the version, `house-prices@4`.
        strategy: as `charkha.release.plan.make_plan` has them.
        steps: of the strategy.
        turn: of the loop that starts it.

    Raises:
        Refused: another release of the model goes on, the gate refused the version, or the server
            shares its traffic already.
        UserError: there is no such version, it is the champion, or the steps cannot be.
        Unavailable: the registry, the server or the ledger does not answer.
    """
    version = find_version(project, reference)
    aliasing.on_promotion(list_versions(project, version.name), version)  # raises if it may not
    champion = champion_of(project, version.name)
    if champion is None:
        raise UserError(
            f"{version.name} has no champion to compare with",
            fix=f"charkha models promote {version}; charkha serve {version.name}",
        )
    if champion.version == version.version:
        raise UserError(
            f"{version} is the champion already", fix=f"charkha models list {version.name}"
        )
    found = around.states.read(KIND, version.name)
    if found is not None and found.value["ended_at"] is None:
        other = Release.from_json(found.value)
        raise Refused(
            f"the release of {other.subject} goes on: {other.state.because}",
            fix=f"charkha release abort {version.name}, or wait for it",
        )
    before = 0.0 if found is None else found.value["decided_at"] or 0.0
    now = max(around.clock(), before + 1.0)  # in order, whatever a clock says; ids have seconds
    plan = _plan(project, strategy, steps)
    release = replace(_begun(project, around, version, champion, now, plan), turn=turn)
    after = 0 if found is None else found.revision
    if not around.states.write(KIND, version.name, release.as_json(), after=after):
        raise Refused("another release was started at this moment", fix="charkha release status")
    around.ledger.record(decision(release))
    return release


def _begun(
    project: Project,
    around: Surroundings,
    version: ModelVersion,
    champion: ModelVersion,
    now: float,
    plan: Plan,
) -> Release:
    given = project.release
    return Release(
        id=time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)),
        model=version.name,
        baseline=champion.version,
        candidate=version.version,
        plan=plan,
        rules=rules_of(project, stages=len(plan.stages) + 1),
        loss=given.loss,
        home=_home(around, champion.version),
        began_at=now,
        by=who_acts(),
    )


def _plan(project: Project, strategy: Strategy, steps: tuple[float, ...] | None) -> Plan:
    given = project.release
    return make_plan(
        strategy,
        steps=steps,
        step_s=given.step_s,
        most_s=given.most_s,
        at_end=given.at_end,
        watch_s=given.watch_s,
        watch_share=given.watch_share,
    )


def rules_of(project: Project, *, stages: int) -> Rules:
    """Return the judge's rules as the settings have them."""
    given = project.release
    return Rules(
        alpha=given.alpha,
        weights={
            "loss": given.loss_weight,
            "errors": given.error_weight,
            "latency": given.latency_weight,
            "predictions": given.prediction_weight,
        },
        margins={
            "loss": given.loss_margin,
            "errors": given.error_margin,
            "latency": given.latency_margin,
            "predictions": given.prediction_margin,
        },
        required=given.required,  # type: ignore[arg-type]  # held against the metrics when read
        requests=given.requests,
        labels=given.labels,
        pairs=given.pairs,
        stages=stages,
    )


def champion_of(project: Project, model: str) -> ModelVersion | None:
    """Return the version that is champion now."""
    return next((v for v in list_versions(project, model) if CHAMPION in v.aliases), None)


def _home(around: Surroundings, version: int) -> str:
    """Return the variant that answers everything now."""
    arms = [arm for arm in around.platform.holds() if arm.share > 0]
    if len(arms) != 1 or arms[0].version != version:
        said = ", ".join(f"{arm.name} (version {arm.version}) {arm.share:g} %" for arm in arms)
        raise Refused(
            f"a release starts from the champion alone, version {version}; the server has {said}",
            fix="charkha serve MODEL without --variant, or give the champion's variant all shares",
        )
    return arms[0].name
