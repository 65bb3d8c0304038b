"""What a worker process runs: `python -m charkha.serving.child JSON`, started by its crew."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from charkha.errors import CharkhaError
from charkha.project import open_project
from charkha.serving.logs import log_to_stderr
from charkha.serving.uvicorn import run
from charkha.serving.worker import Worker


def main(told: dict[str, Any]) -> int:
    """Be worker `number` until SIGTERM, or until the lead is gone."""
    project = open_project(Path(told["root"]), told["environment"])
    log_to_stderr(project.serving.log, debug=told["debug"])
    listening = socket.socket(fileno=told["listening"])

    def ready() -> None:
        os.write(told["ready"], b"1")
        os.close(told["ready"])

    async def work() -> None:
        worker = Worker(
            project,
            told["model"],
            listening,
            host=told["host"],
            number=told["number"],
            folder=Path(told["folder"]),
            counts=Path(told["counts"]),
        )
        asyncio.get_running_loop().add_reader(told["alive"], worker.stop, 0.0)
        await worker.run(ready)

    try:
        run(work())
    except CharkhaError as e:
        print(f"worker {told['number']}: {e}", file=sys.stderr)  # noqa: T201  # it has no other face
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
