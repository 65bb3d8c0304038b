"""Packages as `register` makes them, of models that are trained here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import Project, default_project
from charkha.serving.app import App, Endpoint, Limits, Receive, Scope, Send, read_body, send_answer
from charkha.serving.counts import counting
from charkha.serving.lanes import Lane
from charkha.serving.loading import ServedModel
from charkha.serving.metrics import Meters
from charkha.serving.uvicorn import HttpServer, listen
from charkha.serving.variants import Routes, Switch, Variant


def _prices(folder: Path) -> None:
    area = np.arange(1.0, 41.0)
    district = np.resize(np.array(["North", "South", None, "South"], dtype=object), 40)
    rows = pd.DataFrame({"area": area, "district": district})
    rows["price"] = 2 * area + 10 * (rows["district"] == "North")
    encode = make_column_transformer(
        (OneHotEncoder(categories=[["North"]], handle_unknown="ignore"), ["district"]),
        remainder="passthrough",
    )
    model = make_pipeline(encode, LinearRegression()).fit(rows[["area", "district"]], rows["price"])
    build_package(
        model, test=rows, train=rows, wish=Wish(name="prices", target="price"), folder=folder
    )


def _sold(folder: Path) -> None:
    rows = pd.DataFrame({"area": np.resize(np.arange(1, 9), 64)})
    rows["sold"] = rows["area"] > 4
    model = LogisticRegression(C=100).fit(rows[["area"]], rows["sold"])
    build_package(
        model, test=rows, train=rows, wish=Wish(name="sold", target="sold"), folder=folder
    )


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return `package("prices")` or `package("sold")`, a folder."""
    made: dict[str, Path] = {}

    def package(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # matplotlib's and the converters' own affairs
                {"prices": _prices, "sold": _sold}[name](made[name])
        return made[name]

    return package


class Running:
    """An endpoint on a real socket, in a thread of its own; `call` runs something on its loop."""

    def __init__(self, model: ServedModel, counts: Path, rest: App, limits: Limits | None) -> None:
        self._model, self._counts, self._rest, self._limits = model, counts, rest, limits
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        meters = Meters(self._counts, 0)
        meter = meters.variant(self._model.name, self._model.version, "champion", "live")
        lane = Lane(self._model.predictor)
        self.variant = Variant("champion", self._model, lane, meter)
        switch = Switch(Routes(live=(self.variant,), shares=(1.0,)))
        self.endpoint = Endpoint(switch, self._rest, meters=meters, limits=self._limits)
        listening = listen("127.0.0.1", 0)
        self.address = listening.getsockname()
        self.server = HttpServer(self.endpoint, listening)
        await self.server.start()
        self._started.set()
        await self._stop.wait()
        await self.server.stop()
        lane.close()
        meters.close()

    def call(self, function: Callable[[], object]) -> object:
        async def called() -> object:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(10)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()


async def _elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo which way a request went."""
    body = await read_body(receive, 1 << 20)
    told = f"{scope['method']} {scope['path']} {len(body)}".encode()
    await send_answer(send, 200, told, [])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Return `running(model, limits=…)`, a server that ends with the test."""
    with ExitStack() as open_:
        counts = open_.enter_context(counting())

        def running(model: ServedModel, limits: Limits | None = None) -> Running:
            return open_.enter_context(Running(model, counts, _elsewhere, limits))

        yield running


class Registered:
    """A project in whose registry `times` has versions 1 to 4; version k answers k * area."""

    def __init__(self, root: Path, with_tables: Callable[[Project], Project]) -> None:
        self.root = root
        root.mkdir()
        (root / "charkha.toml").write_text(
            '[project]\nname = "times"\n[serving]\nfollow_s = 0.2\ndrain_s = 2\n'
        )
        project = with_tables(default_project(root))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own affairs
            self._client = MlflowRegistry(project.tracking.uri)._client
            self._client.create_registered_model("times")
            for version in range(1, 5):
                folder = root / f"package-{version}"
                folder.mkdir()
                _times(folder, version)
                package = open_artifacts(project).save(Dir(folder)).digest
                tags = {"charkha.package": package}
                self._client.create_model_version("times", "file:///x", tags=tags)
        self.move("champion", 1)

    def move(self, alias: str, version: int) -> None:
        self._client.set_registered_model_alias("times", alias, str(version))


def _times(folder: Path, factor: int) -> None:
    rows = pd.DataFrame({"area": np.arange(1.0, 41.0)})
    rows["price"] = factor * rows["area"]
    model = LinearRegression().fit(rows[["area"]], rows["price"])
    wish = Wish(name="times", target="price")
    build_package(model, test=rows, train=rows, wish=wish, folder=folder)


@pytest.fixture(scope="session")
def registered(
    tmp_path_factory: pytest.TempPathFactory, with_tables: Callable[[Project], Project]
) -> Registered:
    """Return a project with registered versions; its aliases are moved by `move`."""
    return Registered(tmp_path_factory.mktemp("registered") / "times", with_tables)


class Served:
    """A `charkha serve` in a process of its own; Ctrl-C, SIGTERM and kill -9 are the test's."""

    def __init__(self, root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "charkha", "serve", "--json", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            preexec_fn=_hear_interrupts,
        )
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.told = json.loads(line)
        self.url = self.told["url"]
        host, _, port = self.url.removeprefix("http://").partition(":")
        self.address = (host, int(port))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Return `serve(root, *arguments)`; what still runs is ended with the test."""
    running: list[Served] = []

    def serve(root: Path, *arguments: str, **how: Any) -> Served:
        running.append(Served(root, *arguments, **how))
        return running[-1]

    yield serve
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()
