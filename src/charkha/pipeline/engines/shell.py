"""A plan as one shell script, its tasks one after another: for cron, a CI job or a batch queue."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from charkha.pipeline.engines import processes
from charkha.pipeline.engines.port import EngineState, Handle
from charkha.pipeline.plans import Abilities, Cannot, Plan, check

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.project import Project

_HEAD = """\
#!/bin/sh
# {title}, a task after another.
# Written by `charkha render shell`, which leaves it alone once somebody has changed it. sha256:
# usage: sh {file} [RUN [--param NAME=VALUE]...], in the project's folder
run=${{1:-$(date -u +%Y%m%d-%H%M%S)-$$}}
[ $# -gt 0 ] && shift
"""


class ShellEngine:
    """Runs on the machine on which the script is started."""

    abilities = Abilities(
        retries="task",
        timeout="task",
        fan_out="task",
        cpu=Cannot(because="holds nobody to it", instead="take cpu= out, or use another engine"),
        memory=Cannot(because="holds nobody to it", instead="take memory= out, or use another one"),
        gpu=Cannot(because="hands out none", instead="take gpu= out, or use another engine"),
        schedule=Cannot(
            because="has no scheduler", instead="write a line for cron, or use airflow"
        ),
        params="engine",
    )

    def __init__(self, project: Project) -> None:
        self._project = project

    def compile(self, plan: Plan) -> dict[str, str]:
        check(plan, "shell", self.abilities)
        file = f"{plan.pipeline}.sh"
        start = plan.command("step", "start", "--run", "$run", "--engine", "shell")
        steps = [
            plan.command("step", "run", "--run", "$run", *_steps(task.steps))
            for task in plan.tasks.values()
        ]
        finish = plan.command("step", "finish", "--run", "$run")
        lines = [
            f'{_line(start)} --shape {plan.shape} "$@" || exit',
            " &&\n".join(map(_line, steps)),
            f"{_line(finish)}  # its exit code is the run's",
        ]
        title = f"Pipeline {plan.pipeline} of {plan.project}"
        return {file: _HEAD.format(title=title, file=file) + "\n".join(lines) + "\n"}

    def submit(self, plan: Plan, run: str) -> Handle:
        folder = self._project.state / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "engine.sh"
        script.write_text(next(iter(self.compile(plan).values())))
        command = ["sh", str(script), run]
        return processes.start(command, folder, cwd=self._project.root)

    def state(self, handle: Handle) -> EngineState:
        return processes.state(handle)

    def log(self, handle: Handle, task: str) -> str:
        return processes.log(handle)

    def cancel(self, handle: Handle) -> None:
        processes.cancel(handle)


def _steps(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--step", name)]


def _line(words: list[str]) -> str:
    return " ".join('"$run"' if word == "$run" else shlex.quote(word) for word in words)


if TYPE_CHECKING:

    def _fits(project: Project) -> None:
        _: Engine = ShellEngine(project)
