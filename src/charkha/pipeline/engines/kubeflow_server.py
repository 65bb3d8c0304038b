"""Runs on a Kubeflow server, by kfp's own client: hand over, ask how far it is, stop."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kfp
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from charkha.errors import BackendError, NotFound, Unavailable
from charkha.pipeline.engines.kubeflow_ir import RUN
from charkha.pipeline.engines.port import EngineState, Handle, Status
from charkha.project import read_secret

if TYPE_CHECKING:
    from charkha.project import Project

_STATES: dict[str, Status] = {
    "PENDING": "queued",
    "PAUSED": "queued",
    "RUNNING": "running",
    "CANCELING": "running",
    "SUCCEEDED": "finished",
    "SKIPPED": "finished",
    "FAILED": "failed",
    "CANCELED": "interrupted",
}


def submit(project: Project, file: Path, run: str) -> Handle:
    """Have the server run the pipeline of a file as our run; return what finds it there."""
    settings = project.kubeflow
    with _asked(project) as client:
        made = client.create_run_from_pipeline_package(
            str(file),
            arguments={RUN: run},
            run_name=run,
            experiment_name=settings.experiment,
            namespace=settings.namespace,
            service_account=settings.service_account,
        )
    return {"id": made.run_id, "url": f"{settings.host}/#/runs/details/{made.run_id}"}


def state(project: Project, handle: Handle) -> EngineState:
    """Return how far the server is."""
    with _asked(project) as client:
        found = client.get_run(handle["id"])
    tasks = (found.run_details.task_details or ()) if found.run_details else ()
    return EngineState(
        status=_STATES.get(found.state, "running"),
        tasks={one.display_name: _STATES.get(one.state, "queued") for one in tasks},
        url=handle["url"],
        because=found.error.message if found.error else None,
    )


def cancel(project: Project, handle: Handle) -> None:
    """Have the server stop a run."""
    with _asked(project) as client:
        if _STATES.get(client.get_run(handle["id"]).state) in ("queued", "running"):
            client.terminate_run(handle["id"])


@contextmanager
def _asked(project: Project) -> Iterator[Any]:
    """Lend a client, and turn what it raises into our errors.

    Raises:
        Unavailable: nobody answered; worth trying again.
        BackendError: the server answered with a refusal.
    """
    host = str(project.kubeflow.host)
    try:
        with redirect_stdout(io.StringIO()):  # it prints addresses, and ours may be read as JSON
            yield _client(
                host, project.kubeflow.namespace, read_secret(project, "kubeflow", "token")
            )
    except ApiException as e:
        raise _ours(e, host) from e
    except (HTTPError, TimeoutError) as e:
        raise Unavailable(
            f"Kubeflow at {host} does not answer: {_reason(e)}",
            fix="start it, or correct [kubeflow] host in charkha.toml",
        ) from e


@cache
def _client(host: str, namespace: str | None, token: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it talks to no first version
        return kfp.Client(host=host, namespace=namespace or "kubeflow", existing_token=token)


def _reason(error: Exception) -> str:
    """Return what is left of urllib3's words without the objects and addresses that it prints."""
    return str(getattr(error, "reason", error)).splitlines()[0].rpartition("): ")[2]


def _ours(error: ApiException, host: str) -> BackendError:
    said = " ".join(str(error.body or error.reason or "").split())[:300]
    if error.status in (401, 403):
        return BackendError(
            f"Kubeflow at {host} wants credentials: {said}",
            fix='[kubeflow] token = "env:KUBEFLOW_TOKEN", and who owns it has to be in the namespace',
        )
    if error.status == 404:
        return NotFound(f"Kubeflow at {host}: {said}")
    if not error.status or error.status >= 500:
        return Unavailable(f"Kubeflow at {host} does not answer: {said}")
    return BackendError(f"Kubeflow at {host} refused: {said}")
