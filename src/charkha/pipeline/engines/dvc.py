"""A plan as stages in `dvc.yaml`, each step's outputs as files that DVC keeps; `dvc repro` runs it.

The files are the truth: a clone that has pulled them needs none of Charkha's blobs. What DVC can see
of a step (files of its code, data, parameters, the folders of the steps before) decides whether it
starts the stage; there Charkha looks closer, and may find that the step has not changed at all.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from charkha.errors import MissingExtra, UserError
from charkha.pipeline.code import closure
from charkha.pipeline.engines import processes
from charkha.pipeline.engines.port import EngineState, Handle
from charkha.pipeline.modules import Sources
from charkha.pipeline.outputs import folder_name, numbered
from charkha.pipeline.plans import Abilities, Cannot, Plan, Task, check
from charkha.pipeline.reach import reached
from charkha.pipeline.reproducing import Current, Reproduction
from charkha.pipeline.run import load_pipeline
from charkha.pipeline.steps import functions
from charkha.pipeline.units import leaves, revive
from charkha.stamps import is_ours, stamped, write

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.pipeline.graph import Node
    from charkha.pipeline.plans import Parameter
    from charkha.project import Project

STAGES, PARAMS = "dvc.yaml", "params.yaml"
LAST = "finish"  # the stage that ends the run
_HEAD = """\
# {title}
# Written by `charkha render dvc`, which leaves it alone once somebody has changed it. sha256:
"""
_RUNNING = re.compile(r"^Running stage '([^']+)':$", re.MULTILINE)


class DvcEngine:
    """Runs on the machine on which `dvc repro` is typed, a stage after another."""

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
        check(plan, "dvc", self.abilities)
        stages = _Stages(plan, self._project).all()
        title = f"Pipeline {plan.pipeline} of {plan.project}: `dvc repro` runs what has changed."
        texts = {STAGES: _HEAD.format(title=title) + _as_yaml({"stages": stages})}
        if plan.parameters:
            title = "What the stages of dvc.yaml take; standing values belong into charkha.toml."
            values = {parameter.name: _plain(parameter) for parameter in plan.parameters}
            texts[PARAMS] = _HEAD.format(title=title) + _as_yaml(values)
        return texts

    def submit(self, plan: Plan, run: str) -> Handle:
        self._check_repository()
        self._write(plan)
        params = PARAMS if plan.parameters else None
        made = Reproduction(self._project, self._project.dvc.outputs, params)
        for step in made.stale():
            made.drop(step)
        Current(run=run, driven=True).write(self._project)
        folder = self._project.state / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "engine.sh").write_text(self._script(plan, run, folder / "engine.log"))
        return processes.start(
            ["sh", str(folder / "engine.sh")],
            folder,
            cwd=self._project.root,
            environment={"DVC_NO_ANALYTICS": "1"},  # neither does Charkha tell anybody
        )

    def state(self, handle: Handle) -> EngineState:
        if "folder" in handle:
            return processes.state(handle)
        try:
            os.killpg(int(handle["group"]), 0)
        except (ProcessLookupError, PermissionError):  # gone, or its number is somebody else's now
            return EngineState(status="interrupted", because="`dvc repro` left stages for later")
        return EngineState(status="running")

    def log(self, handle: Handle, task: str) -> str:
        if "folder" not in handle:
            return ""
        before, *parts = _RUNNING.split(processes.log(handle))
        said = dict(zip(parts[::2], parts[1::2], strict=True))
        return said.get(folder_name(task), "" if parts else before)

    def cancel(self, handle: Handle) -> None:
        if "folder" not in handle:
            raise UserError("it runs where `dvc repro` was typed", fix="press Ctrl-C there")
        processes.cancel(handle)

    def _check_repository(self) -> None:
        if find_spec("dvc") is None:
            raise MissingExtra("DVC", "dvc")
        root = self._project.root
        if not any((folder / ".dvc").is_dir() for folder in (root, *root.parents)):
            raise UserError(
                f"{root} has no DVC repository", fix="dvc init; where there is no git: --no-scm"
            )

    def _write(self, plan: Plan) -> None:
        """Write what DVC reads; stages that a person has changed are left as they are."""
        texts = {name: stamped(text) for name, text in self.compile(plan).items()}
        file = self._project.root / STAGES
        if file.exists() and not is_ours(file.read_text(encoding="utf-8")):
            del texts[STAGES]
        try:
            write(self._project.root, texts, force=False)
        except UserError as e:
            raise UserError(
                f"somebody has changed {PARAMS}, and this run has other parameters",
                fix="`dvc repro` runs with those; `charkha render dvc --force` writes it again",
            ) from e

    def _script(self, plan: Plan, run: str, log: Path) -> str:
        finish = plan.command("step", "finish", "--run", run)
        place = _place(plan, self._project)
        return "\n".join(
            [
                "#!/bin/sh",
                f"# Run {run} of {plan.pipeline}, by DVC.",
                f"{shlex.quote(sys.executable)} -m dvc repro {_last(plan)}",
                "code=$?",
                f"[ $code = 0 ] && exec {shlex.join([*finish, *place])}",
                f"why=$(sed -n 's/^ERROR: //p' {shlex.quote(str(log))} | tail -n 1)",
                f'{shlex.join(finish)} --because "dvc: ${{why:-it ended with $code}}"',
                "exit $code",
                "",
            ]
        )


class _Stages:
    """The stages of one plan."""

    def __init__(self, plan: Plan, project: Project) -> None:
        self._plan, self._project = plan, project
        self._pipeline = load_pipeline(project)
        self._sources = Sources(str(project.root))
        self._outputs = Path(os.path.relpath(project.dvc.outputs, project.root))
        self._params = reached(self._pipeline, plan.graph)
        self._seen: dict[str, set[str]] = {}  # function of a step -> files of its code
        own = inspect.getsourcefile(self._pipeline.function)
        self._wiring = {own} if own and self._sources.is_ours(own) else set()

    def all(self) -> dict[str, dict[str, Any]]:
        """Return every stage by its name."""
        made = {folder_name(name): self._stage(task) for name, task in self._plan.tasks.items()}
        made[_last(self._plan)] = {
            "desc": "Tell of the whole run, and have its model registered",
            "cmd": shlex.join([*self._plan.command("step", "finish"), *self._place()]),
            "deps": sorted(f"{self._folder(step)}.made" for step in self._plan.graph.nodes),
            **self._always(tuple(self._plan.graph.nodes)),
        }
        return made

    def _stage(self, task: Task) -> dict[str, Any]:
        steps = [word for step in task.steps for word in ("--step", step)]
        inner = {self._folder(step) for step in task.steps}
        deps = {dep for step in task.steps for dep in self._deps(self._plan.graph.nodes[step])}
        params = sorted({name for step in task.steps for name in self._params[step]})
        metrics = [step for step in task.steps if self._has_metrics(step)]
        folders = [f"{self._folder(step)}{kind}" for step in task.steps for kind in ("", ".made")]
        stage: dict[str, Any] = {}
        if described := self._described(task):
            stage["desc"] = described
        stage["cmd"] = shlex.join([*self._plan.command("step", "run", *steps), *self._place()])
        stage["deps"] = sorted(deps - inner)
        if params:
            stage["params"] = params
        stage["outs"] = [{folder: {"persist": True}} for folder in folders]
        if metrics:
            stage["metrics"] = [
                {f"{self._folder(step)}.metrics.json": {"cache": False}} for step in metrics
            ]
        return {**stage, **self._always(task.steps)}

    def _deps(self, node: Node) -> Iterator[str]:
        """Yield what DVC can see of what a step depends on, relative to the project."""
        for file in {*self._code(node.function), *self._wiring}:
            yield self._relative(Path(file))
        for need in node.needs():
            yield self._folder(need)
        for binding in (*node.arguments.values(), *node.each.values()):
            for _, leaf in leaves("", binding):
                if "source" in leaf:
                    yield from self._files(leaf)

    def _files(self, described: Mapping[str, object]) -> Iterator[str]:
        source = revive(described, self._project)
        path = getattr(source, "path", None)
        if isinstance(path, Path):
            yield self._relative(path)
        if getattr(source, "checked", False):
            yield self._relative(source.checks_file)  # type: ignore[attr-defined]

    def _code(self, function: str) -> set[str]:
        if function not in self._seen:
            found = closure(functions[function], self._sources).files
            self._seen[function] = {file for file in found if self._sources.is_ours(file)}
        return self._seen[function]

    def _has_metrics(self, step: str) -> bool:
        node = self._plan.graph.nodes[step]
        return bool(numbered(node, functions.get(node.function)))

    def _described(self, task: Task) -> str:
        """Return the first line of what the step's docstring says, where it is one step."""
        if len(task.steps) > 1:
            return f"Steps {', '.join(task.steps)}"
        text = functions[self._plan.graph.nodes[task.steps[0]].function].__doc__ or ""
        first = next(iter(text.strip().splitlines()), "")
        return first.rstrip(".").replace("${", "\\${")  # which DVC would fill in

    def _always(self, steps: tuple[str, ...]) -> dict[str, bool]:
        uncached = any(not self._plan.graph.nodes[step].options.cache for step in steps)
        return {"always_changed": True} if uncached else {}

    def _folder(self, step: str) -> str:
        return (self._outputs / folder_name(step)).as_posix()

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._project.root)).as_posix()

    def _place(self) -> list[str]:
        return _place(self._plan, self._project)


def _place(plan: Plan, project: Project) -> list[str]:
    """Return the options that say where a stage finds its inputs and its parameters."""
    folder = Path(os.path.relpath(project.dvc.outputs, project.root)).as_posix()
    return ["--outputs", folder, *(["--params", PARAMS] if plan.parameters else [])]


def _last(plan: Plan) -> str:
    return LAST if LAST not in plan.tasks else f"charkha-{LAST}"


def _plain(parameter: Parameter) -> object:
    value = parameter.value
    return list(value) if isinstance(value, tuple) else value


def _as_yaml(data: Mapping[str, object]) -> str:
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)
    return text


if TYPE_CHECKING:

    def _fits(project: Project) -> Engine:
        _engine: Engine = DvcEngine(project)
        return _engine
