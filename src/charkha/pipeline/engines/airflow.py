"""Airflow 3: a plan as a DAG of one of its bundles, started and followed over its REST API."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import BackendError, NotFound, ProjectError, Unavailable, UserError
from charkha.pipeline.engines.airflow_api import AirflowApi, Conflict, Json, part
from charkha.pipeline.engines.airflow_dag import dag_id, text_of
from charkha.pipeline.engines.airflow_tasks import ELEMENTS, FINISH, START, loop_text
from charkha.pipeline.engines.port import EngineState, Handle, Status
from charkha.pipeline.plans import Abilities, Cannot, Plan, check
from charkha.stamps import is_ours, stamped, write

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.project import Project

_POLL_S = 1.0
_SAID_AFTER_S = 5.0  # of waiting
_STATES: dict[str | None, Status] = {
    "success": "finished",
    "skipped": "finished",  # a fan-out over nothing; or everything else of a run that was stopped
    "failed": "failed",
    "upstream_failed": "interrupted",
    "removed": "interrupted",
    "running": "running",
    "restarting": "running",
    "deferred": "running",
}
_RANK: tuple[Status, ...] = ("failed", "running", "queued", "interrupted", "finished")
_log = logging.getLogger(__name__)


class AirflowEngine:
    """Runs on the workers of an Airflow, as processes of theirs; or as containers or pods."""

    abilities = Abilities(
        retries="engine",
        timeout="task",
        fan_out="engine",
        cpu=Cannot(
            because="starts a process on a worker, which takes what it wants",
            instead="take cpu= out, or have a task be a container: [airflow] tasks",
        ),
        memory=Cannot(
            because="starts a process on a worker, which takes what it wants",
            instead="take memory= out, or have a task be a container: [airflow] tasks",
        ),
        gpu=Cannot(
            because="starts a process on a worker, which takes what it wants",
            instead="take gpu= out, or have a task be a container: [airflow] tasks",
        ),
        schedule="engine",
        params="engine",
        look_s=1.5,  # each costs the API server two queries
    )

    def __init__(self, project: Project) -> None:
        self._project, self._settings = project, project.airflow
        self._api = AirflowApi(project)
        if self._settings.tasks != "process":
            self.abilities = replace(self.abilities, cpu="engine", memory="engine", gpu="engine")

    def compile(self, plan: Plan) -> dict[str, str]:
        check(plan, "airflow", self.abilities)
        dag = dag_id(plan, self._settings)
        texts = {f"dags/{dag}.py": text_of(plan, self._project)}
        if self._settings.loop is not None and plan.shape == plan.usual_shape:
            texts[f"dags/{dag}-loop.py"] = loop_text(plan, self._project, f"{dag}-loop")
        return texts

    def submit(self, plan: Plan, run: str) -> Handle:
        (text, *loops) = self.compile(plan).values()
        dag = dag_id(plan, self._settings)
        file = f"{dag}.py"
        before = self._import_error(file)  # first, as nothing is written where nobody answers
        wanted = self._placed(plan, file, stamped(text))
        for beside in loops:
            self._place_loop(f"{dag}-loop.py", stamped(beside))
        self._wait_until_read(plan, dag, file, wanted, before)
        if self._api.get(f"dags/{part(dag)}")["is_paused"]:
            self._api.ask("PATCH", f"dags/{part(dag)}", {"is_paused": False})
            _log.warning("the DAG %s was paused in Airflow, and is no more", dag)
        made: Json = {"dag_run_id": run, "logical_date": None, "conf": plan.graph.params}
        try:
            self._api.ask("POST", f"dags/{part(dag)}/dagRuns", made)
        except Conflict:
            _log.info("Airflow has run %s already", run)
        return {"dag": dag, "run": run}

    def state(self, handle: Handle) -> EngineState:
        run = self._api.get(_path(handle))
        status: Status = _STATES.get(run["state"], "queued")
        url = f"{self._api.url}/dags/{part(handle['dag'])}/runs/{part(handle['run'])}"
        if status == "queued":
            return EngineState(status=status, url=url)
        instances = list(self._instances(handle))
        last = next((one["state"] for one in instances if one["task_id"] == FINISH), None)
        because = None
        if status == "failed" and last not in ("failed", "success"):
            status = "interrupted"  # the last task runs whatever happens, unless somebody says no
        elif status == "failed":
            because = self._because(handle, instances)
        return EngineState(status=status, tasks=_tasks(instances), url=url, because=because)

    def log(self, handle: Handle, task: str) -> str:
        lines = []
        for instance in self._instances(handle):
            if instance["task_id"] != task:
                continue
            for attempt in range(1, int(instance["try_number"]) + 1):
                lines += self._lines(handle, instance, attempt)
        return "\n".join(lines)

    def cancel(self, handle: Handle) -> None:
        if self._api.get(_path(handle))["state"] in ("queued", "running"):
            self._api.ask("PATCH", _path(handle), {"state": "failed"})

    def _because(self, handle: Handle, instances: Iterable[Json]) -> str:
        """Return which task failed first, and the last of what it said."""
        failed = [one for one in instances if one["state"] == "failed"]
        if not failed:
            return "airflow says that it failed"
        first = min(failed, key=lambda one: str(one["end_date"]))
        said = self._lines(handle, first, int(first["try_number"]))
        last = next((line for line in reversed(said) if "error" in line.lower()), "")
        return f"task {first['task_id']} failed{f': {last.strip()}' if last else ''}"

    def _instances(self, handle: Handle) -> Iterable[Json]:
        return self._api.pages(f"{_path(handle)}/taskInstances", "task_instances", {})

    def _lines(self, handle: Handle, instance: Json, attempt: int) -> list[str]:
        """Return what one attempt at a task has said."""
        path = f"{_path(handle)}/taskInstances/{part(instance['task_id'])}/logs/{attempt}"
        query = {"map_index": instance["map_index"], "full_content": "true"}
        try:
            content = self._api.get(path, query)["content"]
        except NotFound:
            return []
        return [line if isinstance(line, str) else str(line.get("event", "")) for line in content]

    def _placed(self, plan: Plan, file: str, text: str) -> str | None:
        """Write the DAG to its bundle; return the text that Airflow has to have read then.

        Raises:
            ProjectError: a person has changed the file, and it has tasks for other steps.
        """
        if self._settings.dags is None:
            return None
        path = Path(self._settings.dags) / file
        there = path.read_text(encoding="utf-8") if path.exists() else None
        if there is None or is_ours(there):
            write(path.parent, {file: text}, force=False)
            return text
        if plan.shape not in there:
            raise ProjectError(
                "somebody has changed it, and it has tasks for other steps than the pipeline",
                where=str(path),
                fix=f"delete it, or: charkha render airflow -o {path.parent.parent} --force",
            )
        return there  # with pools, callbacks or whatever else somebody wants

    def _place_loop(self, file: str, text: str) -> None:
        """Write the loop's DAG beside the pipeline's, unless a person has changed it."""
        folder = self._settings.dags
        there = Path(folder) / file if folder is not None else None
        if there and (not there.exists() or is_ours(there.read_text(encoding="utf-8"))):
            write(there.parent, {file: text}, force=False)

    def _wait_until_read(
        self, plan: Plan, dag: str, file: str, wanted: str | None, before: Json | None
    ) -> None:
        """Wait until Airflow has read the DAG as it is now.

        Raises:
            UserError: it cannot read the file.
            BackendError: it has no such DAG, or has one of other steps.
            Unavailable: it has not read it for too long.
        """
        began, said = time.monotonic(), False
        while True:
            source = self._source(dag)
            if source is not None and (source == wanted or (not wanted and plan.shape in source)):
                return
            if wanted is None:
                raise _not_there(dag, source)
            error = self._import_error(file)
            if error is not None and error != before:
                raise UserError(
                    f"Airflow cannot import {file}: {_last(error['stack_trace'])}",
                    fix=f"mend the file: {self._settings.dags}/{file}",
                )
            waited = time.monotonic() - began
            if waited > self._settings.patience_s:
                raise Unavailable(
                    f"Airflow has not read {file} in {waited:.0f} s",
                    fix=f"see that {self._settings.dags} is the folder of one of its DAG bundles, and that "
                    "its dag-processor runs; or wait longer: [airflow] patience_s",
                )
            if waited > _SAID_AFTER_S and not said:
                said = True
                _log.warning("waiting until Airflow has read %s, as often as it looks", file)
            time.sleep(_POLL_S)

    def _source(self, dag: str) -> str | None:
        """Return the text from which Airflow has made its newest version of a DAG."""
        try:
            return str(self._api.get(f"dagSources/{part(dag)}")["content"])
        except NotFound:
            return None

    def _import_error(self, file: str) -> Json | None:
        errors = self._api.pages("importErrors", "import_errors", {"order_by": "-timestamp"})
        return next((one for one in errors if Path(one["filename"]).name == file), None)


def _path(handle: Mapping[str, str]) -> str:
    return f"dags/{part(handle['dag'])}/dagRuns/{part(handle['run'])}"


def _tasks(instances: Iterable[Json]) -> dict[str, Status]:
    """Return the state of each task of the plan; of a fan-out the one that matters most."""
    found: dict[str, Status] = {}
    for instance in instances:
        name = instance["task_id"]
        if name in (START, FINISH) or name.endswith(f".{ELEMENTS}"):
            continue
        status = _STATES.get(instance["state"], "queued")
        found[name] = min(found.get(name, status), status, key=_RANK.index)
    return found


def _not_there(dag: str, source: str | None) -> BackendError:
    what = "has no DAG" if source is None else "has other steps than the pipeline in its DAG"
    return BackendError(
        f"Airflow {what} {dag}",
        fix="set [airflow] dags to the folder of one of its DAG bundles; or bring it there yourself: "
        "charkha render airflow -o DIR writes DIR/dags",
    )


def _last(trace: str) -> str:
    return next((line.strip() for line in reversed(trace.splitlines()) if line.strip()), "?")


if TYPE_CHECKING:

    def _fits(project: Project) -> Engine:
        _engine: Engine = AirflowEngine(project)
        return _engine
