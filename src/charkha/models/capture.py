"""What a step logs through `mlflow.log_*`, kept in a folder of its own beside its outputs.

The step talks to a private file store, so a slow or absent tracking server costs it nothing, and
what was logged belongs to the cache entry: a reused step brings its logs into the new run. This
module never imports MLflow; where the step's code has, it is found in `sys.modules`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from charkha.project import Project

# Set by people and schedulers to send a script's logs somewhere; a step's go into its own folder.
_REDIRECTS = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@contextmanager
def mlflow_logs(project: Project, run: str, step: str, folder: Path) -> Iterator[None]:
    """Send `mlflow.log_*` of the enclosed code to `folder`, which exists afterwards if there were any.

    Everything that MLflow remembers in the process (active run, experiment, tracking URI, autolog)
    is afterwards as it was before.
    """
    environment = {
        "MLFLOW_TRACKING_URI": folder.absolute().as_uri(),
        "MLFLOW_REGISTRY_URI": project.tracking.uri,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    before = {name: os.environ.get(name) for name in (*environment, *_REDIRECTS)}
    _set(dict.fromkeys(before))
    remembered = _detach()
    _set(environment)
    try:
        yield
        _flush(folder)
    finally:
        _attach(remembered, environment["MLFLOW_TRACKING_URI"])
        _set(before)
        _drop_if_empty(folder)


class _Remembered(NamedTuple):
    """MLflow's own state in this thread and process."""

    uri: str | None  # as set in code; None if it comes from the environment
    experiment: str | None
    active_runs: list[Any]
    autolog: dict[str, dict[str, object]]


_NOTHING = _Remembered(None, None, [], {})


def _detach() -> _Remembered:
    """Take MLflow's state away, to be given back by `_attach`; the environment has none now."""
    mlflow, fluent = _loaded()
    if mlflow is None or fluent is None:
        return _NOTHING
    remembered = _Remembered(
        mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None,
        fluent._active_experiment_id,
        fluent._active_run_stack.get(),
        {name: dict(config) for name, config in _autolog_settings().items()},
    )
    mlflow.set_tracking_uri(None)
    fluent._active_experiment_id = None  # MLflow offers no call that forgets an experiment
    fluent._active_run_stack.set([])  # nor one that puts a run aside without ending it
    return remembered


def _attach(remembered: _Remembered, ours: str) -> None:
    mlflow, fluent = _loaded()
    if mlflow is None or fluent is None:
        return
    if mlflow.get_tracking_uri() != ours:  # the step went elsewhere, where nobody knows our runs
        open_runs = fluent._active_run_stack.get()
        open_runs[:] = [r for r in open_runs if not r.info.artifact_uri.startswith(ours)]
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(remembered.uri)
    fluent._active_experiment_id = remembered.experiment
    fluent._active_run_stack.set(remembered.active_runs)
    for name, config in _autolog_settings().items():
        config.clear()
        config.update(remembered.autolog.get(name, {}))  # without settings it is off


def _flush(folder: Path) -> None:
    """Wait for what was logged with `synchronous=False`."""
    mlflow, _ = _loaded()
    if mlflow is not None and folder.exists():
        mlflow.flush_async_logging()


def _loaded() -> tuple[Any, Any]:
    """Return `mlflow` and `mlflow.tracking.fluent` if somebody imported them."""
    return sys.modules.get("mlflow"), sys.modules.get("mlflow.tracking.fluent")


def _autolog_settings() -> dict[str, dict[str, object]]:
    module = sys.modules.get("mlflow.utils.autologging_utils")
    settings: dict[str, dict[str, object]] = getattr(module, "AUTOLOGGING_INTEGRATIONS", {})
    return settings


def _drop_if_empty(folder: Path) -> None:
    """Remove a store in which nobody logged: MLflow makes one as soon as it is asked anything."""
    logged = (*folder.glob("*/*/meta.yaml"), *folder.glob("*/models/*/meta.yaml"))
    if folder.exists() and not logged:
        shutil.rmtree(folder)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
