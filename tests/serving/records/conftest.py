"""What these tests stand on: a project, a source, records, and a look at all that was kept."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charkha.project import default_project
from charkha.serving.records import open_folder
from charkha.serving.records.ids import new_ids
from charkha.serving.records.places.local import LocalPlace
from charkha.serving.records.recorder import Recorder
from charkha.serving.records.sealing import seal
from charkha.serving.records.source import Source
from charkha.serving.records.store import Store, Wanted

INPUTS = (
    {"name": "area", "type": "double"},
    {"name": "rooms", "type": "long", "required": False},
    {"name": "district", "type": "string", "required": False},
    {"name": "garden", "type": "boolean", "required": False},
    {"name": "built", "type": "datetime", "required": False},
)
ROW = (42.5, 3, "North", True, "2008-06-01")


def make_source(**changes):
    given = {
        "model": "prices",
        "version": 1,
        "variant": "champion",
        "role": "live",
        "inputs": INPUTS,
        "target": "price",
    }
    return Source(**{**given, **changes})


def make_record(id=None, *, at_us=None, row=ROW, value=181234.5, shares=None, **about):
    at_us = time.time_ns() // 1000 if at_us is None else at_us
    id = id or new_ids(1)[0]
    return (id, at_us, 1500, about.get("key"), about.get("entities"), row, value, shares)


class Kept:
    """One folder of logs and one of sealed files."""

    def __init__(self, root: Path) -> None:
        self.project = default_project(root)
        self.open = open_folder(self.project)
        self.sealed = Path(self.project.records.url)
        self.place = LocalPlace(self.sealed)

    def recorder(self, **settings):
        return Recorder(self.open, **settings)

    def record(self, *records, source=None, **settings):
        """Record, and let go of the log."""
        recorder = self.recorder(**settings)
        recorder.append(recorder.declare(source or make_source()), records)
        recorder.close()

    def seal(self):
        return seal(self.open, self.place)

    def ids(self, **wanted):
        """Return the ids of what a reader finds, sorted, as often as it finds them."""
        found = Store(self.open, self.place).predictions(Wanted(**{"shadow": True, **wanted}))
        return sorted(id for table in found for id in table["id"].to_pylist())

    def logs(self):
        return sorted(self.open.glob("*.log"))

    def files(self):
        """Return the names of the sealed files."""
        return sorted(p.relative_to(self.sealed).as_posix() for p in self.sealed.rglob("*.parquet"))

    def bytes(self):
        """Return all bytes of all files."""
        return b"".join(p.read_bytes() for p in self.project.root.rglob("*") if p.is_file())


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


@pytest.fixture
def source():
    return make_source


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def script():
    """Run Python in a process of its own; files beyond `most_bytes` are refused to it."""

    def script(code, *arguments, most_bytes=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            preexec_fn=limit if most_bytes else None,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parent),
                # what is compiled below the limit would be kept cut off, for everybody
                **({"PYTHONDONTWRITEBYTECODE": "1"} if most_bytes else {}),
            },
        )
        assert done.returncode == 0, done.stderr
        return done

    return script


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
