"""A worker process: performs steps that it is told on stdin, and answers on what was its stdout.

The first line sets it up, every further line is a task, every answer is a line; all of it JSON. What
steps print goes to stderr. When stdin ends, the process that asked is gone, and so is the worker: a
claim on a key must not outlive the run that waits for it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from charkha.errors import Damaged, StepFailed
from charkha.pipeline.perform import Bench, Outcome
from charkha.project import default_project, open_project


def main() -> None:
    """Work until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asking process's to handle
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setup = json.loads(sys.stdin.readline())
    sys.path[:0] = setup["path"]
    root = Path(setup["root"])
    known = (root / "charkha.toml").exists()
    project = open_project(root, setup["environment"]) if known else default_project(root)
    bench = Bench(project, setup["run"], setup["contexts"])
    tasks: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()
    while True:
        _answer(answers, _performed(bench, tasks.get()))


def _read(tasks: queue.SimpleQueue[Mapping[str, Any]]) -> None:
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


def _answer(answers: TextIO, message: dict[str, object]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _performed(bench: Bench, task: Mapping[str, Any]) -> dict[str, object]:
    try:
        return {"done": as_json(bench.perform(task))}
    except StepFailed as e:
        told = {"problem": e.problem, "place": e.place, "log": e.log, "fix": e.fix}
        return {"failed": told, "exit_code": e.exit_code}
    except Damaged as e:
        return {"damaged": {"what": e.what, "key": e.key}}
    except Exception as e:  # noqa: BLE001  # a worker's loop: whatever it is, the run must hear it
        return {"bug": "".join(traceback.format_exception(e))}


def as_json(outcome: Outcome) -> dict[str, object]:
    """Return an outcome as JSON."""
    return {
        **vars(outcome),
        "outputs": {name: a.as_json() for name, a in outcome.outputs.items()},
        "captured": {name: a.as_json() for name, a in outcome.captured.items()},
    }


if __name__ == "__main__":
    main()
