"""A project that was moved: MLflow has absolute addresses, doctor notices, and the how-to repairs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from charkha.cli.doctor import examine
from charkha.models.following import Tracker
from charkha.models.registries.sqlite import SqliteRegistry
from charkha.project import open_project

HOW_TO = Path(__file__).parent.parent.parent.parent / "docs" / "how-to" / "tracking.md"
LOAD = """
import warnings; warnings.simplefilter("ignore")
import mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///.charkha/mlflow.db")
model = mlflow.pyfunc.load_model("models:/prices@champion")
print(*model.predict(pd.DataFrame({"area": [3.0], "rooms": [2]})).round(6))
"""


@pytest.fixture
def moved(project, write_run, tmp_path_factory, monkeypatch):
    """The project at another place, whose name needs an escape in an address."""
    Tracker(open_project(project.root), write_run()).work()
    there = tmp_path_factory.mktemp("moved") / "new place"
    project.root.rename(there)
    monkeypatch.chdir(there)
    return there


def tracking():
    return next(finding for finding in examine() if finding.name == "tracking")


def loads(root):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, "-c", LOAD], cwd=root, env=clean, capture_output=True, text=True
    )


def test_a_project_that_stands_where_it_was_is_fine(project, write_run, monkeypatch):
    Tracker(open_project(project.root), write_run()).work()
    monkeypatch.chdir(project.root)
    assert tracking().state == "fine"


def test_a_link_at_the_old_place_repairs_it(moved, project):
    found = tracking()
    assert found.state == "missing"
    assert f"stand under {project.root}, where this project was" in found.says
    assert "No such artifact" in loads(moved).stderr
    link, _, rest = found.fix.partition(";")
    assert "When a project was moved" in rest
    subprocess.run(link, shell=True, check=True)  # noqa: S602  # as a person types it
    try:
        assert tracking().state == "fine"
        assert loads(moved).stdout.split() == ["6.0"]
    finally:
        project.root.unlink()


def test_a_place_that_is_taken_gets_no_link(moved, project):
    project.root.mkdir()
    assert tracking().fix.startswith("see «When a project was moved»")


def test_a_parent_that_is_gone_is_made_for_the_link(moved, project):
    repair(moved, str(project.root), "/gone/away/houses")
    assert tracking().fix.startswith(f"mkdir -p /gone/away && ln -s '{moved}' /gone/away/houses;")


def test_the_how_to_repairs_it_for_good(moved, project):
    repair(moved, str(project.root), str(moved))
    assert tracking().state == "fine"
    assert loads(moved).stdout.split() == ["6.0"]
    assert all("new%20place" in place for place in places(open_project(moved)))


def places(project):
    return SqliteRegistry(project.tracking.uri).places(project.tracking.experiment)


def repair(root, was, now):
    """Run the lines of the how-to, with the places put in."""
    (lines,) = re.findall(r"^```python\n(import sqlite3\n.*?)^```", HOW_TO.read_text(), re.S | re.M)
    code = lines.replace("/old/place/houses", was).replace("Path.cwd()", f"Path({now!r})")
    assert was in code
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
