"""A project with several versions of one model in a registry, and a server of it in one process."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import Project, default_project
from charkha.serving.app import Endpoint, send_answer
from charkha.serving.control import Control
from charkha.serving.counts import counting
from charkha.serving.lanes import Lane
from charkha.serving.lead import Lead
from charkha.serving.metrics import Meters
from charkha.serving.variants import Switch, Variant
from charkha.serving.wanted import read_asked

MODEL = "prices"


class Slope:
    """A model of the project's own, which has no ONNX twin."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def predict(self, rows: pd.DataFrame) -> Any:
        return self.slope * rows["area"].to_numpy(dtype=float)


def _line(slope: float) -> tuple[Any, pd.DataFrame]:
    rows = pd.DataFrame({"area": np.arange(1.0, 41.0)})
    rows["price"] = slope * rows["area"]
    return LinearRegression().fit(rows[["area"]], rows["price"]), rows


def _with_place(slope: float) -> tuple[Any, pd.DataFrame]:
    rows = pd.DataFrame(
        {"place": np.resize(np.array(["N", "S"], dtype=object), 40), "area": np.arange(40)}
    )
    rows["price"] = slope * rows["area"]
    encode = make_column_transformer((OneHotEncoder(), ["place"]), remainder="passthrough")
    inputs = rows[["place", "area"]]
    return make_pipeline(encode, LinearRegression()).fit(inputs, rows["price"]), rows


