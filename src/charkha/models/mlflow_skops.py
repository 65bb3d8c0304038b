"""MLflow's scikit-learn flavour of a model that lies in a skops file: the file is copied as it is.

`mlflow.sklearn.save_model` would load the model, write it once more and load it again to ask it,
which takes longer than everything else that a run brings to MLflow, and the package has been asked
already. What a model's folder has to hold is told by MLflow's page on formats of models.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pandas as pd
import yaml
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.utils.environment import _mlflow_conda_env, _PythonEnv

from charkha.pipeline.codecs.skops_schema import named_types, nodes_of, schema_of

FLAVOR_NAME = "sklearn"
_FILE, _CONDA, _PYTHON = "model.skops", "conda.yaml", "python_env.yaml"
_LIBRARY = "scikit-learn=="


def save_model(
    path: str,
    mlflow_model: Model,
    *,
    file: Path,
    signature: ModelSignature,
    pip_requirements: Sequence[str],
    input_example: pd.DataFrame,
    validate_serving_input: bool,
) -> None:
    """Write the folder of a model; called by `Model.log`, which takes this module for a flavour.

    Args:
        path: of the folder, which is made here.
        mlflow_model: what is known of it so far.
        file: of a package, in the skops format; its types were looked at when it was made.
        signature: of its inputs and outputs.
        pip_requirements: "distribution==version" of what it needs beside MLflow.
        input_example: a few rows.
        validate_serving_input: heard by `Model.log`, which hands on all that it is given.
    """
    folder = Path(path)
    folder.mkdir(parents=True)
    shutil.copyfile(file, folder / _FILE)
    with file.open("rb") as opened:
        types = named_types(nodes_of(schema_of(opened)))
    mlflow_model.signature = signature
    _save_example(mlflow_model, input_example, path)
    mlflow_model.add_flavor(
        "python_function",
        loader_module="mlflow.sklearn",
        model_path=_FILE,
        predict_fn="predict",
        python_version=platform.python_version(),
        env={"conda": _CONDA, "virtualenv": _PYTHON},
    )
    mlflow_model.add_flavor(
        FLAVOR_NAME,
        pickled_model=_FILE,
        serialization_format="skops",
        skops_trusted_types=sorted(types),
        sklearn_version=next(
            (r.removeprefix(_LIBRARY) for r in pip_requirements if r.startswith(_LIBRARY)), None
        ),
        code=None,
    )
    mlflow_model.model_size_bytes = sum(f.stat().st_size for f in folder.iterdir())
    _write_environment(folder, [f"mlflow=={mlflow.__version__}", *pip_requirements])
    mlflow_model.save(str(folder / "MLmodel"))


def _write_environment(folder: Path, requirements: Sequence[str]) -> None:
    (folder / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
    conda = _mlflow_conda_env(  # type: ignore[no-untyped-call]
        additional_pip_deps=list(requirements), install_mlflow=False
    )
    (folder / _CONDA).write_text(yaml.safe_dump(conda), encoding="utf-8")
    _PythonEnv.current().to_yaml(str(folder / _PYTHON))  # type: ignore[no-untyped-call]
