"""Read back what a step logged through MLflow into the private file store of its capture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from charkha.models.recording import Point

# Who, where and in which run is said better by the run that the logs go to.
_OWN_TAGS = "mlflow."
_KEPT_TAGS = ("mlflow.note.content", "mlflow.autologging")
_PARTS = ("artifacts", "metrics", "params", "tags")


@dataclass(frozen=True, kw_only=True)
class Logged:
    """What one MLflow run inside a step consists of."""

    name: str
    nested: bool
    params: dict[str, str]
    tags: dict[str, str]
    points: list[Point]
    datasets: list[DatasetInput]
    files: list[tuple[Path, str]]  # file or folder, and the folder of the run that it belongs in


def read_captured(store: Path) -> Iterator[Logged]:
    """Yield the runs in the file store, in the order in which they began.

    Args:
        store: a copy that may be written to; MLflow wants folders that an artifact does not keep.
    """
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # MLflow 3.17 asks for it; this store is ours
    client = MlflowClient(store.as_uri())
    found: list[tuple[Run, Path]] = []
    for meta in store.glob("*/*/meta.yaml"):
        folder = meta.parent
        if folder.parent.name == ".trash":
            continue
        for part in _PARTS:
            (folder / part).mkdir(exist_ok=True)
        found.append((client.get_run(folder.name), folder))
    for run, folder in sorted(found, key=lambda each: (each[0].info.start_time, each[1].name)):
        yield _logged(client, store, run, folder)
    if orphans := _models(store, None):
        yield Logged(
            name="", nested=False, params={}, tags={}, points=[], datasets=[], files=orphans
        )


def _models(store: Path, run_id: str | None) -> list[tuple[Path, str]]:
    """Return the files of models that were logged in this run, or in none."""
    wanted = f"source_run_id: {run_id or 'null'}\n"
    return [
        (path, f"models/{path.parent.name}")
        for path in sorted(store.glob("*/models/*/artifacts"))
        if wanted in (path.parent / "meta.yaml").read_text(encoding="utf-8")
    ]


def _logged(client: MlflowClient, store: Path, run: Run, folder: Path) -> Logged:
    tags = run.data.tags
    points = [
        Point(metric.key, metric.value, metric.timestamp, metric.step)
        for key in sorted(run.data.metrics)
        for metric in client.get_metric_history(run.info.run_id, key)
    ]
    artifacts = [(path, "") for path in sorted((folder / "artifacts").iterdir())]
    return Logged(
        name=run.info.run_name,
        nested="mlflow.parentRunId" in tags,
        params=run.data.params,
        tags={
            name: value
            for name, value in tags.items()
            if not name.startswith(_OWN_TAGS) or name in _KEPT_TAGS
        },
        points=points,
        datasets=list(run.inputs.dataset_inputs) if run.inputs else [],
        files=[*artifacts, *_models(store, run.info.run_id)],
    )
