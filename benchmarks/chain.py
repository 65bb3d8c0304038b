"""A project whose pipeline is a chain of steps that do nothing but pass a number on."""

from __future__ import annotations

from pathlib import Path

PIPELINE = """
from charkha import pipeline, step

@step
def more(n: int) -> int:
    return n + 1

@pipeline
def chain(steps: int = {steps}):
    n = more(0)
    for _ in range(steps - 1):
        n = more(n)
"""


def project(folder: Path, steps: int, settings: str = "") -> Path:
    """Make a folder with a project of so many steps; return the folder.

    Args:
        folder: which is not there yet.
        steps: of the chain.
        settings: more lines for its charkha.toml.
    """
    folder.mkdir()
    (folder / "charkha.toml").write_text(f'[project]\nname = "chain"\n{settings}')
    (folder / "pipeline.py").write_text(PIPELINE.format(steps=steps))
    return folder
