"""A loop around a registry that is real, with a service, a trainer and an observer in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from charkha.errors import Unavailable
from charkha.ledger import Ledger, ledger_url
from charkha.loop.controller import Around, Loop
from charkha.loop.observing import Seen
from charkha.loop.training import Trained
from charkha.loop.triggers import Signal
from charkha.loop.turns import KIND, Kept
from charkha.models.champion import JUDGED_AGAINST
from charkha.models.mlflow import MlflowRegistry
from charkha.models.registry import list_versions
from charkha.project import Project, open_project
from charkha.release import controller as releases
from charkha.release.controller import Surroundings
from charkha.release.kept import Release
from charkha.release.platforms.memory import MemoryPlatform
from charkha.release.starting import ProjectAliases, start
from charkha.states import States

from ..release import world as released  # noqa: TID252  # its neighbour

MODEL = "prices"
OLD, NEW, BAD, OTHER = 2, 3, 4, 5  # versions in the registry: champion, passed, refused, a person's
SETTINGS = """
[project]
name = "prices"
[release]
watch_s = 60
most_s = 4000
requests = 50
labels = 50
latency_margin = 20.0
required = ["errors"]
error_margin = 0.2
[loop]
steps = "50,100"
"""


def make_registry(
    root: Path, with_tables: Callable[[Project], Project] = lambda project: project
) -> None:
    """Write the project and its registry, which costs seconds: a test copies the folder."""
    root.mkdir()
    (root / "charkha.toml").write_text(SETTINGS)
    client = MlflowRegistry(with_tables(open_project(root)).tracking.uri)._client
    client.create_registered_model(MODEL)
    for version in (1, OLD, NEW, BAD, OTHER):
        tags = {
            "charkha.package": f"package-{version}",
            "charkha.gate": "refused" if version == BAD else "passed",
            "charkha.because": "rmse 9 is not better" if version == BAD else "rmse 3 is better",
            JUDGED_AGAINST: f"champion:package-{OLD}",
        }
        client.create_model_version(MODEL, "file:///x", tags=tags)
    client.set_registered_model_alias(MODEL, "champion", str(OLD))


Killed = released.Killed


class Traffic(released.World):
    """The service of the release's own tests; who starts a release is the loop."""

    def start(self, **how) -> None:
        pass


class Aliases(ProjectAliases):
    """The registry's aliases, which the platform follows as a server does."""

    def __init__(self, project, platform) -> None:
        super().__init__(project, MODEL)
        self.moves, self._platform = [], platform

    def promote(self, version, because):
        try:
            super().promote(version, because)
        finally:  # a server looks by itself
            self.follow()

    def roll_back(self, version, because):
        try:
            super().roll_back(version, because)
        finally:
            self.follow()

    def follow(self):
        """Have the server see who is champion."""
        now = self.champion()
        self._platform.move("champion", now)
        if now != (self.moves or [OLD])[-1]:
            self.moves.append(now)


class Observer:
    """Sees what the test says, and the wishes that were served."""

    def __init__(self) -> None:
        self.signals = (Signal(kind="drift", fires=True, because="area went up", since=5.0),)
        self.data, self.labels, self.causes = {"ames": "md5:1"}, 3, ()

    def look(self, champion, kept, now):
        return Seen(signals=self.signals, data=self.data, labels=self.labels, causes=self.causes)


class Trainer:
    """Makes the version that the test says; the same one for the same parameters."""

    def __init__(self) -> None:
        self.makes, self.fails, self.asked, self.meanwhile = NEW, None, [], lambda: None
        self.project, self.goes_on = None, 0  # looks that find it running elsewhere
        self.stopped, self.away = [], False

    def stop(self, turn):
        if self.away:
            raise Unavailable("the engine does not answer")
        self.stopped.append(turn)

    def train(self, params, turn, over):
        self.asked.append(dict(params))
        self.meanwhile()
        if self.away:
            raise Unavailable("the engine does not answer")
        if over():
            return Trained(run=None, failed="it was stopped")
        if self.goes_on:
            self.goes_on -= 1
            return Trained(run=f"run-of-{turn}", goes_on=True)
        if self.fails is not None:
            return Trained(run=None, failed=self.fails)
        return Trained(run=f"run-of-{self.makes}")

    def made(self, model, run):
        number = int(run.removeprefix("run-of-"))
        return next((v for v in list_versions(self.project, model) if v.version == number), None)


