"""What Kubeflow's page shows of a run: its metrics, and the version of its model, as artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import UserError
from charkha.models import tracker
from charkha.models.elsewhere import metrics_of

if TYPE_CHECKING:
    from charkha.project import Project


def write_outputs(project: Project, run: str, given: str) -> None:
    """Write what a run that has ended made, where a task of Kubeflow is to leave its outputs.

    Args:
        project: as this machine has it.
        run: its id.
        given: what Kubeflow puts for `{{$}}`: an ExecutorInput of its protocol, as JSON.

    Raises:
        UserError: that is not what was given.
    """
    try:
        outputs = json.loads(given)["outputs"]
        file = Path(outputs["outputFile"])
        declared = {name: kept["artifacts"][0] for name, kept in outputs["artifacts"].items()}
    except (ValueError, KeyError, TypeError, IndexError) as e:
        raise UserError(f"{given[:80]!r} is not what Kubeflow gives a task as {{{{$}}}}") from e
    known = {"metrics": metrics_of(project, run), "model": _model(project, run)}
    artifacts = {
        name: {"artifacts": [{**artifact, "metadata": known.get(name, {})}]}
        for name, artifact in declared.items()
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"artifacts": artifacts}))


def _model(project: Project, run: str) -> dict[str, object]:
    """Return the last version that the run has brought into the registry; nothing without one."""
    state = tracker.read_state(project, run)
    if not state.versions:
        return {}
    made = state.versions[-1]
    name, version = made["name"], made["version"]
    found: dict[str, object] = {
        "name": name,
        "version": version,
        "uri": f"models:/{name}/{version}",
    }
    return found | {"registry": state.uri} | ({"alias": a} if (a := made.get("alias")) else {})
