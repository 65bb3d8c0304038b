"""A project whose first turn is done, made once for all journeys that only look at it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHARKHA = Path(sys.executable).with_name("charkha")


class Houses:
    """The house-prices project, used through the command line."""

    def __init__(self, root, site):
        self.root = root
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


@pytest.fixture(scope="session")
def houses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journey")
    made = Houses(folder / "houses", folder / "dvc")
    done = made.type("init", "houses", "--template", "house-prices", cwd=folder)
    assert done.returncode == 0, done.stderr
    made.first = made.json("run")
    return made


@pytest.fixture
def fresh(tmp_path):
    """A project of its own for journeys that break things; nothing has run in it."""
    made = Houses(tmp_path / "houses", tmp_path / "dvc")
    done = made.type("init", "houses", "--template", "house-prices", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return made