Package = Callable[[str, float], Path]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return `package(kind, slope)`: of "line", "native" or "place", which wants another column."""
    made: dict[tuple[str, float], Path] = {}

    def package(kind: str, slope: float) -> Path:
        if (kind, slope) not in made:
            model, rows = _with_place(slope) if kind == "place" else _line(slope)
            folder = tmp_path_factory.mktemp("package") / "package"
            folder.mkdir()
            wish = Wish(name=MODEL, target="price", task="regression", learning_curve=False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # matplotlib's and the converters' own affairs
                build_package(
                    Slope(slope) if kind == "native" else model,
                    test=rows,
                    train=rows,
                    wish=wish,
                    folder=folder,
                )
            made[kind, slope] = folder
        return made[kind, slope]

    return package


class Models:
    """What a project has registered, in the tables that MLflow makes."""

    def __init__(self, project: Project, package: Package) -> None:
        self.project, self._package = project, package
        self.path = project.state / "mlflow.db"
        self.path.parent.mkdir(exist_ok=True)
        self._execute(
            "CREATE TABLE model_versions (name, version, source, creation_time, current_stage)",
            "CREATE TABLE model_version_tags (name, version, key, value)",
            "CREATE TABLE registered_model_aliases (alias, version, name, PRIMARY KEY (name, alias))",
        )

    def _execute(self, *statements: str, values: tuple[object, ...] = ()) -> None:
        with closing(sqlite3.connect(self.path)) as database:
            for statement in statements:
                database.execute(statement, values)
            database.commit()

    def keep(self, folder: Path) -> str:
        """Keep a package among the blobs; return its digest."""
        return open_artifacts(self.project).save(Dir(folder)).digest

    def add(self, version: int, slope: float, kind: str = "line") -> str:
        """Register a version; return the digest of its package."""
        return self.add_package(version, self._package(kind, slope))

    def add_package(self, version: int, folder: Path) -> str:
        digest = self.keep(folder)
        now = int(time.time() * 1000)
        self._execute(
            "INSERT INTO model_versions VALUES (?, ?, 'somewhere', ?, 'None')",
            values=(MODEL, version, now),
        )
        self._execute(
            "INSERT INTO model_version_tags VALUES (?, ?, 'charkha.package', ?)",
            values=(MODEL, version, digest),
        )
        return digest

    def point(self, alias: str, version: int) -> None:
        """Have an alias stand for a version."""
        self._execute(
            "INSERT OR REPLACE INTO registered_model_aliases VALUES (?, ?, ?)",
            values=(alias, version, MODEL),
        )

    def broken(self, version: int, slope: float) -> str:
        """Register a version whose twin answers otherwise than was recorded."""
        other = self._package("line", slope + 1)
        folder = self.project.root / f"broken-{version}" / "package"
        folder.mkdir(parents=True)
        for path in self._package("line", slope).iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
        (folder / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
        return self.add_package(version, folder)


@pytest.fixture
def models(tmp_path: Path, package: Package) -> Models:
    """Version 2 is 2·area and champion, 3 is 3·area, 4 is 4·area."""
    project = default_project(tmp_path)
    made = Models(project, package)
    for version in (2, 3, 4):
        made.add(version, float(version))
    made.point("champion", 2)
    return made


async def _elsewhere(scope: Any, receive: Any, send: Any) -> None:
    await send_answer(send, 404, b"{}", [])


class Server:
    """A lead and one worker, in this process and on this loop; no socket."""

    def __init__(self, project: Project, counts: Path, asked: tuple[str, ...], **how: Any) -> None:
        self.lead = Lead(
            project,
            MODEL,
            asked=[read_asked(text.lstrip("+"), shadow=text.startswith("+")) for text in asked],
            **{"every_s": 0.05, "load_s": 20.0, "swap_s": 10.0, **how},
        )
        self.meters, self.switch = Meters(counts, 0), Switch()
        self.records: list[tuple[str, str, int, tuple[Any, ...]]] = []  # name, role, version, row
        self.made: list[Variant] = []
        self.wrap: Callable[[Any, str], Any] = lambda predictor, role: predictor
        self.control = Control(project, MODEL, self.switch, make_variant=self.make)
        self.endpoint = Endpoint(self.switch, _elsewhere, meters=self.meters)

    def make(self, name: str, role: str, model: Any) -> Variant:
        def keep(records: Any) -> None:
            self.records += [(name, role, model.version, record) for record in records]

        meter = self.meters.variant(model.name, model.version, name, role)
        lane = Lane(
            self.wrap(model.predictor, role),
            keep=keep,
            batched=meter.batch,
            behind=role == "shadow",
        )
        self.made.append(Variant(name, model, lane, meter))
        return self.made[-1]

    async def ask(self, area: float, key: str | None = None, **more: object) -> httpx.Response:
        headers = {} if key is None else {"charkha-key": key}
        return await self.http.post("/predict", json={"area": area, **more}, headers=headers)

    async def until(self, holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
        end = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < end, "it did not come to be"
            await asyncio.sleep(0.01)

    @property
    def versions(self) -> dict[str, int]:
        routes = self.switch.routes
        return {v.name: v.model.version for v in (*routes.live, *routes.shadows)}

    def dropped(self, variant: str, version: int, reason: str) -> float:
        labels = {"model": MODEL, "version": str(version), "variant": variant, "reason": reason}
        return self.meters.cells("charkha_shadow_dropped_total", **labels)[0]


@pytest.fixture
def serving(models: Models) -> Iterator[Any]:
    """Return `serving(*asked)`, a context manager with a Server; "+3" asks for a shadow."""
    with counting() as counts:

        @asynccontextmanager
        async def serving(*asked: str, wrap: Any = None, **how: Any) -> Any:
            server = Server(models.project, counts, asked or ("champion",), **how)
            if wrap is not None:
                server.wrap = wrap
            transport = httpx.ASGITransport(app=server.endpoint)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as http:
                server.http = http
                server.lead.begin()
                try:
                    await server.control.start()
                    server.lead.start()
                    yield server
                finally:
                    server.lead.close()
                    await server.control.close(10.0)
                    server.meters.close()

        yield serving


def changed(folder: Path, to: Path, **described: object) -> Path:
    """Copy a package with another description."""
    to.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            (to / path.name).write_bytes(path.read_bytes())
    about = json.loads((to / "package.json").read_text())
    (to / "package.json").write_text(json.dumps(about | described))
    return to
