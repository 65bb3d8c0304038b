"""A plan as the definition of a SageMaker pipeline (JSON, 2020-12-01): a job for each task.

What stands in a step's Arguments is the request of `CreateProcessingJob` or `CreateTrainingJob`
without the job's name, which SageMaker gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from charkha.definition import nearest
from charkha.errors import ProjectError
from charkha.pipeline.engines.sagemaker_machines import machine_for

if TYPE_CHECKING:
    from charkha.pipeline.plans import Parameter, Plan, Task
    from charkha.project import Project

RUN = (
    "charkha_run"  # the parameter that says which run of ours it is; SageMaker's own id without it
)
NOBODY = "-"  # its value then, for a job takes no empty words
_HEAD = (
    "Written by `charkha render sagemaker`, which leaves it alone once somebody has changed it. "
    "sha256:"
)
_LONGEST = 256  # letters of a word of a job's command
_WORDS = 100  # of a command
_NAME = 82  # letters of a pipeline's; its API says 256, and its parser does not (python-sdk#2933)
_GRACE_S = 300  # after the time that Charkha gives a task, until SageMaker ends its job
_NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"
# A step whose code raises is no affair of SageMaker's policies: Charkha repeats it, in its task.
_RETRIES: list[dict[str, object]] = [
    {
        "ExceptionType": ["Step.SERVICE_FAULT", "Step.THROTTLING", "SageMaker.JOB_INTERNAL_ERROR"],
        "IntervalSeconds": 10,
        "BackoffRate": 2.0,
        "MaxAttempts": 4,
    },
    {
        "ExceptionType": ["SageMaker.CAPACITY_ERROR", "SageMaker.RESOURCE_LIMIT"],
        "IntervalSeconds": 60,
        "BackoffRate": 1.5,
        "ExpireAfterMin": 180,
    },
]
_REGISTERS = "charkha.models.register:judge"  # the step after which a model has a version
Json = dict[str, Any]


def pipeline_name(plan: Plan, project: Project) -> str:
    """Return the name of a plan's pipeline; one for parameters that give other steps is another."""
    words = (plan.project, plan.pipeline, plan.environment)
    named = project.sagemaker.pipeline or "-".join(_plain(w) for w in words if w != "local")
    named = named[: _NAME - len(plan.shape) - 1].strip("-")
    return named if plan.shape == plan.usual_shape else f"{named}-{plan.shape}"


def text_of(plan: Plan, project: Project) -> str:
    """Return the text of a plan's definition.

    Raises:
        ProjectError: something is not set, or a task cannot be a job.
    """
    return json.dumps(_Definition(plan, project).all(), indent=2, ensure_ascii=False) + "\n"


def offered(plan: Plan) -> list[Parameter]:
    """Return the parameters that SageMaker has a field for; another one keeps its value.

    Raises:
        ProjectError: one has another value than the project's, and SageMaker could not carry it.
    """
    found = [one for one in plan.parameters if _fits(one, one.default) and _fits(one, one.value)]
    for one in plan.parameters:
        if one not in found and one.value != one.default:
            raise ProjectError(
                f"SageMaker carries no value that is longer than {_LONGEST} letters",
                where=f"parameter {one.name!r}",
                fix=f"set it under [pipeline.params], in the image, or give {one.name} a file",
            )
    return found


