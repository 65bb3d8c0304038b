"""A plan as Kubeflow's intermediate representation (IR, pipeline_spec.proto), written as YAML.

It is what kfp's own compiler makes of the same pipeline; a test compares the two. Written here, it
needs no kfp to be rendered, steps of one kind share a component, and 500 of them take no second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import yaml

from charkha.errors import ProjectError

if TYPE_CHECKING:
    from charkha.engine_settings import KubeflowSettings
    from charkha.pipeline.plans import Plan, Task

RUN = "charkha_run"  # the parameter that says which run of ours it is; Kubeflow's own id without it
_HEAD = """\
# Pipeline {plan.pipeline} of {plan.project}, a container for each task.
# Written by `charkha render kubeflow`, which leaves it alone once somebody has changed it. sha256:
"""
_TYPES = {
    "int": "NUMBER_INTEGER",
    "float": "NUMBER_DOUBLE",
    "bool": "BOOLEAN",
    "str": "STRING",
    "list": "LIST",
    "dict": "STRUCT",
    "json": "STRING",
}
_CHANNEL = "pipelinechannel--"  # before the name of what comes from outside a group of tasks
_OUTPUT = "Output"  # the one name that kfp.local finds what a loop is over by
_JOB = "{{$.pipeline_job_uuid}}"
_REGISTERS = "charkha.models.register:judge"  # the step after which a model has a version
_COUNT = 'mkdir -p "$(dirname "$0")" && "$@" > "$0"'  # a word of Kubeflow's is a file of ours
Json = dict[str, Any]


def document(plan: Plan, image: str, settings: KubeflowSettings) -> str:
    """Return the text of the file that Kubeflow reads.

    Raises:
        ProjectError: a step asks for a part of a GPU.
    """
    made = _Document(plan, image, settings).spec()
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, where it was built
    text: str = yaml.dump(made, Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000)
    return _HEAD.format(plan=plan) + text


class _Document:
    def __init__(self, plan: Plan, image: str, settings: KubeflowSettings) -> None:
        self._plan, self._image, self._settings = plan, image, settings
        self._components: Json = {}
        self._executors: Json = {}
        self._names: dict[str, str] = {}  # of a task -> as Kubeflow allows them
        for name in plan.tasks:
            self._names[name] = _free(_plain(name), self._names.values())

    def spec(self) -> Json:
        """Return the whole pipeline."""
        plan = self._plan
        outer = {_CHANNEL + RUN: RUN, **{_CHANNEL + p.name: p.name for p in plan.parameters}}
        root = {
            "steps": {
                "taskInfo": {"name": "steps"},
                "componentRef": {"name": "comp-steps"},
                "inputs": _inputs(outer),
            },
            "finish": self._finish(),
        }
        self._components["comp-steps"] = {
            "inputDefinitions": {
                "parameters": {
                    _CHANNEL + name: {"parameterType": kind} for name, kind in self._types().items()
                }
            },
            "dag": {"tasks": self._tasks()},
        }
        return {
            "pipelineInfo": {"name": _plain(f"{plan.project}-{plan.pipeline}")},
            "root": {
                "inputDefinitions": {"parameters": self._parameters()},
                "dag": {"tasks": root},
            },
            "components": self._components,
            "deploymentSpec": {"executors": self._executors},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.3",
        }

    def _types(self) -> dict[str, str]:
        return {RUN: "STRING", **{p.name: _TYPES[p.type] for p in self._plan.parameters}}

    def _parameters(self) -> Json:
        given: Json = {
            RUN: {
                "parameterType": "STRING",
                "defaultValue": "",
                "isOptional": True,
                "description": "id of a run that Charkha has begun; Kubeflow's own without it",
            }
        }
        for one in self._plan.parameters:
            given[one.name] = {
                "parameterType": _TYPES[one.type],
                "defaultValue": one.text if one.type == "json" else one.value,
                "isOptional": True,
            }
        return given

    def _tasks(self) -> Json:
        tasks = {"start": self._start()}
        ends: dict[str, str] = {}  # of a task of ours: the one of Kubeflow's after which it is done
        for task in self._plan.tasks.values():
            name = self._names[task.name]
            after = [ends[need] for need in task.needs] or ["start"]
            if task.fan_out:
                tasks[f"count-{name}"] = self._count(task, after)
                tasks[f"each-{name}"] = self._each(task)
                ends[task.name] = f"each-{name}"
            else:
                component = self._component(task)
                tasks[name] = self._task(task.name, component, after, task, _words(task))
                ends[task.name] = name
        return tasks

    def _start(self) -> Json:
        plan = self._plan
        words = ["--engine", "kubeflow", "--shape", plan.shape]
        for one in plan.parameters:
            words += ["--param", f"{one.name}={_input(one.name)}"]
        types = {p.name: _TYPES[p.type] for p in plan.parameters}
        self._add("start", plan.command("step", "start", *_RUNS, *words), types)
        given = {p.name: {"componentInputParameter": _CHANNEL + p.name} for p in plan.parameters}
        return self._task("start", "start", [], None, given)

    def _finish(self) -> Json:
        types = {"status": "TASK_FINAL_STATUS"}  # by which Kubeflow knows an exit handler
        self._add(
            "finish", self._plan.command("step", "finish", *_RUNS, "--kubeflow", "{{$}}"), types
        )
        self._components["comp-finish"]["inputDefinitions"]["parameters"]["status"][
            "isOptional"
        ] = True
        functions = {node.function for node in self._plan.graph.nodes.values()}
        shown = ["Metrics", *(["Model"] if _REGISTERS in functions else [])]
        self._components["comp-finish"]["outputDefinitions"] = {
            "artifacts": {
                kind.lower(): {
                    "artifactType": {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
                }
                for kind in shown
            }
        }
        given = {"status": {"taskFinalStatus": {"producerTask": "steps"}}}
        made = self._task("finish", "finish", ["steps"], None, given)
        made["inputs"]["parameters"]["run"] = {"componentInputParameter": RUN}
        made["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
        return made

    def _count(self, task: Task, after: list[str]) -> Json:
        command = self._plan.command("step", "count", *_RUNS, "--step", _input("step"))
        words = ["sh", "-c", _COUNT, "{{$.outputs.parameters['Output'].output_file}}", *command]
        self._add("count", words, {"step": "STRING"}, outputs={_OUTPUT: "LIST"})
        return self._task(f"count {task.name}", "count", after, None, _words(task))

    def _each(self, task: Task) -> Json:
        name = self._names[task.name]
        items = f"{_CHANNEL}count-{name}-{_OUTPUT}"
        component = self._component(task)
        given = {**_words(task), "element": {"componentInputParameter": f"{items}-loop-item"}}
        types = {items: "LIST", f"{items}-loop-item": "NUMBER_INTEGER", _CHANNEL + RUN: "STRING"}
        self._components[f"comp-each-{name}"] = {
            "inputDefinitions": {"parameters": {n: {"parameterType": t} for n, t in types.items()}},
            "dag": {"tasks": {name: self._task(task.name, component, [], task, given)}},
        }
        made = {"outputParameterKey": _OUTPUT, "producerTask": f"count-{name}"}
        return {
            "taskInfo": {"name": f"each {task.name}"},
            "componentRef": {"name": f"comp-each-{name}"},
            "dependentTasks": [f"count-{name}"],
            "inputs": {
                "parameters": {
                    items: {"taskOutputParameter": made},
                    _CHANNEL + RUN: {"componentInputParameter": _CHANNEL + RUN},
                }
            },
            "parameterIterator": {
                "itemInput": f"{items}-loop-item",
                "items": {"inputParameter": items},
            },
        }

    def _component(self, task: Task) -> str:
        """Return the component of a task: one for all, its own where it asks for something."""
        asked = _resources(task, self._settings.accelerator)
        words = ["--attempt", "next"] if task.retries else []
        types = {"step": "STRING"}
        if task.fan_out:
            words += ["--element", _input("element")]
            types["element"] = "NUMBER_INTEGER"
        alone = len(task.steps) == 1
        steps = [_input("step")] if alone else list(task.steps)
        steps = [word for step in steps for word in ("--step", step)]
        kind = "element" if task.fan_out else "step"
        if task.retries:
            kind += "-repeated"
        if asked or not alone:
            kind = _free(f"task-{self._names[task.name]}", ())
        command = self._plan.command("step", "run", *_RUNS, *steps, *words)
        self._add(kind, command, types if alone else {}, resources=asked)
        return kind

    def _add(
        self,
        name: str,
        words: list[str],
        types: dict[str, str],
        *,
        outputs: dict[str, str] | None = None,
        resources: Json | None = None,
    ) -> None:
        taken = {"run": "STRING", "job": "STRING", **types}
        component: Json = {
            "inputDefinitions": {"parameters": {n: {"parameterType": t} for n, t in taken.items()}},
            "executorLabel": f"exec-{name}",
        }
        if outputs:
            made = {n: {"parameterType": t} for n, t in outputs.items()}
            component["outputDefinitions"] = {"parameters": made}
        self._components[f"comp-{name}"] = component
        container: Json = {"image": self._image, "command": words[:1], "args": words[1:]}
        if resources:
            container["resources"] = resources
        self._executors[f"exec-{name}"] = {"container": container}

    def _task(
        self, title: str, component: str, after: list[str], task: Task | None, given: Json
    ) -> Json:
        made: Json = {
            "taskInfo": {"name": title},
            "componentRef": {"name": f"comp-{component}"},
        }
        if after:
            made["dependentTasks"] = list(dict.fromkeys(after))
        made["inputs"] = {
            "parameters": {
                "run": {"componentInputParameter": _CHANNEL + RUN},
                "job": {"runtimeValue": {"constant": _JOB}},
                **given,
            }
        }
        made["cachingOptions"] = {"enableCache": False}  # Charkha looks into its own
        if task and task.retries:
            made["retryPolicy"] = {
                "maxRetryCount": task.retries,
                "backoffDuration": f"{task.retry_wait_s:g}s",
                "backoffFactor": 1.0,
            }
        return made


def _input(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


_RUNS = ("--run", _input("run"), "--run", _input("job"))  # the first that is not empty


def _inputs(given: dict[str, str]) -> Json:
    return {"parameters": {n: {"componentInputParameter": of} for n, of in given.items()}}


def _words(task: Task) -> Json:
    if len(task.steps) > 1:
        return {}
    return {"step": {"runtimeValue": {"constant": task.steps[0]}}}


def _resources(task: Task, accelerator: str) -> Json:
    """Return what a container may take: asked for and kept to, in Kubeflow's old and new fields."""
    asked: Json = {}
    if task.cpu is not None:
        asked["cpuRequest"] = asked["cpuLimit"] = float(task.cpu)
        asked["resourceCpuRequest"] = asked["resourceCpuLimit"] = f"{task.cpu:g}"
    if task.memory_bytes is not None:
        asked["memoryRequest"] = asked["memoryLimit"] = task.memory_bytes / 1e9
        asked["resourceMemoryRequest"] = asked["resourceMemoryLimit"] = str(task.memory_bytes)
    if task.gpu:
        if task.gpu != int(task.gpu):
            raise ProjectError(
                f"asks for gpu={task.gpu:g}, and kubeflow gives whole ones",
                where=f"step {task.steps[0]!r}",
                fix="gpu=1, or use an engine that shares them, such as ray",
            )
        count = str(int(task.gpu))
        asked["accelerator"] = {
            "type": accelerator,
            "count": count,
            "resourceType": accelerator,
            "resourceCount": count,
        }
    return asked


def _plain(name: str) -> str:
    """Return a name as Kubernetes allows it."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "step"


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name that nobody has: `start` and `finish` are our own tasks'."""
    used, number, free = {*taken, "start", "finish", "steps"}, 1, name
    while free in used:
        number += 1
        free = f"{name}-{number}"
    return free
