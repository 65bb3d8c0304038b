"""A plan as a DAG's text, and an Airflow that does not answer; tests/live/test_airflow.py has the real one."""

import ast
import os
import socket
from pathlib import Path

import pytest

from charkha.cli.main import main
from charkha.errors import ProjectError, Unavailable
from charkha.pipeline import submitting
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.plans import plan
from charkha.pipeline.run import load_pipeline
from charkha.pipeline.runs import list_runs
from charkha.project import open_project
from charkha.stamps import stamped

GOLDENS = Path(__file__).parent / "golden" / "airflow"
GOLDEN = GOLDENS / "houses.py"
TOML = """
[project]
name = "houses"
[pipeline]
entry = "{name}.py:prices"
schedule = "0 3 * * *"
timezone = "Europe/Berlin"
[airflow]
folder = "/srv/houses"
python = "/srv/houses/.venv/bin/python"
[airflow.variables]
AWS_ENDPOINT_URL = "http://127.0.0.1:9000"
"""
PIPELINE = """
from charkha import dataset, pipeline, step


@step(retries=2, retry_wait_s=30)
def rows(year: int) -> list[int]:
    return [year]


@step(timeout_s=600)
def fit(rows: list, alpha: float) -> float:
    return alpha


@step(group="judged", timeout_s=60)
def scores(models: list) -> float:
    return 1.0


@step(group="judged", timeout_s=60)
def best(score: float, models: list) -> float:
    return score


@step(name="class")
def published(model: float, region: str) -> str:
    return region


@pipeline
def prices(
    year: int = 2006,
    alphas: list = [0.1, 1.0],
    region: str = "north",
    dry: bool = False,
    since: str = None,
    limits: dict[str, int] = {"north": 3},
    twice: bool = False,
) -> None:
    table = rows(year)
    models = fit.each(alpha=alphas)(table)
    published(best(scores(models), models), region)
    if twice:
        rows(year + 1)


@pipeline
def five_hundred() -> None:
    value = rows(1)
    for number in range(499):
        value = rows(value)


@pipeline
def odd() -> None:
    table = rows(1)
    published(fit.each(alpha=table)(table), "north")


@step(name="fit.elements")
def taken(models: list) -> int:
    return 1


@pipeline
def alike() -> None:
    taken(fit.each(alpha=rows(1))([1]))


@step(cpu=2, memory="4GB", gpu=1, retries=1)
def grown(rows: list, depth: int) -> int:
    return depth


@step(cpu=0.5)
def chosen(models: list) -> int:
    return max(models)


@pipeline
def forest(year: int = 2006) -> None:
    chosen(grown.each(depth=[1, 2])(rows(year)))


@step(name="tidy.sh")
def tidied() -> int:
    return 1


@pipeline
def shelled() -> None:
    tidied()


@step(gpu=0.5)
def shared() -> int:
    return 1


@pipeline
def halved() -> None:
    shared()


@step
def counted(sales: list, streets: list) -> int:
    return 1


@pipeline
def watched() -> None:
    counted(dataset("sales"), dataset("streets"))


@step(name="the best")
def spaced() -> int:
    return 1


@pipeline
def named() -> None:
    spaced()


@step(gpu=1)
def wide() -> int:
    return 1


@pipeline
def heavy() -> None:
    wide()
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    name = f"houses_{os.getpid()}_{abs(hash(tmp_path)) % 10**8}"  # a module is imported once
    (tmp_path / "charkha.toml").write_text(TOML.format(name=name))
    (tmp_path / f"{name}.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compiled(root, pipeline="prices", **params):
    """Return the one file that Airflow gets: its path and its text."""
    file = root / "charkha.toml"
    file.write_text(file.read_text().replace(":prices", f":{pipeline}"))
    project = open_project(root)
    engine = open_engine(project, "airflow")
    [found] = engine.compile(plan(load_pipeline(project), project, params)).items()
    return found


def test_the_dag_of_an_example_is_the_golden_one(root):
    """To renew it after a change that is meant: write `stamped(text)` there, and read the difference."""
    name, text = compiled(root)
    assert name == "dags/houses-prices.py"
    assert stamped(text) == GOLDEN.read_text()


CONTAINERS = {
    "docker": """
