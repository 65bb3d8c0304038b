"""Charkha spins data into models in production, and what production says back into data."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take it for; importing typing costs 2 ms
if TYPE_CHECKING:
    from charkha.data.datasets import dataset
    from charkha.models.gate import Gate
    from charkha.models.register import register
    from charkha.models.tracked import run
    from charkha.pipeline.runs import read_run
    from charkha.pipeline.steps import pipeline, step
    from charkha.pipeline.values import Dir, File
    from charkha.project import open_project
    from charkha.serving.labelled import labelled
    from charkha.serving.records.reading import read_records

__version__ = "0.1.0"
__all__ = [
    "Dir",
    "File",
    "Gate",
    "__version__",
    "dataset",
    "labelled",
    "open_project",
    "pipeline",
    "read_records",
    "read_run",
    "register",
    "run",
    "step",
]

_HOMES = {
    "Dir": "charkha.pipeline.values",
    "File": "charkha.pipeline.values",
    "Gate": "charkha.models.gate",
    "dataset": "charkha.data.datasets",
    "labelled": "charkha.serving.labelled",
    "open_project": "charkha.project",
    "read_records": "charkha.serving.records.reading",
    "read_run": "charkha.pipeline.runs",
    "register": "charkha.models.register",
    "run": "charkha.models.tracked",
    "step": "charkha.pipeline.steps",
}


class _Decorator(type(import_module("charkha.pipeline"))):  # type: ignore[misc]  # ModuleType
    """The package `charkha.pipeline`, that can be called as the decorator of the same name.

    Importing a package binds it in its parent under its own name, so that `from charkha import
    pipeline` finds the package as soon as any module in it was imported.
    """

    def __call__(self, *args: object, **kwargs: object) -> object:
        return import_module("charkha.pipeline.steps").pipeline(*args, **kwargs)


import_module("charkha.pipeline").__class__ = _Decorator


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'charkha' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
