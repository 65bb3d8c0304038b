"""What charkha.toml says of other engines: a section for each, named after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from charkha.definition import Problem, http_problem, nearest, setting

_CRON = re.compile(r"@\w+|[\d*/,-]+( +\S+){4}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_A_ROLE = "arn:aws:iam::123456789012:role/charkha"


@dataclass(frozen=True, kw_only=True)
class AirflowSettings:
    """The Airflow of `charkha run --on airflow`, and how its workers start tasks."""

    url: str = setting("its API server", "http://127.0.0.1:8080")
    user: str = setting("who asks it", "admin")
    password: str | None = setting(
        "of the user; without it nobody is asked for one", None, secret=True
    )
    token: str | None = setting(
        "of its API, instead of user and password, as hosted ones give it", None, secret=True
    )
    dag: str | None = setting(
        "id of the DAG; without it `PROJECT-PIPELINE`, and the environment where it is not local",
        None,
        name=True,
    )
    dags: Path | None = setting(
        "folder of one of its DAG bundles, to which the file is written before a run; without it the "
        "DAG has to be there",
        None,
        path=True,
    )
    folder: str | None = setting("the project's folder on the workers; this one without it", None)
    python: str | None = setting(
        "Python on the workers whose environment has Charkha; `charkha` of their PATH without it",
        None,
    )
    tasks: Literal["process", "docker", "kubernetes"] = setting(
        "what a task is: a process of the worker, a container of its Docker, a pod",
        "process",
        choices=("process", "docker", "kubernetes"),
    )
    image: str | None = setting(
        "of containers and pods: the project in its working folder, with Charkha installed", None
    )
    mounts: tuple[str, ...] = setting(
        "what a container sees of Docker's machine: `/there:/here`, or `/there:/here:ro`", ()
    )
    network: str | None = setting("of Docker, that containers are in", None)
    namespace: str | None = setting("of the pods", None)
    service_account: str | None = setting("of Kubernetes, as which pods run", None)
    pod_template: str | None = setting(
        "file on the workers, with whatever else a pod has: secrets, volumes, tolerations", None
    )
    accelerator: str = setting("what `gpu=1` of a step asks Kubernetes for", "nvidia.com/gpu")
    variables: dict[str, object] = setting(
        "environment variables of the tasks; they stand in the DAG's file, so no secrets", dict
    )
    on_data: bool = setting(
        "start a run when a dataset that the pipeline reads has a new version; beside `[pipeline] "
        "schedule`",
        False,
    )
    loop: str | None = setting(
        "cron of a second DAG, in which `charkha loop` looks whether to train again; none without it",
        None,
    )
    patience_s: float = setting("seconds to wait until Airflow has read a new file", 400.0, least=0)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address, a variable or a mount that is none."""
        if problem := http_problem(given, "url", "Airflow", "http://127.0.0.1:8080"):
            return problem
        if named := _no_text(given.get("variables", {})):
            return "variables", f"the variable {named[0]} is no text", f'{named[0]} = "{named[1]}"'
        if problem := cron_problem("loop", given.get("loop")):
            return problem
        mounts = given.get("mounts", ())
        for mount in mounts if isinstance(mounts, list) else ():
            if not re.fullmatch(r"[^:]+:/[^:]*(:ro)?", str(mount)):
                what = f"{mount!r} does not say what is mounted where"
                return "mounts", what, 'mounts = ["/srv/blobs:/srv/blobs"]'
        return None


