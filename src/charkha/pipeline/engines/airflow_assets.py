"""Datasets as assets of Airflow: their addresses, and Airflow told which version is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charkha.data.datasets import Dataset, dataset
from charkha.errors import DataError, UserError
from charkha.pipeline.engines.airflow_api import AirflowApi

if TYPE_CHECKING:
    from charkha.pipeline.graph import Graph
    from charkha.project import Project

_SOURCE = f"{Dataset.__module__}:{Dataset.__qualname__}"


def address(project: Project, name: str) -> str:
    """Return the address by which Airflow knows a dataset."""
    return f"{_of(project)}{name}"


def datasets_of(graph: Graph) -> list[str]:
    """Return the names of the datasets that a pipeline reads."""
    return sorted({str(one["name"]) for one in graph.sources() if one["source"] == _SOURCE})


def announce(project: Project) -> dict[str, str]:
    """Tell Airflow of every dataset that is here in another version than it was told of last.

    Airflow itself remembers what it was told, so nothing is told twice, and what it could not be
    told while it was away it is told the next time. It knows the datasets that a DAG of this
    project is scheduled by; the others are none of its business.

    Returns:
        The datasets that it was told of, with their versions.

    Raises:
        UserError: it knows no dataset of this project, or the user may not tell it.
        Unavailable: it does not answer.
    """
    api, own = AirflowApi(project), _of(project)
    assets = list(api.pages("assets", "assets", {"uri_pattern": f"{own}%"}))
    known = {asset["uri"].removeprefix(own): int(asset["id"]) for asset in assets}
    if not known:
        raise UserError(
            f"no DAG of Airflow at {api.url} waits for data of {project.name}",
            fix="[airflow] on_data = true, then charkha render airflow, or charkha run --on airflow",
        )
    told = {}
    for name, id in sorted(known.items()):
        try:
            version = dataset(name).bind(project).fingerprint({})
        except DataError:  # it was taken out of the project
            continue
        if version != _last(api, id):
            api.ask("POST", "assets/events", {"asset_id": id, "extra": {"version": version}})
            told[name] = version
    return told


def _last(api: AirflowApi, id: int) -> str | None:
    """Return the version that Airflow was told of last."""
    query = {"asset_id": id, "order_by": "-timestamp", "limit": 1}
    found = api.get("assets/events", query)["asset_events"]
    return found[0]["extra"].get("version") if found else None


def _of(project: Project) -> str:
    environment = "" if project.environment == "local" else f"-{project.environment}"
    return f"charkha://{project.name}{environment}/"
