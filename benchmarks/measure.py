"""Whole processes timed in turn, their ratios, and the two options that every benchmark has."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Took(NamedTuple):
    """What one process took."""

    wall_s: float
    cpu_s: float  # user and system, children included
    peak_mb: float


def process(command: Sequence[str], folder: Path) -> Took:
    """Run a command to its end and return what the operating system says it took."""
    began = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = child.stderr.read() if child.stderr else b""
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{said.decode()}")
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turn(rounds: int, contenders: dict[str, Callable[[], Took]]) -> dict[str, Took]:
    """Run each contender once a round, and return the medians: a slow minute then hits them all."""
    found: dict[str, list[Took]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            found[name].append(run())
    return {name: Took(*map(statistics.median, zip(*took))) for name, took in found.items()}  # noqa: B905


def options(description: str) -> argparse.Namespace:
    """Return `quick` (under a minute) and `json` (a file for the figures)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    return parser.parse_args()


def report(figures: dict[str, float], file: Path | None) -> None:
    """Write the figures as a flat JSON object, where a file was asked for."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