@dataclass(frozen=True, kw_only=True)
class KubeflowSettings:
    """The Kubeflow Pipelines of `charkha run --on kubeflow`, and what its tasks run in."""

    image: str | None = setting(
        "image of the tasks: the project in its working folder, with Charkha installed", None
    )
    host: str | None = setting(
        "its address, such as `https://kubeflow.example.org/pipeline`; without it the pipeline runs "
        "on this machine, by `kfp.local`",
        None,
    )
    namespace: str | None = setting("of the runs, where Kubeflow has several users", None)
    experiment: str = setting("Kubeflow's experiment for the runs", "", project_name=True)
    service_account: str | None = setting("of Kubernetes, as which the tasks run", None)
    token: str | None = setting(
        "that Kubeflow asks for; without it kfp's own chain", None, secret=True
    )
    accelerator: str = setting("what `gpu=1` of a step asks Kubernetes for", "nvidia.com/gpu")

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address that is none."""
        return http_problem(given, "host", "Kubeflow", "https://kubeflow.example.org/pipeline")


@dataclass(frozen=True, kw_only=True)
class SagemakerSettings:
    """The Amazon SageMaker of `charkha run --on sagemaker`, and what its jobs run in."""

    image: str | None = setting(
        "image of the jobs, in ECR: the project in its working folder, with Charkha installed", None
    )
    role: str | None = setting(
        "ARN of the role as which jobs run, and the pipeline starts them", None
    )
    region: str | None = setting("AWS's region; without it AWS's own chain", None)
    endpoint_url: str | None = setting("SageMaker's address, where it is not AWS's own", None)
    pipeline: str | None = setting(
        "name of the pipeline; without it `PROJECT-PIPELINE`, and the environment where it is not "
        "local",
        None,
    )
    instance: str = setting("machine of a task that asks for nothing", "ml.m5.xlarge")
    instances: dict[str, object] = setting("machine by task, whatever it asks for", dict)
    volume_gb: int = setting("disk of a job, in GB", 30, least=1, most=16384)
    most_s: int = setting(
        "seconds after which SageMaker ends a job that has no `timeout_s`",
        86_400,
        least=60,
        most=432_000,
    )
    parallel: int | None = setting(
        "jobs of a run at the same time; as many as can be without it", None, least=1
    )
    training: tuple[str, ...] = setting(
        "tasks that are training jobs, `*` for all; the others are processing jobs", ()
    )
    spot: bool = setting("training jobs on spare machines, which AWS may take back", False)
    spot_wait_s: int = setting(
        "seconds that such a job may wait for a machine, all together", 3600, least=0
    )
    warm_pool_s: int = setting(
        "seconds that the machine of a training job waits for the next one", 0, least=0, most=3600
    )
    metrics: tuple[str, ...] = setting(
        "numbers that SageMaker is to show of training jobs, such as `test.rmse`", ()
    )
    subnets: tuple[str, ...] = setting("of a VPC, in which the jobs run", ())
    security_groups: tuple[str, ...] = setting("of that VPC", ())
    variables: dict[str, object] = setting(
        "environment variables of the jobs; they stand in the definition, so no secrets", dict
    )
    tags: dict[str, object] = setting("of the pipeline and its jobs, for AWS's bills", dict)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of what SageMaker would refuse later."""
        if not _ROLE.fullmatch(str(given.get("role", _A_ROLE))):
            return "role", f"{given['role']!r} is no ARN of a role", f'role = "{_A_ROLE}"'
        if problem := http_problem(given, "endpoint_url", "SageMaker", "https://…"):
            return problem
        if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,60}", str(given.get("pipeline", "a"))):
            what = f"no pipeline of SageMaker can be called {given['pipeline']!r}"
            return "pipeline", what, 'pipeline = "houses": letters, digits and -, 60 at most'
        network = given.keys() & {"subnets", "security_groups"}
        if len(network) == 1:
            what = "a VPC needs both, subnets and security_groups"
            return network.pop(), what, "give the other one too"
        if given.get("spot") and given.get("warm_pool_s"):
            return "spot", "machines of a warm pool are none of spot", "take one of them out"
        for key in ("spot", "warm_pool_s", "metrics"):
            if given.get(key) and not given.get("training"):
                return key, f"{key} is for training jobs, and no task is one", 'training = ["*"]'
        tables = (given.get(key, {}) for key in ("instances", "variables", "tags"))
        for key, table in zip(("instances", "variables", "tags"), tables, strict=True):
            if named := _no_text(table):
                return key, f"{named[0]} is no text", f'{named[0]} = "{named[1]}"'
        return None


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """The Ray of `charkha run --on ray`, and how its nodes start tasks."""

    address: str | None = setting(
        "`auto` for the Ray of this machine, or `HOST:6379`; without it that of `RAY_ADDRESS`, else one "
        "that is started for the run",
        None,
    )
    folder: str | None = setting("the project's folder on the nodes; this one without it", None)
    python: str | None = setting(
        "Python on the nodes whose environment has Charkha; that of Ray's workers without it", None
    )
    runtime_env: dict[str, object] = setting(
        "Ray's `runtime_env` of the tasks; it stands in the rendered file, so no secrets", dict
    )
    patience_s: float = setting(
        "seconds to wait for a node that has what a step asks for, where the cluster may grow",
        600.0,
        least=0,
    )

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address that no driver of Ray takes."""
        address = str(given.get("address", "auto"))
        if address in ("auto", "local") or re.fullmatch(r"[^/\s]+:\d+", address):
            return None
        if address.startswith(("http://", "https://", "ray://")):
            what = (
                "this is the address of Ray's jobs or clients, and a driver is on one of its nodes"
            )
            return "address", what, 'address = "HOST:6379"; or: charkha render ray, ray job submit'
        return "address", "this is no address of a Ray", 'address = "auto", or "HOST:6379"'


@dataclass(frozen=True, kw_only=True)
class DvcSettings:
    """How the pipeline is laid out for `dvc repro`."""

    outputs: Path = setting(
        "folder of what steps return, as files that DVC keeps",
        Path("outputs"),
        path=True,
        inside=True,
    )


def _no_text(table: object) -> tuple[str, object] | None:
    """Return the first entry of a table that is no text."""
    entries = table.items() if isinstance(table, dict) else ()
    return next(((str(n), value) for n, value in entries if not isinstance(value, str)), None)


def schedule_problem(given: Mapping[str, object]) -> Problem | None:
    """Return key, fault and fix of a `[pipeline]` schedule, or of its time zone, that is none."""
    return cron_problem("schedule", given.get("schedule")) or _zone_problem(given.get("timezone"))


def cron_problem(key: str, value: object) -> Problem | None:
    """Return key, fault and fix of what is no schedule; names such as `@daily` are an engine's own."""
    if not isinstance(value, str) or _CRON.fullmatch(value.strip()):
        return None
    what = f"{value!r} is no schedule: minute, hour, day, month, day of the week"
    return key, what, f'{key} = "0 3 * * *"'


def _zone_problem(value: object) -> Problem | None:
    zones = import_module("zoneinfo")  # late: few projects have a schedule
    try:
        zones.ZoneInfo(value or "UTC")
    except (TypeError, ValueError, OSError, zones.ZoneInfoNotFoundError):
        known = zones.available_timezones()
        if isinstance(value, str) and known:  # without any, nobody here can tell
            meant = nearest(value, known) or "Europe/Berlin"
            return "timezone", f"there is no time zone {value!r}", f'timezone = "{meant}"'
    return None
