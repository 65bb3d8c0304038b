"""A package as a model in MLflow, in the flavour that MLflow has for it, and no pickle."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import ColSpec, Schema

from charkha.models import mlflow_skops
from charkha.models.flavours.choice import flavour
from charkha.models.mlflow import translated
from charkha.models.registries.port import PACKAGE
from charkha.models.signature import Signature, conform

if TYPE_CHECKING:
    from types import ModuleType

    from charkha.models.mlflow_runs import MlflowRun
    from charkha.models.recording import Judged
    from charkha.project import Project

_ARGUMENT = {"sklearn": "sk_model", "lightgbm": "lgb_model", "xgboost": "xgb_model"}
_BESIDE = ("package.json", "model.onnx", "card.md", "reference.parquet")


def log_model(project: Project, run: MlflowRun, judged: Judged) -> str:
    """Make the package a logged model of the run, and return MLflow's id of it.

    A logged model of the same package in this run is taken as it is; one that was cut off is
    made again.
    """
    manifest = json.loads((judged.folder / "package.json").read_text(encoding="utf-8"))
    with translated(project.tracking.uri):
        found = run.client.search_logged_models(
            [run.experiment_id],
            filter_string=f"tags.`{PACKAGE}` = '{judged.package}'",
        )
        ready = []
        for model in (m for m in found if m.source_run_id == run.run_id):
            if model.status == "READY":
                ready.append(model.model_id)
            else:
                run.client.delete_logged_model(model.model_id)
        model_id: str = ready[0] if ready else _log(project, run, judged, manifest)
        with tempfile.TemporaryDirectory(prefix="charkha-") as folder:
            for name in _BESIDE:
                if (judged.folder / name).exists():
                    shutil.copyfile(judged.folder / name, Path(folder, name))
            if (judged.folder / "plots").is_dir():
                shutil.copytree(
                    judged.folder / "plots", Path(folder, "plots"), copy_function=shutil.copyfile
                )
            run.client.log_model_artifacts(model_id, folder, "charkha")
    return model_id


def _log(project: Project, run: MlflowRun, judged: Judged, manifest: Mapping[str, Any]) -> str:
    file = judged.folder / str(manifest["model_file"])
    flavor, arguments = _flavour(project, str(manifest["flavour"]), file)
    made = run.client.create_logged_model(
        run.experiment_id, str(manifest["name"]), run.run_id, tags={PACKAGE: judged.package}
    )
    Model.log(
        artifact_path=None,
        model_id=made.model_id,
        name=made.name,
        flavor=flavor,
        run_id=run.run_id,
        signature=_signature(manifest["signature"]),
        pip_requirements=list(manifest["requirements"]),
        input_example=_example(judged.folder, manifest),
        **arguments,
    )
    return str(made.model_id)


def _flavour(project: Project, name: str, file: Path) -> tuple[ModuleType, dict[str, Any]]:
    """Return what writes a model of this flavour for MLflow, and what it is to be given."""
    if name == "sklearn" and file.suffix == ".skops":
        # Not asked here again: the answers of what lies in the file are part of the package.
        return mlflow_skops, {"file": file, "validate_serving_input": False}
    module = importlib.import_module(f"mlflow.{name}")
    if name == "pyfunc":
        return module, _pyfunc(project, file)
    model = flavour(name).load(file, allow_pickle=project.allow_pickle)
    if name == "sklearn":  # the project allowed pickle
        return module, {_ARGUMENT[name]: model, "serialization_format": "cloudpickle"}
    return module, {_ARGUMENT[name]: model}


def _pyfunc(project: Project, file: Path) -> dict[str, Any]:
    """Wrap a project's own model: MLflow runs our few lines, which load it from its file."""
    return {
        "python_model": str(Path(__file__).with_name("mlflow_pyfunc_code.py")),
        "artifacts": {"model": str(file)},
        "code_paths": _own_code(project.root),
    }


def _own_code(root: Path) -> list[str] | None:
    """Return the project's modules and packages, for the model's class is in one of them."""
    own = (
        path
        for path in sorted(root.iterdir())
        if path.suffix == ".py" or (path / "__init__.py").exists()
    )
    return [str(path) for path in own if path.stem not in ("tests", "conftest")] or None


def _signature(described: Mapping[str, list[dict[str, Any]]]) -> ModelSignature:
    return ModelSignature(_schema(described["inputs"]), _schema(described["outputs"]))


def _schema(columns: list[dict[str, Any]]) -> Schema:
    return Schema(
        [
            ColSpec(column["type"], column["name"], required=bool(column.get("required", True)))
            for column in columns
        ]
    )


def _example(folder: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return the input example as a table whose columns are of the signature's types."""
    example = json.loads((folder / str(manifest["input_example"])).read_text(encoding="utf-8"))
    rows = pd.DataFrame(example if isinstance(example, list) else [example])
    return conform(rows, Signature.from_json(manifest["signature"]).inputs).rows
