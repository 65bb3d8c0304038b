"""Machines of SageMaker by what they have: the cheapest that fits what a task asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from charkha.errors import ProjectError

if TYPE_CHECKING:
    from charkha.engine_settings import SagemakerSettings
    from charkha.pipeline.plans import Task

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A type of machine."""

    name: str
    cpu: int
    memory_gib: int
    gpu: int = 0


def _family(name: str, sizes: str, *, gib_per_cpu: int) -> list[Machine]:
    found = []
    for size in sizes.split():
        cpu = 2 if size == "large" else 4 * int(size.removesuffix("xlarge") or 1)
        found.append(Machine(name=f"ml.{name}.{size}", cpu=cpu, memory_gib=cpu * gib_per_cpu))
    return found


def _with_gpus(name: str, sizes: str) -> list[Machine]:
    """Return a family with 4 GiB for each of its processors: `size:gpus`."""
    found = []
    for size, _, gpus in (word.partition(":") for word in sizes.split()):
        cpu = 4 * int(size.removesuffix("xlarge") or 1)
        machine = Machine(name=f"ml.{name}.{size}", cpu=cpu, memory_gib=4 * cpu, gpu=int(gpus))
        found.append(machine)
    return found


_SIZES = "xlarge:1 2xlarge:1 4xlarge:1 8xlarge:1 12xlarge:4 16xlarge:1"
_R5 = "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"
# Those that processing jobs and training jobs can both have, and most regions offer.
MACHINES = [
    *_family("m5", "large xlarge 2xlarge 4xlarge 12xlarge 24xlarge", gib_per_cpu=4),
    *_family("c5", "xlarge 2xlarge 4xlarge 9xlarge 18xlarge", gib_per_cpu=2),
    *_family("r5", _R5, gib_per_cpu=8),
    *_with_gpus("g4dn", _SIZES),
    *_with_gpus("g5", f"{_SIZES} 24xlarge:4 48xlarge:8"),
]


def _cost(machine: Machine) -> float:
    """Return what orders machines: about what AWS's prices are to each other, not a price."""
    of_gpu = {"g4dn": 6.0, "g5": 10.0}.get(machine.name.split(".")[1], 0.0)
    return machine.cpu * 0.75 + machine.memory_gib * 0.06 + machine.gpu * of_gpu


def machine_for(task: Task, settings: SagemakerSettings) -> str:
    """Return the type of machine that a task gets.

    Raises:
        ProjectError: it asks for a part of a GPU, or for more than there is in the table.
    """
    if task.gpu and task.gpu != int(task.gpu):
        raise ProjectError(
            f"asks for gpu={task.gpu:g}, and sagemaker gives whole ones",
            where=f"task {task.name!r}",
            fix="gpu=1, or use an engine that shares them, such as ray",
        )
    if not task.gpu and task.cpu is None and task.memory_bytes is None:
        return settings.instance
    fit = [
        one
        for one in MACHINES
        if one.cpu >= (task.cpu or 0)
        and one.memory_gib * GIB >= (task.memory_bytes or 0)
        and one.gpu >= (task.gpu or 0)
        and (one.gpu > 0) == bool(task.gpu)
    ]
    if not fit:
        raise ProjectError(
            "asks for more than a machine that Charkha knows of SageMaker's has",
            where=f"task {task.name!r}",
            fix=f'[sagemaker.instances] {task.name} = "ml.p4d.24xlarge", or whichever has it',
        )
    return min(fit, key=_cost).name
