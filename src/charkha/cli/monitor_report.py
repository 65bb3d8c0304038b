"""`charkha monitor report`: all that is known of a version, in one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.files import write_file
from charkha.errors import DONE
from charkha.monitoring.reporting.gathering import gather
from charkha.monitoring.reporting.report import written_report
from charkha.monitoring.reporting.verdict import summary

if TYPE_CHECKING:
    from charkha.project import Project


def act(project: Project, given: argparse.Namespace) -> int:
    """Write the file, and say where it is and what it says first."""
    with show.working(f"looking at the records of {given.model}"):
        gathered = gather(
            project, given.model, since=given.since, until=given.until, window=given.window
        )
        text = written_report(gathered).encode()
    out = Path(given.out)
    write_file(given.out, text, make_folder=True)
    told = summary(gathered)
    if given.json:
        show.as_json(
            {
                "file": str(out.resolve()),
                "bytes": len(text),
                "version": gathered.version,
                "verdict": told.word,
                "sentence": told.sentence,
                "details": told.details,
            }
        )
        return DONE
    print(show.bold(told.sentence))
    for detail in told.details:
        print(f"  {detail}")
    print(f"{out} ({show.size(len(text))})")
    return DONE