class _Definition:
    def __init__(self, plan: Plan, project: Project) -> None:
        self._plan, self._project, self._settings = plan, project, project.sagemaker
        self._check()
        self._names: dict[str, str] = {}  # of a task -> as SageMaker allows them
        for name in plan.tasks:
            self._names[name] = _free(_plain(name)[:60], self._names.values())
        needed = {need for task in plan.tasks.values() for need in task.needs}
        self._last = [name for name in plan.tasks if name not in needed]

    def all(self) -> Json:
        """Return the whole definition."""
        steps = [self._step(task) for task in self._plan.tasks.values()]
        if len(self._last) > 1:
            steps.append(self._finish())
        about = f"Pipeline {self._plan.pipeline} of {self._plan.project}, a job for each task."
        return {
            "Version": "2020-12-01",
            "Metadata": {"about": about, "charkha": _HEAD},
            "Parameters": [
                {"Name": RUN, "Type": "String", "DefaultValue": NOBODY},
                *({"Name": one.name, **_typed(one)} for one in offered(self._plan)),
            ],
            "Steps": steps,
        }

    def _check(self) -> None:
        for what, example in (("image", _IMAGE), ("role", _ROLE)):
            if getattr(self._settings, what) is None:
                raise ProjectError(
                    f"SageMaker has to be told which {what} its jobs have",
                    where="charkha.toml",
                    fix=f'[sagemaker] {what} = "{example}"',
                )
        if not self._project.blobs.url.startswith("s3://"):
            raise ProjectError(
                "jobs of SageMaker share no folder, so their results have to be in a bucket",
                where="charkha.toml",
                fix='[blobs] url = "s3://bucket/blobs"',
            )
        for name in (*self._settings.training, *self._settings.instances):
            if name not in self._plan.tasks and name != "*":
                meant = nearest(name, self._plan.tasks)
                raise ProjectError(
                    f"the pipeline has no task {name!r}",
                    where="[sagemaker]",
                    fix=f"did you mean {meant!r}?" if meant else "name a step, or a group=",
                )
        self._check_tracking()

    def _check_tracking(self) -> None:
        """Refuse to register a model in a file that is lost with the machine of the job."""
        for name, node in self._plan.graph.nodes.items():
            uri = self._project.tracking.uri
            if node.function == _REGISTERS and uri.startswith("sqlite:"):
                raise ProjectError(
                    f"registers a model in {uri}, a file that no other machine than the job's sees",
                    where=f"step {name!r}",
                    fix='[tracking] uri = "https://mlflow.example.org"',
                )

    def _step(self, task: Task) -> Json:
        trains = bool({task.name, "*"} & set(self._settings.training))
        words = ["step", "run", *_RUN_WORDS]
        words += [f"--step={step}" for step in task.steps]
        if not task.needs:
            words += self._begins()
        words += ["--end", "always" if self._last == [task.name] else "failed"]
        if trains and self._settings.metrics:
            words.append("--metrics")
        command = [*self._plan.command(), *words]
        _check_words(task.name, command)
        made = self._training if trains else self._processing
        step = {"Name": self._names[task.name], "Type": "Training" if trains else "Processing"}
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", task.name):
            step["DisplayName"] = task.name
        after = {"DependsOn": [self._names[need] for need in task.needs]} if task.needs else {}
        return {**step, **after, "RetryPolicies": _RETRIES, "Arguments": made(task, command)}

    def _begins(self) -> list[Any]:
        words: list[Any] = ["--begin", "--engine", "sagemaker", "--shape", self._plan.shape]
        for one in offered(self._plan):
            value = {"Get": f"Parameters.{one.name}"}
            words += ["--param", {"Std:Join": {"On": "=", "Values": [one.name, value]}}]
        return words

    def _finish(self) -> Json:
        """Return the job that ends a run of which no task is the last."""
        command = [*self._plan.command(), "step", "finish", *_RUN_WORDS]
        arguments = self._around(command, self._settings.instance, self._settings.most_s)
        return {
            "Name": "finish",
            "Type": "Processing",
            "DependsOn": [self._names[name] for name in self._last],
            "RetryPolicies": _RETRIES,
            "Arguments": arguments,
        }

    def _processing(self, task: Task, command: list[Any]) -> Json:
        return self._around(command, self._machine(task), self._most_s(task))

    def _around(self, command: list[Any], machine: str, most_s: int) -> Json:
        cluster = {"InstanceType": machine, "InstanceCount": 1}
        made: Json = {
            "AppSpecification": {
                "ImageUri": self._settings.image,
                "ContainerEntrypoint": command[:1],
                "ContainerArguments": command[1:],
            },
            "ProcessingResources": {
                "ClusterConfig": {**cluster, "VolumeSizeInGB": self._settings.volume_gb}
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": most_s},
        }
        if network := self._network():
            made["NetworkConfig"] = {"VpcConfig": network}
        return made | self._beside()

    def _training(self, task: Task, command: list[Any]) -> Json:
        settings, most_s = self._settings, self._most_s(task)
        resources: Json = {"InstanceType": self._machine(task), "InstanceCount": 1}
        resources["VolumeSizeInGB"] = settings.volume_gb
        if settings.warm_pool_s:
            resources["KeepAlivePeriodInSeconds"] = settings.warm_pool_s
        algorithm: Json = {
            "TrainingImage": settings.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": command[:1],
            "ContainerArguments": command[1:],
        }
        if settings.metrics:
            algorithm["MetricDefinitions"] = [
                {"Name": name, "Regex": f"metric {re.escape(name)}={_NUMBER}"}
                for name in settings.metrics
            ]
        made: Json = {
            "AlgorithmSpecification": algorithm,
            "OutputDataConfig": {"S3OutputPath": f"{self._project.blobs.url}/sagemaker"},
            "ResourceConfig": resources,
            "StoppingCondition": {"MaxRuntimeInSeconds": most_s},
        }
        if settings.spot:
            made["EnableManagedSpotTraining"] = True
            made["StoppingCondition"]["MaxWaitTimeInSeconds"] = most_s + settings.spot_wait_s
        if network := self._network():
            made["VpcConfig"] = network
        return made | self._beside()

    def _beside(self) -> Json:
        """Return what every job has."""
        made: Json = {"RoleArn": self._settings.role}
        if self._settings.variables:
            made["Environment"] = dict(self._settings.variables)
        if tags := tags_of(self._project):
            made["Tags"] = tags
        return made

    def _network(self) -> Json | None:
        if not self._settings.subnets:
            return None
        groups = list(self._settings.security_groups)
        return {"SecurityGroupIds": groups, "Subnets": list(self._settings.subnets)}

    def _machine(self, task: Task) -> str:
        given = self._settings.instances
        return str(given[task.name]) if task.name in given else machine_for(task, self._settings)

    def _most_s(self, task: Task) -> int:
        if task.timeout_s is None:
            return self._settings.most_s
        tries = (task.timeout_s + task.retry_wait_s) * (task.retries + 1)
        return min(round(tries) + _GRACE_S, 432_000)


def tags_of(project: Project) -> list[dict[str, str]]:
    """Return AWS's tags of the pipeline and its jobs."""
    given = project.sagemaker.tags
    return [{"Key": key, "Value": str(value)} for key, value in given.items()]


_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/houses:1"
_ROLE = "arn:aws:iam::123456789012:role/charkha"
_RUN_WORDS: tuple[Any, ...] = (  # the first that is somebody
    *("--run", {"Get": f"Parameters.{RUN}"}),
    *("--run", {"Get": "Execution.PipelineExecutionId"}),
)


def _fits(one: Parameter, value: object) -> bool:
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except TypeError:
        return False
    return (
        len(f"{one.name}={text}") + 2 <= _LONGEST and re.fullmatch(r"[\w-]+", one.name) is not None
    )


def _typed(one: Parameter) -> Json:
    """Return type and usual value; a number that SageMaker could write otherwise is text."""
    value = one.default
    match value:
        case bool():
            return {"Type": "Boolean", "DefaultValue": value}
        case int() if abs(value) < 2**31:
            return {"Type": "Integer", "DefaultValue": value}
        case float() if one.type == "float" and abs(value) < float("inf"):
            return {"Type": "Float", "DefaultValue": value}
    return {"Type": "String", "DefaultValue": replace(one, value=value).text}


def _check_words(task: str, command: Sequence[object]) -> None:
    longest = max((word for word in command if isinstance(word, str)), key=len)
    if len(command) - 1 > _WORDS or len(longest) > _LONGEST:
        what = f"a word of {len(longest)}" if len(longest) > _LONGEST else f"{len(command)} words"
        raise ProjectError(
            f"SageMaker starts a job with {_WORDS} words of {_LONGEST} letters, and its has {what}",
            where=f"task {task!r}",
            fix="make two groups of it, or give steps and parameters shorter names",
        )


def _plain(name: str) -> str:
    """Return a name as SageMaker allows it."""
    return re.sub("[^a-zA-Z0-9]+", "-", name).strip("-") or "step"


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name that nobody has: `finish` is our own job's."""
    used, number, free = {*taken, "finish"}, 1, name
    while free in used:
        number += 1
        free = f"{name}-{number}"
    return free
