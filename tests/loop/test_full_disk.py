"""A disk that is full while the wheel turns: a file system of its own, in memory, that is filled up."""

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress

import pytest

from charkha.errors import Unavailable
from charkha.models.registry import list_versions

from .test_loop import PROMOTED, moves
from .world import NEW, OLD, World

BLOCK = 4096


class Disk:
    """A small file system."""

    def __init__(self, place):
        self.place, self._filling = place, place / "filling"

    def fill(self, *, left=0):
        """Have so many blocks left."""
        with self._filling.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * BLOCK)
        os.truncate(self._filling, max(0, self._filling.stat().st_size - left * BLOCK))

    def free(self):
        self._filling.unlink(missing_ok=True)

    @contextmanager
    def full(self, *, left=0):
        self.fill(left=left)
        try:
            yield
        finally:
            self.free()


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount") or "no mount"
    command = [mount, "-t", "tmpfs", "-o", "size=16m", "charkha", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here, so no file system that could be full")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here, so none can be full: {done.stderr}")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def world(made, disk):
    """Return `world(…)`: a service whose registry, or all that it keeps, is on the small disk."""
    worlds = []

    def world(folder, *, settings=""):
        shutil.copytree(made, folder)
        if folder.parent != disk.place:
            database = disk.place / "mlflow.db"
            (folder / ".charkha" / "mlflow.db").rename(folder / "away.db")
            shutil.move(folder / "away.db", database)
            settings += f'[tracking]\nuri = "sqlite:///{database}"\n'
        worlds.append(World(folder, settings=settings))
        return worlds[-1]

    yield world
    for each in worlds:
        each.close()


def tick(made):
    """Look once, as a loop that waits for what does not answer; return what did not."""
    try:
        if made.loop.tick() in ("waiting", "busy"):
            made.pass_time()
    except Unavailable as e:
        made.pass_time(1)
        return str(e)
    return None


def is_whole(made):
    assert made.run().outcome == "promoted"
    assert (made.story(), made.releases(), made.champion()) == (PROMOTED, [NEW], NEW)
    assert [subject for _, subject, _ in moves(made)] == [f"prices@{NEW}"]
    aliases = {v.version: v.aliases for v in list_versions(made.project) if v.aliases}
    assert aliases == {OLD: ("previous",), NEW: ("champion",)}
    return True


@pytest.mark.parametrize("left", [0, 2, 4])
def test_a_release_waits_to_promote_while_the_disk_below_the_registry_is_full(
    world, disk, tmp_path, left
):
    """With a few blocks left some of its moves go through: the next look does the rest."""
    made = world(tmp_path / "project")
    with disk.full(left=left):
        said = [tick(made) for _ in range(12)]
        if left == 0:
            assert "full" in said[-1], said
            assert made.turn.phase == "releasing"
            assert made.kept_release().state.phase == "watching"
            assert (made.champion(), made.aliases.moves) == (OLD, [])
            assert moves(made) == []
    assert is_whole(made)


def test_without_a_strategy_too_the_promotion_waits(world, disk, tmp_path):
    made = world(tmp_path / "project", settings='strategy = "none"\n')
    with disk.full():
        said = [tick(made) for _ in range(5)]
        assert "full" in said[-1], said
        assert (made.turn.phase, made.champion(), moves(made)) == ("releasing", OLD, [])
    made.run()
    assert (made.story(), made.champion()) == (PROMOTED, NEW)


def test_a_loop_goes_on_though_the_disk_below_all_that_it_keeps_is_full_again_and_again(
    world, disk
):
    made = world(disk.place / "project")
    said = []
    while made.turn is None or made.turn.phase != "ended":
        with disk.full():
            said += [tick(made), tick(made)]
            assert said[-1] is not None
        tick(made)
        assert len(said) < 200
    assert is_whole(made)