class World:
    """Everything around the loop of one model, which may be killed at any call to it."""

    def __init__(self, root: Path, *, settings="", **how) -> None:
        with (root / "charkha.toml").open("a") as file:
            file.write(settings)
        self.project = open_project(root)
        folder = root / "service"
        folder.mkdir()
        self.service = Traffic(folder, **{"per_s": 3, **how})
        self.platform = MemoryPlatform(OLD)
        self.service.platform = self.platform
        self.aliases = Aliases(self.project, self.platform)
        self.trainer, self.observer = Trainer(), Observer()
        self.trainer.project = self.project
        url = ledger_url(self.project)
        self.states, self.ledger = States(url), Ledger(url)
        self.calls, self.dies_at, self.dies = 0, 0, "before"
        self.away: set[str] = set()  # what does not answer
        self.alerts: list[tuple] = []  # causes and keys of unknown ones, look by look
        self.loop = self.another("ann")

    def fatal(self, name):
        return released.Fatal(getattr(self, name), self)

    @contextmanager
    def release(self):
        yield Surroundings(
            platform=self.fatal("platform"),
            aliases=self.fatal("aliases"),
            records=self.service.records,
            states=self.fatal("states"),
            ledger=self.fatal("ledger"),
            clock=lambda: self.service.now,
        )

    def another(self, who):
        """Return another loop of the same model."""
        around = Around(
            observer=self.fatal("observer"),
            trainer=self.fatal("trainer"),
            release=self.release,
            states=self.fatal("states"),
            ledger=self.fatal("ledger"),
            alert=lambda causes, unknown: self.alerts.append((causes, unknown)),
            clock=lambda: self.service.now,
        )
        return Loop(self.project, MODEL, around, who=who)

    def kept(self) -> Kept | None:
        found = self.states.read(KIND, MODEL)
        return None if found is None else Kept.from_json(found.value)

    @property
    def turn(self):
        kept = self.kept()
        return None if kept is None else kept.turn

    def kept_release(self) -> Release | None:
        found = self.states.read(releases.KIND, MODEL)
        return None if found is None else Release.from_json(found.value)

    def pass_time(self, seconds=60.0):
        self.service.pass_time(seconds)

    def start_release(self, version):
        """As a person does."""
        steps = (50.0, 100.0)
        with self.release() as around:
            return start(self.project, around, f"{MODEL}@{version}", steps=steps)

    def drive(self, most=100):
        """Carry out the release as `charkha release run` does."""
        with self.release() as around:
            controller = releases.Controller(MODEL, around, who="eve")
            for _ in range(most):
                did = controller.tick()
                if did == "ended":
                    return controller.close()
                if did in ("looked", "waiting", "busy"):
                    self.pass_time()
        raise AssertionError("the release does not end")

    def run(self, most=200):
        """Look until the turn has ended; a killed loop is followed by another one."""
        for _ in range(most):
            try:
                did = self.loop.tick()
            except Killed:
                self.dies_at = 0
                self.service.now += 61  # until the leases of the killed one are over
                self.loop = self.another("bob")
                continue
            if did == "ended" or (did == "nothing" and self.turn is not None):
                return self.turn
            if did in ("waiting", "busy", "nothing"):
                self.pass_time()
        raise AssertionError(f"it does not end: {self.turn}")

    def story(self):
        """Return what the ledger says of turns."""
        told = self.ledger.read(KIND)
        return [(d.numbers["phase"], d.numbers["outcome"], d.numbers["version"]) for d in told]

    def releases(self):
        """Return the candidates of all releases that were begun, as the ledger has them."""
        told = {d.numbers["release"]: d.numbers["to"] for d in self.ledger.read(releases.KIND)}
        return list(told.values())

    def champion(self):
        return self.aliases.champion()

    def close(self):
        self.service.close()
        self.states.close()
        self.ledger.close()
