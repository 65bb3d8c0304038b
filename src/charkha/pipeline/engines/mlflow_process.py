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
    client = MlflowClient()
    signal.signal(signal.SIGTERM, _interrupted)  # MLflow then ends what it has started
    try:
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
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill(client, experiment, Path(folder).name)
        return 128 + signal.SIGTERM
    return 0


def _kill(client: MlflowClient, experiment: str, run: str) -> None:
    """Have MLflow say KILLED of a run that was stopped.

    Up to 3.17 `mlflow.projects.run` says FAILED of what it interrupts, also where its state was set
    already: it compares the state's name with the states' numbers.
    """
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        name = f"attributes.run_name = '{run}'"
        for made in client.search_runs([found.experiment_id], filter_string=name):
            client.set_terminated(made.info.run_id, "KILLED")


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