tasks = "docker"
image = "registry.example.org/houses:1"
folder = "/srv/houses"
mounts = ["/srv/blobs:/srv/blobs", "secrets:/run/secrets:ro"]
network = "backend"
""",
    "kubernetes": """
tasks = "kubernetes"
image = "registry.example.org/houses:1"
namespace = "team"
service_account = "pipeline-runner"
pod_template = "/etc/airflow/pod.yaml"
""",
}


def contained(root, tasks, more=""):
    """Have the project's tasks be containers or pods."""
    file = root / "charkha.toml"
    section = file.read_text().partition("[airflow]")[0]
    variables = '[airflow.variables]\nAWS_ENDPOINT_URL = "http://10.0.0.7:9000"\n'
    file.write_text(f"{section}[airflow]{CONTAINERS[tasks]}{more}{variables}")


@pytest.mark.parametrize("tasks", ["docker", "kubernetes"])
def test_the_dag_of_containers_is_the_golden_one(root, tasks):
    """To renew it after a change that is meant: write `stamped(text)` there, and read the difference."""
    contained(root, tasks)
    name, text = compiled(root, "forest")
    assert name == "dags/houses-forest.py"
    assert stamped(text) == (GOLDENS / f"{tasks}.py").read_text()


@pytest.mark.parametrize(
    ("tasks", "more", "pipeline", "what"),
    [
        ("docker", 'namespace = "team"\n', "forest", "namespace is for tasks that are pods"),
        (
            "kubernetes",
            'network = "backend"\n',
            "forest",
            "network is for tasks that are containers",
        ),
        ("kubernetes", 'folder = "/srv"\n', "forest", "a pod starts in the working folder"),
        ("docker", "", "shelled", "step 'tidy.sh': ends like the name of a file"),
        ("docker", "", "halved", "step 'shared': asks for gpu=0.5, and docker gives whole ones"),
    ],
)
def test_what_containers_cannot_have_is_refused_with_what_to_do(root, tasks, more, pipeline, what):
    contained(root, tasks, more)
    with pytest.raises(ProjectError, match=what) as refused:
        compiled(root, pipeline)
    assert refused.value.fix


def test_containers_without_an_image_are_refused(root):
    file = root / "charkha.toml"
    file.write_text(file.read_text().replace("[airflow]", '[airflow]\ntasks = "docker"'))
    with pytest.raises(ProjectError, match="which image holds the project"):
        compiled(root)


def test_a_dag_imports_airflows_sdk_and_nothing_of_ours(root):
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(compiled(root)[1]))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"json", "datetime", "airflow.sdk"}


def test_parameters_of_one_run_leave_the_dag_as_it_is(root):
    assert compiled(root, year=2009, alphas=[3.0]) == compiled(root)


def test_parameters_that_give_other_steps_get_a_dag_of_their_own_that_has_no_schedule(root):
    name, text = compiled(root, twice=True)
    usual, _ = compiled(root)
    assert name.startswith("dags/houses-prices-")
    assert name != usual
    assert "schedule=None" in text
    assert 'rows_2 = run("rows-2"' in text


@pytest.mark.parametrize("cron", [True, False])
def test_new_versions_of_what_the_pipeline_reads_start_runs_beside_its_schedule(root, cron):
    file = root / "charkha.toml"
    given = file.read_text().replace("[airflow]", "[airflow]\non_data = true")
    file.write_text(given if cron else given.replace('schedule = "0 3 * * *"', ""))
    _, text = compiled(root, "watched")
    tree = ast.parse(text)
    [schedule] = [
        word.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "DAG"
        for word in node.keywords
        if word.arg == "schedule"
    ]
    any_of = "AssetAny(Asset('charkha://houses/sales'), Asset('charkha://houses/streets'))"
    on_time = "timezone='Europe/Berlin', run_immediately=timedelta(0)"
    timetable = f"CronTriggerTimetable('0 3 * * *', {on_time})"
    both = f"AssetOrTimeSchedule(timetable={timetable}, assets={any_of})"
    assert ast.unparse(schedule) == (both if cron else any_of)
    assert max(map(len, text.splitlines()[2:])) <= 100


