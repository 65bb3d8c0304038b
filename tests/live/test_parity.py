"""One pipeline on every engine: the same digests, the same metrics, and each finds another's results."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from secrets import token_hex

import pytest

import charkha
from charkha.pipeline.engines.contract import digests
from charkha.pipeline.runs import list_runs
from charkha.plugins import SHIPPED
from charkha.project import open_project

from .airflow_session import AIRFLOW

pytestmark = pytest.mark.timeout(900)
CHARKHA = Path(sys.executable).with_name("charkha")
SOURCES = Path(charkha.__file__).parent.parent
MORE = """

@step
def years(train: pd.DataFrame) -> list[int]:
    return [1960, 1980, 2000]


@step
def built_since(train: pd.DataFrame, year: int) -> float:
    return float(train.loc[train["Year_Built"] >= year, TARGET].median())


@step(retries=2)
def shaky(medians: list) -> float:
    mark = Path(os.environ["CHARKHA_TEST_MARKS"], "shaky")
    if not mark.exists():
        mark.touch()
        raise ConnectionError("the first try fails")
    return medians[-1] - medians[0]


@step(group="ends")
def in_thousands(dollars: float) -> float:
    return dollars / 1000


@step(group="ends", outputs=("metrics",))
def of_newer_houses(thousands: float) -> dict[str, float]:
    return {"newer_cost_more": thousands}


@pipeline
def parity(year: int = 2009, month: int = 12, trees: int = 20) -> None:
    sales = clean(dataset("ames", checked=True))
    train, test = split(sales, labelled(target=TARGET), year=year, month=month)
    medians = built_since.each(year=years(train))(train=train)
    of_newer_houses(in_thousands(shaky(medians)))
    model = fit(train, trees=trees)
    register(model, train=train, test=test, target=TARGET, metrics=evaluate(model, test))
