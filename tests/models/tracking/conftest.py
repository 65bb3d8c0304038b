"""A project whose MLflow is a real SQLite database, and runs written as the engine writes them."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from charkha.events import RunFinished, RunStarted, StepFinished
from charkha.models.flavours.choice import flavour
from charkha.pipeline.journal import Journal
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import Project, default_project


@pytest.fixture(autouse=True)
def _mlflow_warns() -> Iterator[None]:
    """MLflow and the libraries below it warn of their own affairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def project(tmp_path: Path, with_tables: Callable[[Project], Project]) -> Project:
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
    return with_tables(default_project(tmp_path))


def write_package(folder: Path, slope: float = 2.0) -> Path:
    """Write the package of a line through the origin, as charkha.models.packaging does."""
    rows = pd.DataFrame({"area": np.arange(1.0, 9.0), "rooms": np.arange(8)})
    model = LinearRegression().fit(rows, slope * rows["area"])
    folder.mkdir(parents=True)
    manifest = {
        "format": 1,
        "name": "prices",
        "flavour": "sklearn",
        "task": "regression",
        "target": "price",
        "signature": {
            "inputs": [
                {"name": "area", "type": "double", "required": True},
                {"name": "rooms", "type": "long", "required": True},
            ],
            "outputs": [{"name": "prediction", "type": "double", "required": True}],
        },
        "requirements": ["scikit-learn", "skops", "numpy", "pandas"],
        "python": "3.11",
        "model_file": flavour("sklearn").save(model, folder, allow_pickle=False),
        "onnx": {"file": None, "why": "not converted"},
        "metrics": {"train": {"rmse": 0.5}, "test": {"rmse": slope}},
        "input_example": "input_example.json",
    }
    (folder / "package.json").write_text(json.dumps(manifest))
    (folder / "input_example.json").write_text(json.dumps([{"area": 3.0, "rooms": 2}]))
    (folder / "card.md").write_text(f"# prices\n\nslope {slope}\n")
    (folder / "plots").mkdir()
    (folder / "plots" / "residuals.png").write_bytes(b"\x89PNG")
    return folder


WriteRun = Callable[..., str]


@pytest.fixture
def write_run(project: Project, tmp_path: Path) -> WriteRun:
    """Return `write(slope=2.0, passed=True, against="none")`, which gives a run's id."""
    count = iter(range(100))

    def write(
        slope: float = 2.0,
        passed: bool = True,
        against: str = "none",
        captured: Path | None = None,
        status: str | None = "finished",
        package: Dir | None = None,
    ) -> str:
        artifacts = open_artifacts(project)
        work = tmp_path / f"work-{next(count)}"
        kept = artifacts.save(package or Dir(write_package(work / "package", slope)))
        verdict = artifacts.save(
            {
                "model": "prices",
                "passed": passed,
                "first": against == "none",
                "because": [f"rmse is {slope}"],
                "rules": [],
                "warnings": [],
                "metrics": {"test": {"rmse": slope}},
                "champion": None,
                "judged_against": f"champion:{against}",
            }
        )
        metrics = artifacts.save({"rows": 8, "split": {"test": 2}, "note": "no number"})
        logs = {"mlflow": artifacts.save(Dir(captured)).as_json()} if captured else {}
        journal = Journal(project.state / "runs")
        journal(_started(journal.run))
        journal(_finished("prepare", "pipeline:prepare", {"metrics": metrics.as_json()}))
        journal(_finished("fit[0]", "pipeline:fit", {"result": metrics.as_json()}, logs))
        register = "charkha.models.register"
        journal(_finished("package", f"{register}:package_model", {"result": kept.as_json()}))
        journal(_finished("gate", f"{register}:judge", {"result": verdict.as_json()}))
        if status:
            journal(RunFinished(status, 1.0))
        node = {
            "function": f"{register}:judge",
            "arguments": {"package": {"step": "package", "output": "result"}},
        }
        (journal.folder / "graph.json").write_text(json.dumps({"nodes": {"gate": node}}))
        journal.close()
        return journal.run

    return write


def _started(run: str) -> RunStarted:
    return RunStarted(
        run=run,
        project="prices",
        pipeline="pipeline:house_prices",
        environment="local",
        params={"alpha": 0.3, "kind": "ridge", "years": [2006, 2007]},
        steps=["prepare", "fit[0]", "package", "gate"],
        datasets={"ames": "md5:0123456789abcdef0123456789abcdef"},
        commit="4f2a" * 10,
        dirty=True,
        user="ann",
        host="laptop",
        pid=1,
    )


def _finished(
    step: str,
    function: str,
    outputs: dict[str, dict[str, object]],
    captured: dict[str, dict[str, object]] | None = None,
) -> StepFinished:
    return StepFinished(step, function, "ran", "k" * 64, outputs, captured or {}, 0.5)