@pytest.mark.parametrize("tasks", ["process", "docker"])
def test_the_loop_is_a_dag_of_its_own_in_which_one_look_runs_at_a_time(root, tasks):
    file = root / "charkha.toml"
    file.write_text(file.read_text().replace("[airflow]", '[airflow]\nloop = "*/10 * * * *"'))
    if tasks == "docker":
        contained(root, tasks, 'loop = "*/10 * * * *"\n')
    project = open_project(root)
    pipeline = load_pipeline(project)
    texts = open_engine(project, "airflow").compile(plan(pipeline, project, {}))
    assert list(texts) == ["dags/houses-prices.py", "dags/houses-prices-loop.py"]
    text = texts["dags/houses-prices-loop.py"]
    ast.parse(text)
    assert '"*/10 * * * *",\n        timezone="Europe/Berlin",' in text
    assert "max_active_runs=1" in text
    assert ('return f"{CHARKHA} loop"' if tasks == "process" else '[*CHARKHA, "loop"]') in text
    assert "airflow.providers" not in text or tasks == "docker"
    unusual = open_engine(project, "airflow").compile(plan(pipeline, project, {"twice": True}))
    assert len(unusual) == 1


def test_new_data_of_a_pipeline_that_reads_no_dataset_is_refused(root):
    file = root / "charkha.toml"
    file.write_text(file.read_text().replace("[airflow]", "[airflow]\non_data = true"))
    with pytest.raises(ProjectError, match="the pipeline reads no dataset"):
        compiled(root)


def test_five_hundred_steps_are_five_hundred_tasks(root):
    _, text = compiled(root, "five_hundred")
    assert text.count(" = run(") == 500
    ast.parse(text)


def test_an_environment_has_a_dag_of_its_own_and_its_tasks_are_told(root, monkeypatch):
    file = root / "charkha.toml"
    file.write_text(f"{file.read_text()}\n[env.prod.pipeline]\nworkers = 2\n")
    monkeypatch.setenv("CHARKHA_ENV", "prod")
    name, text = compiled(root)
    assert name == "dags/houses-prices-prod.py"
    assert 'CHARKHA = "/srv/houses/.venv/bin/python -m charkha --env prod"' in text


@pytest.mark.parametrize(
    ("pipeline", "what"),
    [
        ("named", "step 'the best': has a name of other signs"),
        ("alike", "step 'fit.elements': is called like a task that Charkha adds"),
        ("heavy", "step 'wide': asks for gpu, and airflow starts a process"),
    ],
)
def test_what_airflow_cannot_have_is_refused_with_the_step(root, pipeline, what):
    with pytest.raises(ProjectError, match=what) as refused:
        compiled(root, pipeline)
    assert refused.value.fix


def test_an_airflow_that_does_not_answer_is_said_with_its_address_and_the_run_has_failed(root):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = root / "charkha.toml"
    file.write_text(
        file.read_text().replace("[airflow]", f'[airflow]\nurl = "http://127.0.0.1:{port}"')
    )
    project = open_project(root)
    with pytest.raises(Unavailable, match=f"Airflow at http://127.0.0.1:{port} does not answer"):
        submitting.submit(project, "airflow")
    [told] = list_runs(project)
    assert told.status == "failed"
    assert "airflow did not take it" in str(told.error)


def test_a_file_that_somebody_has_changed_is_written_over_only_by_force(root):
    assert main(["render", "airflow"]) == 0
    file = root / "dags" / "houses-prices.py"
    file.write_text(file.read_text().replace("retries=2", "retries=5"))
    assert main(["render", "airflow"]) == 1
    assert "retries=5" in file.read_text()
    assert main(["render", "airflow", "--force"]) == 0
    assert file.read_text() == GOLDEN.read_text()


def test_an_address_a_variable_and_a_mount_that_are_none_are_refused(root):
    file = root / "charkha.toml"
    good = file.read_text()
    for line, what in (
        ('url = "127.0.0.1:8080"', "asked over HTTP"),
        ("variables = {TRIES = 3}", "the variable TRIES is no text"),
        ('mounts = ["/srv/blobs"]', "does not say what is mounted where"),
    ):
        section = good.partition("[airflow]")[0]
        file.write_text(f"{section}[airflow]\n{line}\n")
        with pytest.raises(ProjectError, match=what):
            open_project(root)
