"""What the model alone takes: its ONNX twin, asked in one process in batches as a server has them.

`python benchmarks/peers/alone.py PROJECT MODEL` prints microseconds of processor time for a row. No
server can be faster than the raw limit and this together.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from charkha.models.registry import find_version
from charkha.project import open_project
from charkha.serving.loading import load_model

BATCH = 16  # rows; what 32 connections come to
SECONDS = 0.5


def alone_us(project: Path, name: str, core: int, environment: dict[str, str]) -> float:
    """Return what a row takes the model, on one core."""
    line = ["taskset", "-c", str(core), sys.executable, __file__, str(project), name]
    done = subprocess.run(line, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Ask for some time, and print the least."""
    project, name = sys.argv[1:]
    opened = open_project(Path(project))
    model = load_model(opened, find_version(opened, f"{name}@champion"))
    # Rows that differ, or the paths through a forest would stay in the cache.
    chance = random.Random(7)  # noqa: S311  # no secret
    rows = [tuple([chance.gauss(0, 1) for _ in model.schema.names]) for _ in range(320)]
    least, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.process_time()
        for at in range(20):
            model.predictor.predict(rows[at * BATCH : (at + 1) * BATCH])
        least = min(least, (time.process_time() - began) / 20 / BATCH)
    print(1e6 * least)


if __name__ == "__main__":
    main()
