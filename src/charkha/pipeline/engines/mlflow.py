"""A plan as an MLflow project, all of it in one process: for whoever has MLflow and nothing else."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import MissingExtra
from charkha.pipeline.engines import processes
from charkha.pipeline.engines.port import EngineState, Handle
from charkha.pipeline.plans import Abilities, Cannot, Plan, check
from charkha.pipeline.requirements import requirements

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.pipeline.plans import Parameter
    from charkha.project import Project, TrackingSettings

_HEAD = """\
# Pipeline {plan.pipeline} of {plan.project}, {what}.
# Written by `charkha render mlflow`, which leaves it alone once somebody has changed it. sha256:
"""
_TAKEN = ("yes", "no", "on", "off")  # for truth, by readers of YAML


class MlflowEngine:
    """Runs on the machine on which `mlflow run` is typed."""

    abilities = Abilities(
        retries="task",
        timeout="task",
        fan_out="task",
        cpu=Cannot(because="holds nobody to it", instead="take cpu= out, or use another engine"),
        memory=Cannot(because="holds nobody to it", instead="take memory= out, or use another one"),
        gpu=Cannot(because="hands out none", instead="take gpu= out, or use another engine"),
        schedule=Cannot(
            because="has no scheduler", instead="have cron type `mlflow run`, or use airflow"
        ),
        params="engine",
    )

    def __init__(self, project: Project) -> None:
        self._project = project

    def compile(self, plan: Plan) -> dict[str, str]:
        check(plan, "mlflow", self.abilities)
        example = next((f" -P {p.name}={p.text}" for p in _shown(plan)), "")
        lines = [
            _HEAD.format(plan=plan, what="as an MLflow project"),
            f"# usage: mlflow run . --env-manager uv{example}, in the project's folder\n",
            _project(plan, _command(plan)),
        ]
        return {"MLproject": "".join(lines), "python_env.yaml": self._environment(plan)}

    def submit(self, plan: Plan, run: str) -> Handle:
        check(plan, "mlflow", self.abilities)
        if find_spec("mlflow") is None:
            raise MissingExtra("mlflow", "mlflow")
        folder, tracking = self._project.state / "runs" / run, self._project.tracking
        (folder / "mlflow").mkdir(parents=True, exist_ok=True)
        root = shlex.quote(str(self._project.root)).replace("{", "{{").replace("}", "}}")
        text = _project(plan, f"cd {root} && {_command(plan, run)}")
        (folder / "mlflow" / "MLproject").write_text(text)
        module = "charkha.pipeline.engines.mlflow_process"
        return processes.start(
            [sys.executable, "-m", module, str(folder), tracking.experiment, _artifacts(tracking)],
            folder,
            cwd=self._project.root,
            environment={
                "MLFLOW_TRACKING_URI": tracking.uri,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # seven would hide for minutes that it is away
            },
        )

    def state(self, handle: Handle) -> EngineState:
        return processes.state(handle)

    def log(self, handle: Handle, task: str) -> str:
        return processes.log(handle)

    def cancel(self, handle: Handle) -> None:
        processes.cancel(handle)

    def _environment(self, plan: Plan) -> str:
        head = _HEAD.format(plan=plan, what="what it is known to work with")
        needed = "".join(f"  - {line}\n" for line in requirements(plan, self._project))
        return f'{head}python: "{platform.python_version()}"\ndependencies:\n{needed}'


def _project(plan: Plan, command: str) -> str:
    environment = "" if command.startswith("cd ") else "python_env: python_env.yaml\n"
    lines = [f"name: {json.dumps(plan.project)}\n", environment, "entry_points:\n", "  main:\n"]
    if shown := _shown(plan):
        lines.append("    parameters:\n")
    for one in shown:
        kind = "float" if one.type in ("int", "float") else "string"
        name = json.dumps(one.name) if one.name.lower() in _TAKEN else one.name
        default = one.text if kind == "float" else json.dumps(one.text, ensure_ascii=False)
        lines.append(f"      {name}: {{type: {kind}, default: {default}}}\n")
    return "".join([*lines, f"    command: {json.dumps(command, ensure_ascii=False)}\n"])


def _command(plan: Plan, run: str | None = None) -> str:
    """Return the one command, in which `{name}` is what MLflow puts a value for."""
    known = ("--run", run) if run else ()
    words = plan.command("step", "all", *known, "--engine", "mlflow")
    given = [f"--param {one.name}={{{one.name}}}" for one in _shown(plan)]
    return " ".join([shlex.join(words), *given])


def _shown(plan: Plan) -> list[Parameter]:
    """Return the parameters that a command line can give; another one keeps its value."""
    return [one for one in plan.parameters if _is_plain(one.value)]


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _artifacts(tracking: TrackingSettings) -> str:
    """Return where a new experiment keeps its files; "" where the server decides."""
    if "://" in tracking.artifacts:
        return tracking.artifacts
    if tracking.uri.startswith(("http://", "https://")):
        return ""
    return Path(tracking.artifacts).as_uri()


if TYPE_CHECKING:

    def _fits(project: Project) -> None:
        _: Engine = MlflowEngine(project)