"""
LOCALLY = {"local": (), "workers": ("--workers", "2")}
ENGINES = ["workers", "shell", "dvc", "mlflow", "ray", "kubeflow", "sagemaker", "airflow"]
PARAM = ("--param", "trees=30")  # so that what stands before the model is cached


class Houses:
    """The house-prices project, with more steps, in a folder of its own."""

    def __init__(self, folder):
        self.root, self._folder = folder / "houses", folder
        self.marks = folder / "marks"
        self._seen = set()

    def forget(self, tables):
        """Leave what the steps have returned, and nothing else of what was run."""
        for name in ("mlflow.db", "mlartifacts", "runs", "tracking"):
            place = self.root / ".charkha" / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        shutil.copyfile(tables, self.root / ".charkha" / "mlflow.db")
        (self.marks / "shaky").unlink()

    def type(self, *words):
        """Type a command that has to work; return what it printed."""
        done = subprocess.run(
            [CHARKHA, *words],
            cwd=self.root if self.root.exists() else self._folder,
            env={
                **os.environ,
                "PATH": f"{CHARKHA.parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(SOURCES),
                "DVC_SITE_CACHE_DIR": str(self._folder / "dvc"),
                "CHARKHA_TEST_MARKS": str(self.marks),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, engine):
        """Run the pipeline; return what `charkha runs` knows of it."""
        where = LOCALLY.get(engine, ("--on", engine))
        self.type("run", *where, *PARAM)
        [told] = [one for one in list_runs(open_project(self.root)) if one.id not in self._seen]
        self._seen.add(told.id)
        assert told.status == "finished", told.error
        return told

    def set(self, lines):
        """Add lines to charkha.toml."""
        with (self.root / "charkha.toml").open("a") as toml:
            toml.write(f"\n{lines}\n")

    def metrics(self):
        """Return those of the version that was registered."""
        return json.loads(self.type("models", "show", "house-prices@1", "--json"))["metrics"]


@pytest.fixture(scope="session")
def begun(once, tables):
    """Return `begun(folder)`: the project there, in which a first run has left its results alone."""

    def make(folder):
        made = Houses(folder)
        made.type("init", "houses", "--template", "house-prices")
        file = made.root / "pipeline.py"
        head, body = file.read_text().split("import pandas as pd\n", 1)
        file.write_text(
            f"{head}import os\nfrom pathlib import Path\n\nimport pandas as pd\n{body}{MORE}"
        )
        toml = made.root / "charkha.toml"
        toml.write_text(toml.read_text().replace(":house_prices", ":parity"))
        made.marks.mkdir()
        made.type("run")
        made.forget(tables)

    def begun(folder):
        shutil.copytree(once("parity", make), folder, dirs_exist_ok=True, symlinks=True)
        return Houses(folder)

    return begun


@pytest.fixture(scope="session")
def local(once, begun):
    """Return the digests and the metrics of a run on this machine."""

    def make(folder):
        houses = begun(folder)
        told = houses.run("local")
        kept = {"how": hows(told), "digests": digests(told), "metrics": houses.metrics()}
        (folder / "kept.json").write_text(json.dumps(kept))

    return json.loads((once("parity-local", make) / "kept.json").read_text())


@pytest.mark.parametrize(
    "engine", [pytest.param(one, marks=AIRFLOW if one == "airflow" else ()) for one in ENGINES]
)
def test_every_engine_makes_the_same_and_finds_what_another_has_made(
    engine, begun, local, tmp_path, request
):
    houses = begun(tmp_path)
    if prepare := PREPARED.get(engine):
        prepare(houses, request)
    told = houses.run(engine)
    assert hows(told) == local["how"]
    assert told.steps["shaky"].attempts == 2
    assert digests(told) == local["digests"]
    assert houses.metrics() == local["metrics"]
    again = houses.run("shell" if engine == "workers" else "local")
    assert {step.how for step in again.steps.values()} == {"reused"}
    assert digests(again) == local["digests"]


def hows(told):
    return {name: step.how for name, step in told.steps.items()}


def on_airflow(houses, request):
    houses.set(request.getfixturevalue("airflow").settings(houses.root.parent))


def on_ray(houses, request):
    """Keep Ray from writing a token into the home of whoever runs this."""
    set_variable = request.getfixturevalue("monkeypatch").setenv
    set_variable("RAY_AUTH_MODE", "token")
    set_variable("RAY_AUTH_TOKEN", token_hex(16))


def on_kubeflow(houses, request):
    houses.set('[kubeflow]\nimage = "localhost/none"')


def on_sagemaker(houses, request):
    """Move what is cached into a bucket, and MLflow to where jobs reach it."""
    s3, sagemaker, tables, uri = map(
        request.getfixturevalue, ("s3", "sagemaker", "tables", "mlflow_uri")
    )
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{houses.root.parent.name}:1"
    sagemaker.images[image] = houses.root
    set_variable = request.getfixturevalue("monkeypatch").setenv
    set_variable("AWS_ACCESS_KEY_ID", s3.access_key)
    set_variable("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    set_variable("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", s3.endpoint_url)
    set_variable("AWS_DEFAULT_REGION", "us-east-1")
    set_variable("CHARKHA_TEST_MARKS", str(houses.marks))
    houses.set(
        f'[blobs]\nurl = "s3://{s3.make_bucket()}/blobs"\nendpoint_url = "{s3.endpoint_url}"'
    )
    houses.set(
        f'[sagemaker]\nimage = "{image}"\nendpoint_url = "{sagemaker.url}"\n'
        'role = "arn:aws:iam::123456789012:role/charkha"'
    )
    shutil.rmtree(houses.root / ".charkha" / "blobs")
    marks, houses.marks = houses.marks, houses.root.parent / "marks-before"  # shaky is to run again
    houses.marks.mkdir()
    houses.type("run")
    houses.forget(tables)
    houses.marks = marks
    houses.set(f'[tracking]\nuri = "{uri}"')


# What an engine needs; the others need nothing.
PREPARED = {
    "airflow": on_airflow,
    "kubeflow": on_kubeflow,
    "ray": on_ray,
    "sagemaker": on_sagemaker,
}


def test_all_engines_that_are_shipped_are_held_to_it():
    assert SHIPPED["engines"].keys() <= {*ENGINES}
