"""A plan as tasks of a Ray cluster, a driver of this machine handing them out: wider than one machine."""

from __future__ import annotations

import re
import socket
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from charkha.errors import MissingExtra, Unavailable
from charkha.pipeline.engines import processes
from charkha.pipeline.engines.port import EngineState, Handle
from charkha.pipeline.engines.ray_driver import text_of
from charkha.pipeline.plans import Abilities, Cannot, Plan, check
from charkha.stamps import stamped

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.project import Project

_PATIENCE_S = 5.0


class RayEngine:
    """Runs on the Ray of `[ray] address`; without one on a Ray of this machine, for the run alone."""

    abilities = Abilities(
        retries="engine",
        timeout="task",
        fan_out="engine",
        cpu="engine",
        memory="engine",
        gpu="engine",
        schedule=Cannot(
            because="has no scheduler",
            instead="take it out, and have cron type `charkha run --on ray`; or use airflow",
        ),
        params="engine",
    )

    def __init__(self, project: Project) -> None:
        self._project = project

    def compile(self, plan: Plan) -> dict[str, str]:
        check(plan, "ray", self.abilities)
        file = f"{plan.pipeline}_ray.py"
        return {file: text_of(plan, self._project, file)}

    def submit(self, plan: Plan, run: str) -> Handle:
        [text] = self.compile(plan).values()
        if find_spec("ray") is None:
            raise MissingExtra("ray", "ray")
        _reach(self._project.ray.address)
        folder = self._project.state / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        driver = folder / "engine_ray.py"
        driver.write_text(stamped(text), encoding="utf-8")
        command = [sys.executable, str(driver), "--run", run, "--begun"]
        return processes.start(command, folder, cwd=self._project.root)

    def state(self, handle: Handle) -> EngineState:
        return processes.state(handle)

    def log(self, handle: Handle, task: str) -> str:
        """Return what Ray has handed on from a task's workers, or from those of its elements."""
        own = re.compile(rf"\({re.escape(task)}(\[\d+\])? pid=")
        lines = processes.log(handle).splitlines(keepends=True)
        return "".join(line for line in lines if own.match(line))

    def cancel(self, handle: Handle) -> None:
        processes.cancel(handle)


def _reach(address: str | None) -> None:
    """Check that somebody listens at an address, before a driver waits there for a minute.

    Raises:
        Unavailable: nobody does.
    """
    found = re.fullmatch(r"\[?(.+?)\]?:(\d+)", address or "")
    if found is None:
        return  # Ray finds it by itself
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE_S).close()
    except OSError as e:
        raise Unavailable(
            f"Ray at {address} does not answer: {e}",
            fix="start it: ray start --head; or correct [ray] address in charkha.toml",
        ) from e


if TYPE_CHECKING:

    def _fits(project: Project) -> None:
        _: Engine = RayEngine(project)
