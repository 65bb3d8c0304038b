"""`mlflow run` of a run's own MLflow project, in the project's experiment: a process to be stopped."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import NoReturn

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import ExecutionException, MlflowException


def main(arguments: list[str]) -> int:
    """Run the project in RUN_FOLDER/mlflow: RUN_FOLDER EXPERIMENT ARTIFACTS."""
    folder, experiment, artifacts = arguments
    signal.signal(signal.SIGTERM, _interrupted)  # MLflow then ends what it has started
    try:
        client = MlflowClient()
        if client.get_experiment_by_name(experiment) is None:
            client.create_experiment(experiment, artifacts or None)
        mlflow.projects.run(  # type: ignore[no-untyped-call]
            str(Path(folder) / "mlflow"),
            experiment_name=experiment,
            run_name=Path(folder).name,
            env_manager="local",
        )
    except (ExecutionException, MlflowException) as e:
        print(f"mlflow: {e}", file=sys.stderr)  # noqa: T201  # it is a program, and this its log
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM
    return 0


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
