"""A plan as a pipeline of Kubeflow: its IR in YAML, a container for each task; here or on a server."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from charkha.errors import MissingExtra, ProjectError
from charkha.pipeline.engines import processes
from charkha.pipeline.engines.kubeflow_ir import document
from charkha.pipeline.engines.port import EngineState, Handle
from charkha.pipeline.plans import Abilities, Cannot, Plan, check

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.project import Project

FILE = "kubeflow.yaml"


class KubeflowEngine:
    """Runs on the Kubeflow of `[kubeflow] host`; without one on this machine, by `kfp.local`."""

    abilities = Abilities(
        retries="engine",
        timeout="task",
        fan_out="engine",
        cpu="engine",
        memory="engine",
        gpu="engine",
        schedule=Cannot(
            because="keeps schedules beside its pipelines",
            instead="take it out, and make a recurring run of the rendered file in Kubeflow",
        ),
        params="engine",
    )

    def __init__(self, project: Project) -> None:
        self._project = project
        if project.kubeflow.host is not None:
            self.abilities = replace(self.abilities, look_s=1.5)

    def compile(self, plan: Plan) -> dict[str, str]:
        image = self._project.kubeflow.image
        if image is None:
            raise ProjectError(
                "Kubeflow has to be told which image holds the project, with Charkha in it",
                where="charkha.toml",
                fix='[kubeflow] image = "registry.example.org/houses:1"',
            )
        return {FILE: self._text(plan, image)}

    def submit(self, plan: Plan, run: str) -> Handle:
        folder = self._project.state / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        if self._project.kubeflow.host is not None:
            file.write_text(self.compile(plan)[FILE])
            handle: Handle = _kfp("server").submit(self._project, file, run)
            return handle
        _kfp("local")
        file.write_text(self._text(plan, "python"))  # kfp.local starts no container
        command = [sys.executable, "-m", f"{__package__}.kubeflow_local", str(file), run]
        return processes.start(command, folder, cwd=self._project.root)

    def state(self, handle: Handle) -> EngineState:
        if "folder" in handle:
            return processes.state(handle)
        state: EngineState = _kfp("server").state(self._project, handle)
        return state

    def log(self, handle: Handle, task: str) -> str:
        return processes.log(handle) if "folder" in handle else ""

    def cancel(self, handle: Handle) -> None:
        if "folder" in handle:
            processes.cancel(handle)
        else:
            _kfp("server").cancel(self._project, handle)

    def _text(self, plan: Plan, image: str) -> str:
        check(plan, "kubeflow", self.abilities)
        return document(plan, image, self._project.kubeflow)


def _kfp(part: str) -> Any:
    """Return the module that talks to Kubeflow's library, which takes seconds to import."""
    try:
        return import_module(f"{__package__}.kubeflow_{part}")
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("charkha"):
            raise
        raise MissingExtra("kubeflow", "kubeflow") from e


if TYPE_CHECKING:

    def _fits(project: Project) -> None:
        _: Engine = KubeflowEngine(project)
