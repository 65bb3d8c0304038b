"""The models that every server answers with, and questions whose answers are known.

Each model is fitted once and kept as a joblib file, as tutorials do; a second file has the same
model without its columns' names, for servers that give it an array, where scikit-learn would warn
with every call. Charkha gets the first by `register()` in a pipeline, MLflow by `save_model`.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from peers.process import environment

QUESTIONS = 320  # rows whose answers are known
TRAIN, TEST = 2_000, 200
CHARKHA = Path(sys.executable).with_name("charkha")
TARGET = "target"

PROJECT = """
[project]
name = "serving"

[env.silent.records]
enabled = false

[env.power.records]
durability = "power"
"""
PIPELINE = '''"""Models that were fitted elsewhere, registered."""

from pathlib import Path

import joblib
import pandas as pd
from sklearn.base import BaseEstimator

from charkha import File, pipeline, register, step


@step
def rows(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file)


@step
def fitted(file: Path) -> BaseEstimator:
    return joblib.load(file)


@pipeline
def models() -> None:
    for name in {names!r}:
        register(
            fitted(File(f"../{{name}}.joblib")),
            train=rows(File(f"../{{name}}-train.parquet")),
            test=rows(File(f"../{{name}}-test.parquet")),
            target="{target}",
            name=name,
            learning_curve=False,
        )
'''


@dataclass(frozen=True, kw_only=True)
class Model:
    """A fitted model, where its files are, and rows with the right answers."""

    name: str
    folder: Path  # for the files of all models
    columns: tuple[str, ...]
    rows: NDArray[np.float64]  # (QUESTIONS, columns)
    answers: NDArray[np.float64]  # (QUESTIONS,), scikit-learn's own

    @property
    def named(self) -> Path:
        return self.folder / f"{self.name}.joblib"

    @property
    def unnamed(self) -> Path:
        return self.folder / f"{self.name}-unnamed.joblib"

    @property
    def mlflow(self) -> Path:
        return self.folder / f"{self.name}-mlflow"

    @property
    def project(self) -> Path:
        return self.folder / "project"


def make(folder: Path, names: list[str]) -> dict[str, Model]:
    """Fit these of "forest", "linear" and "wide", write their files, and register them."""
    fitted = {name: _fit(name, folder) for name in names}
    _register(folder / "project", names)
    return fitted


def _fit(name: str, folder: Path) -> Model:
    width = 200 if name == "wide" else 10
    columns = tuple(f"feature_{i}" for i in range(width))
    chance = np.random.default_rng(7)
    rows = chance.normal(size=(TRAIN + TEST + QUESTIONS, width)).round(4)
    weights = chance.normal(size=width)
    target = rows @ weights + 3 * np.sin(rows[:, 0]) + chance.normal(size=len(rows)) / 10 + 100
    frame = pd.DataFrame(rows, columns=list(columns))
    kind = RandomForestRegressor(100, random_state=0) if name == "forest" else LinearRegression()
    model = kind.fit(frame[:TRAIN], target[:TRAIN])
    questions = frame[TRAIN + TEST :]
    made = Model(
        name=name,
        folder=folder,
        columns=columns,
        rows=questions.to_numpy(),
        answers=model.predict(questions),
    )
    joblib.dump(model, made.named)
    nameless = copy.deepcopy(model)
    del nameless.feature_names_in_
    joblib.dump(nameless, made.unnamed)
    for part, some in (("train", slice(TRAIN)), ("test", slice(TRAIN, TRAIN + TEST))):
        frame[some].assign(**{TARGET: target[some]}).to_parquet(folder / f"{name}-{part}.parquet")
    return made


def _register(project: Path, names: list[str]) -> None:
    """Make a project with a pipeline that registers the models, and run it."""
    project.mkdir()
    (project / "charkha.toml").write_text(PROJECT)
    (project / "pipeline.py").write_text(PIPELINE.format(names=names, target=TARGET))
    done = subprocess.run(
        [str(CHARKHA), "run"], cwd=project, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"charkha run ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def save_for_mlflow(model: Model) -> None:
    """Write the model as MLflow keeps it, with its signature."""
    code = (
        "import sys, joblib, mlflow, pandas as pd\n"
        "model, rows, target, to = sys.argv[1:]\n"
        "rows = pd.read_parquet(rows).drop(columns=target)\n"
        "model = joblib.load(model)\n"
        "signature = mlflow.models.infer_signature(rows, model.predict(rows))\n"
        "mlflow.sklearn.save_model(\n"
        "    model, to, signature=signature, serialization_format='cloudpickle'\n"
        ")\n"
    )
    rows = model.folder / f"{model.name}-test.parquet"
    line = [sys.executable, "-c", code, str(model.named), str(rows), TARGET, str(model.mlflow)]
    subprocess.run(line, env=environment(), check=True, capture_output=True)


def as_records(model: Model, rows: NDArray[np.float64]) -> list[dict[str, float]]:
    """Return the rows as objects with the features' names."""
    return [dict(zip(model.columns, row, strict=True)) for row in rows.tolist()]


def compact(document: object) -> bytes:
    """Return the document as JSON with no spaces."""
    return json.dumps(document, separators=(",", ":")).encode()
