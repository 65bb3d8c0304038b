"""A plan as a pipeline of Amazon SageMaker: each task a processing or a training job, data in S3."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from charkha.errors import MissingExtra
from charkha.pipeline.engines.port import ENDED, EngineState, Handle, Status
from charkha.pipeline.engines.sagemaker_definition import (
    RUN,
    offered,
    pipeline_name,
    tags_of,
    text_of,
)
from charkha.pipeline.plans import Abilities, Cannot, Plan, check
from charkha.stamps import stamped

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.pipeline.engines.sagemaker_api import SagemakerApi
    from charkha.project import Project

FILE = "sagemaker.json"
_STATES: dict[str, Status] = {
    "Starting": "queued",
    "Executing": "running",
    "Stopping": "running",
    "Stopped": "interrupted",
    "Failed": "failed",
    "CompletedWithFailures": "failed",
    "Succeeded": "finished",
}


class SagemakerEngine:
    """Runs on machines that SageMaker starts for each task, and ends after it."""

    abilities = Abilities(
        retries="task",
        timeout="task",
        fan_out="task",
        cpu="engine",
        memory="engine",
        gpu="engine",
        schedule=Cannot(
            because="keeps schedules beside its pipelines, in EventBridge",
            instead="take it out, and have EventBridge Scheduler start the pipeline",
        ),
        params="engine",
        look_s=1.5,  # AWS allows an account a few each second
    )

    def __init__(self, project: Project) -> None:
        self._project = project

    @cached_property
    def _api(self) -> SagemakerApi:
        try:
            module = import_module(f"{__package__}.sagemaker_api")  # late: to render needs no boto3
        except ModuleNotFoundError as e:
            if (e.name or "").startswith("charkha"):
                raise
            raise MissingExtra("sagemaker", "sagemaker") from e
        made: SagemakerApi = module.SagemakerApi(self._project)
        return made

    def compile(self, plan: Plan) -> dict[str, str]:
        check(plan, "sagemaker", self.abilities)
        return {FILE: text_of(plan, self._project)}

    def submit(self, plan: Plan, run: str) -> Handle:
        text = stamped(self.compile(plan)[FILE])
        name = pipeline_name(plan, self._project)
        about = json.loads(text)["Metadata"]["about"]
        version = self._api.put(name, _short(text), tags_of(self._project), about=about)
        changed = {p.name: p.text for p in offered(plan) if p.value != p.default}
        return {"arn": self._api.start(name, run, {RUN: run, **changed}, version)}

    def state(self, handle: Handle) -> EngineState:
        told = self._api.execution(handle["arn"])
        status = _STATES.get(told.get("PipelineExecutionStatus", ""), "queued")
        steps = self._api.steps(handle["arn"])
        because = told.get("FailureReason") if status == "failed" else None
        failed = [step for step in steps if step.get("StepStatus") == "Failed"]
        if status == "failed" and failed:
            first = min(failed, key=lambda step: str(step.get("EndTime")))
            reason = first.get("FailureReason", "").strip() or because or "no reason given"
            because = f"job {first.get('StepName')} failed: {reason}"
        return EngineState(status=status, tasks=_tasks(steps), because=because)

    def log(self, handle: Handle, task: str) -> str:
        lines: list[str] = []
        for step in self._api.steps(handle["arn"]):
            if task in (step.get("StepDisplayName"), step.get("StepName")) and (job := _job(step)):
                lines += self._api.lines(job)
        return "\n".join(lines)

    def cancel(self, handle: Handle) -> None:
        if self.state(handle).status not in ENDED:
            self._api.stop(handle["arn"])


def _tasks(steps: Iterable[Mapping[str, Any]]) -> dict[str, Status]:
    return {
        str(step.get("StepDisplayName") or step.get("StepName")): _STATES.get(
            str(step.get("StepStatus")), "queued"
        )
        for step in steps
    }


def _job(step: Mapping[str, Any]) -> str | None:
    """Return the ARN of a step's job; None where it has none yet."""
    for kind in ("ProcessingJob", "TrainingJob"):
        if arn := step.get("Metadata", {}).get(kind, {}).get("Arn"):
            return str(arn)
    return None


def _short(text: str) -> str:
    """Return the same definition without spaces: SageMaker counts letters."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


if TYPE_CHECKING:

    def _fits(project: Project) -> None:
        _: Engine = SagemakerEngine(project)
