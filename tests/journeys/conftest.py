"""The house-prices project after its first turns: made once, and copied for who needs it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

CHARKHA = Path(sys.executable).with_name("charkha")
TURNS = (("run",), ("run", "--param", "trees=120"))  # the champion, and its challenger
PLACES = (  # in MLflow's database; as docs/how-to/tracking.md has it for a project that was moved
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


class Houses:
    """The house-prices project, used through the command line."""

    def __init__(self, root, site, said=()):
        self.root = root
        self.first, self.second = (*said, None, None)[:2]  # what its runs said
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CHARKHA_", "MLFLOW_"))},
            "DVC_SITE_CACHE_DIR": str(site),
        }

    def type(self, *words, stdin=None, cwd=None):
        """Type a command; return the finished process, with text."""
        return subprocess.run(
            [CHARKHA, *words],
            cwd=cwd or self.root,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def json(self, *words, **more):
        """Type a command that has to work with --json; return what it said."""
        done = self.type(*words, "--json", **more)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


def moved(text, was, now):
    return text.replace(str(was), str(now))


def copied(kept, folder):
    """Copy a kept project below `folder`, and what it told of its place with it."""
    was, now = kept / "houses", folder / "houses"
    shutil.copytree(was, now, symlinks=True)
    if (now / ".charkha" / "mlflow.db").exists():
        with closing(sqlite3.connect(now / ".charkha" / "mlflow.db")) as database:
            for table, column in PLACES:
                change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"  # noqa: S608
                database.execute(change, (f"{was.as_uri()}/", f"{now.as_uri()}/"))
            database.commit()
    for state in now.glob(".charkha/runs/*/mlflow.json"):
        state.write_text(moved(state.read_text(), was, now))
    said = json.loads(moved((kept / "said.json").read_text(), was, now))
    return Houses(now, folder / "dvc", said)


@pytest.fixture(scope="session")
def turned(once):
    """Return `turned(turns, folder)`: the project below `folder`, after so many of `TURNS`."""

    def kept(turns):
        def make(folder):
            if turns == 0:
                made = Houses(folder / "houses", folder / "dvc")
                done = made.type("init", "houses", "--template", "house-prices", cwd=folder)
                assert done.returncode == 0, done.stderr
                said = []
            else:
                made = copied(kept(turns - 1), folder)
                before = [one for one in (made.first, made.second) if one]
                said = [*before, made.json(*TURNS[turns - 1])]
            (folder / "said.json").write_text(json.dumps(said))

        return once(f"turn-{turns}", make)

    return lambda turns, folder: copied(kept(turns), folder)


@pytest.fixture(scope="session")
def houses(turned, tmp_path_factory):
    """A project whose first turn is done, for all journeys that only look at it."""
    return turned(1, tmp_path_factory.mktemp("journey"))


@pytest.fixture
def fresh(turned, tmp_path):
    """A project of its own for journeys that break things; nothing has run in it."""
    return turned(0, tmp_path)
