"""charkha.toml parsed once into typed settings for one environment; nothing else reads it.

A relative path in the file starts at the project's root, and is absolute here. A secret is a
reference (`env:NAME`, `file:PATH`) until `resolve_secret` reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from charkha.definition import (
    Definition,
    Problem,
    http_problem,
    is_reference,
    nearest,
    setting,
    settings_of,
)
from charkha.engine_settings import (
    AirflowSettings,
    DvcSettings,
    KubeflowSettings,
    RaySettings,
    SagemakerSettings,
    schedule_problem,
)
from charkha.errors import ProjectError, UserError
from charkha.running import Running, find_running

FILE = "charkha.toml"
_HTTP = re.compile(r"https?://[^/:]")
_Where = Callable[[str, str], str]  # section, key -> "charkha.toml:14"

# Every metric that a gate can name, and which way is better; models/metrics.py says the rest.
BETTER: dict[str, Literal["lower", "higher"]] = {
    **dict.fromkeys(("mae", "mse", "rmse", "log_loss"), "lower"),
    **dict.fromkeys(("r2", "accuracy", "precision", "recall", "f1", "auc"), "higher"),
    **dict.fromkeys(("precision_macro", "recall_macro", "f1_macro"), "higher"),
    **dict.fromkeys(("precision_weighted", "recall_weighted", "f1_weighted"), "higher"),
}


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """Which function makes the graph, and how its steps run."""

    entry: str = setting("file of the pipeline; `file.py:function` where it has two", "pipeline.py")
    params: dict[str, object] = setting("parameters that `--param` does not give", dict)
    workers: int = setting("steps that run at the same time, each in a process", 1, least=1)
    schedule: str | None = setting("cron of an engine that has a scheduler, `0 3 * * *`", None)
    timezone: str = setting("of the schedule, such as `Europe/Berlin`", "UTC")
    gpus: tuple[str, ...] | None = setting(
        "devices for steps with `gpu=`, as `CUDA_VISIBLE_DEVICES` calls them, where that is not set; "
        "those that `nvidia-smi` lists without it; `[]`: none are handed out",
        None,
    )
    gpu_locks: Path = setting(
        "folder of the locks that keep runs of this machine off each other's GPUs",
        Path("/tmp/charkha-gpus"),  # noqa: S108  # where every user's runs find it, always
        path=True,
    )

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of devices that are one, or several in one text; of a schedule."""
        gpus = given.get("gpus", ())
        named = [str(gpu) for gpu in gpus] if isinstance(gpus, list) else []
        if any("," in gpu for gpu in named):
            return "gpus", "each device is a text of its own", 'gpus = ["0", "1"]'
        if len(set(named)) < len(named):
            return "gpus", "the same device stands there twice", 'gpus = ["0", "1"]'
        return schedule_problem(given)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where datasets lie here, and where DVC keeps their versions."""

    folder: Path = setting(
        "folder of the datasets and of their `.dvc` files, in the project",
        Path("data"),
        path=True,
        inside=True,
    )
    remote: str = setting(
        "DVC's remote: a folder or `s3://bucket/prefix`", ".charkha/remote", path=True
    )
    endpoint_url: str | None = setting("S3 endpoint of the remote, where it is not AWS", None)
    pull: bool = setting(
        "bring a dataset that a step has to load and that is not here from the remote: for tasks of "
        "an engine, in whose image it is not",
        False,
    )


@dataclass(frozen=True, kw_only=True)
class BlobSettings:
    """Where the bytes of artifacts lie."""

    url: str = setting("a folder or `s3://bucket/prefix`", ".charkha/blobs", path=True)
    endpoint_url: str | None = setting("S3 endpoint, where it is not AWS", None)
    access_key: str | None = setting("S3 access key; without it AWS's own chain", None, secret=True)
    secret_key: str | None = setting("S3 secret key", None, secret=True)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address that no store of blobs speaks."""
        scheme, separator, _ = str(given.get("url", "")).partition("://")
        if not separator or scheme in ("s3", *_offered("charkha.blobs")):
            return None
        return (
            "url",
            f"no store of blobs speaks {scheme}://",
            'url = "s3://bucket/prefix", or a folder',
        )


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """The MLflow that remembers runs and model versions."""

    uri: str = setting(
        "`sqlite:///file`, `http(s)://…` or `postgresql://…`; with a password in it: `env:NAME`",
        "sqlite:///.charkha/mlflow.db",
        url=True,
    )
    artifacts: str = setting(
        "MLflow's artifacts: a folder or `s3://bucket/prefix`", ".charkha/mlartifacts", path=True
    )
    experiment: str = setting("MLflow's experiment for the runs", "", project_name=True)
    endpoint_url: str | None = setting("S3 endpoint of the artifacts, where it is not AWS", None)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address without a scheme, which MLflow takes for a folder."""
        uri = given.get("uri")
        if not isinstance(uri, str) or is_reference(uri) or "://" in uri or uri == "databricks":
            return None
        what = (
            "uri has no scheme such as sqlite:/// or http://, and MLflow writes to no plain folder"
        )
        if re.fullmatch(r"[\w.-]+:\d+/?", uri):
            return "uri", what, f'uri = "http://{uri}"'
        file = re.fullmatch(r"(?:sqlite:)?([\w./-]+\.(?:db|sqlite3?))", uri)
        return "uri", what, f'uri = "sqlite:///{file[1] if file else ".charkha/mlflow.db"}"'


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """Where decisions, releases and alerts are remembered."""

    url: str = setting(
        "`sqlite:///file` or `postgresql://…`; with a password in it: `env:NAME`",
        "sqlite:///.charkha/ledger.db",
        url=True,
    )

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address that is neither SQLite's nor PostgreSQL's."""
        url = str(given.get("url", "sqlite:///"))
        if is_reference(url) or re.match(r"sqlite:///.|postgresql(\+psycopg)?://.", url):
            return None
        fix = 'url = "sqlite:///.charkha/ledger.db" or "postgresql://HOST/DATABASE"'
        return "url", "the ledger is a file of SQLite or a database of PostgreSQL", fix


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the model is called and what it predicts."""

    name: str = setting("name in the registry", "", name=True, project_name=True)
    target: str | None = setting("column that the model predicts", None)
    task: Literal["regression", "classification"] | None = setting(
        "told from the target without it", None, choices=("regression", "classification")
    )


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """A rule that a candidate has to pass; one `[[gate]]` for each."""

    metric: str = setting("a metric of the held-out rows, such as `rmse` or `auc`")
    at_most: float | None = setting("highest value that passes", None)
    at_least: float | None = setting("lowest value that passes", None)
    better_than: Literal["champion"] | None = setting(
        "compare with the champion on the same rows", None, choices=("champion",)
    )
    by: float = setting("how much better, in the unit of the metric", 0.0, least=0)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of a rule that says nothing, or the contrary of what is meant."""
        metric = str(given["metric"])
        if metric not in BETTER:
            meant = nearest(metric.lower(), BETTER)
            fix = f"did you mean {meant!r}?" if meant else f"use one of: {', '.join(BETTER)}"
            return "metric", f"no metric is called {metric!r}", fix
        better = BETTER[metric]
        wrong, right = ("at_least", "at_most") if better == "lower" else ("at_most", "at_least")
        if wrong in given:
            what = f"{wrong} would refuse good models, for a {better} {metric} is better"
            return wrong, what, f"{right} = {given[wrong]}"
        if not given.keys() & {"at_most", "at_least", "better_than"}:
            return "metric", "this gate lets every model pass", 'better_than = "champion"'
        if "by" in given and "better_than" not in given:
            return "by", "better by this, than what?", 'better_than = "champion"'
        return None


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Where `charkha serve` listens, what it takes, and what it tells."""

    host: str = setting("address; `0.0.0.0` to be reached from other machines", "127.0.0.1")
    port: int = setting("port; 0 takes a free one", 8000, least=0, most=65535)
    workers: int = setting("processes that share the port", 1, least=1, most=1024)
    body_mb: int = setting("largest body of a request, in MiB", 32, least=1, most=2048)
    rows: int = setting("most rows of a request", 100_000, least=1)
    requests: int = setting("requests at once, of a worker; more get 429", 1024, least=1)
    batch_rows: int = setting("rows that the model is asked for at once, at most", 256, least=1)
    timeout_s: float = setting("seconds until a request has its answer or 503", 30.0, least=0.01)
    drain_s: float = setting(
        "seconds that a server which was told to stop stays, for load balancers to notice",
        10.0,
        least=0,
    )
    follow_s: float = setting(
        "seconds between two looks at the registry, for aliases that moved; 0: never", 5.0, least=0
    )
    ledger_s: float = setting(
        "seconds between two looks at the ledger, for the verdicts among the metrics; 0: never",
        15.0,
        least=0,
    )
    admin_port: int | None = setting(
        "port of the administration API, on loopback; 0 takes a free one; none without it",
        None,
        least=0,
        most=65535,
    )
    admin_token: str | None = setting(
        "token that the administration API asks for; without it one is made at each start",
        None,
        secret=True,
    )
    auth: Literal["auto", "off", "required"] = setting(
        "whether an API key is needed; `auto`: on every address but loopback",
        "auto",
        choices=("auto", "off", "required"),
    )
    keys: Path = setting(
        "file of the API keys, made by `charkha keys add`", Path(".charkha/keys.json"), path=True
    )
    log: Literal["auto", "json", "text"] = setting(
        "how the log looks; `auto`: text on a terminal, else JSON",
        "auto",
        choices=("auto", "json", "text"),
    )
    access_log: float = setting(
        "part of the requests that the log names, without their inputs, from 0 to 1",
        0.0,
        least=0,
        most=1,
    )
    otlp_endpoint: str | None = setting(
        "where OpenTelemetry's collector takes traces, such as `http://127.0.0.1:4318`", None
    )
    trace_share: float = setting(
        "part of the requests that are traced where the caller does not say, from 0 to 1",
        1.0,
        least=0,
        most=1,
    )

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of what fits neither the rest nor a collector."""
        port = given.get("admin_port")
        if port and port == given.get("port", 8000):
            what = "the administration API has a port of its own"
            return "admin_port", what, f"admin_port = {int(str(port)) % 65535 + 1}"
        return http_problem(given, "otlp_endpoint", "the collector", "http://127.0.0.1:4318")


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """What a server remembers of its predictions, and where."""

    enabled: bool = setting("keep a record of each prediction", True)
    url: str = setting(
        "where sealed records go: a folder or `s3://bucket/prefix`", ".charkha/records", path=True
    )
    endpoint_url: str | None = setting("S3 endpoint, where it is not AWS", None)
    access_key: str | None = setting("S3 access key; without it AWS's own chain", None, secret=True)
    secret_key: str | None = setting("S3 secret key", None, secret=True)
    durability: Literal["process", "power"] = setting(
        "what a record outlives once its answer was sent: the end of the process, or a power cut",
        "process",
        choices=("process", "power"),
    )
    sample: float = setting(
        "part of the predictions that is kept, from 0 to 1", 1.0, least=0, most=1
    )
    redact: tuple[str, ...] = setting(
        "inputs and entities, or the target, whose values are never written down", ()
    )
    on_full: Literal["serve", "refuse"] = setting(
        "answer without a record, or refuse with 503, while the disk takes none",
        "serve",
        choices=("serve", "refuse"),
    )
    segment_mb: int = setting("size at which a log is sealed, in MB", 32, least=1, most=1024)
    segment_s: float = setting("age at which a log is sealed, in seconds", 3600.0, least=1)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an address that no records can go to."""
        scheme, separator, _ = str(given.get("url", "")).partition("://")
        if not separator or scheme == "s3":
            return None
        return "url", f"no records go to {scheme}://", 'url = "s3://bucket/prefix", or a folder'


@dataclass(frozen=True, kw_only=True)
class ReleaseSettings:
    """How a new version gets its traffic, and when it is worse."""

    alpha: float = setting(
        "probability of ever rolling back a version that is no worse", 0.05, least=0.0001, most=0.5
    )
    loss_weight: float = setting(
        "part of `alpha` that loss gets, on the scale of the others", 6.0, least=0
    )
    error_weight: float = setting("the same of errors", 2.0, least=0)
    latency_weight: float = setting("the same of latency", 1.0, least=0)
    prediction_weight: float = setting(
        "the same of the distribution of predictions; with 0 a metric is not judged", 1.0, least=0
    )
    loss_margin: float = setting(
        "more loss than this matters, as a part of the baseline's", 0.05, least=0
    )
    error_margin: float = setting(
        "more errors than this matter, as a part of all requests", 0.005, least=0
    )
    latency_margin: float = setting(
        "slower by more than this matters, as a part of the baseline's", 0.2, least=0
    )
    prediction_margin: float = setting(
        "largest gap between the distributions of predictions, from 0 to 1", 0.2, least=0, most=1
    )
    required: tuple[str, ...] = setting(
        "what has to be shown before a promotion: errors, latency, predictions, loss",
        ("errors", "latency"),
    )
    loss: Literal["auto", "absolute", "squared", "zero-one"] = setting(
        "loss of a prediction; `auto`: absolute of numbers, zero-one of labels",
        "auto",
        choices=("auto", "absolute", "squared", "zero-one"),
    )
    requests: int = setting("requests of each version in each stage, at least", 100, least=1)
    labels: int = setting("ground truths of each version before losses are compared", 100, least=10)
    pairs: int = setting(
        "ground truths of each version that a release may collect", 1000, least=100
    )
    step_s: float = setting("seconds with traffic in each stage, at least", 60.0, least=0)
    most_s: float = setting("seconds with traffic until it is decided, at most", 86_400.0, least=1)
    at_end: Literal["roll back", "promote", "hold"] = setting(
        "what happens then: `hold` waits for a person",
        "roll back",
        choices=("roll back", "promote", "hold"),
    )
    watch_s: float = setting(
        "seconds with traffic that a promoted version is watched", 3600.0, least=0
    )
    watch_share: float = setting(
        "percent that the version before keeps meanwhile, to be compared with",
        5.0,
        least=0,
        most=50,
    )
    every_s: float = setting("seconds between two looks", 10.0, least=0.1)
    server: str | None = setting("address of the model server; of `[serving]` without it", None)
    admin: str | None = setting(
        "address of its administration API; of `[serving]` without it", None
    )

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of a metric that there is not, or of weights that are all 0."""
        metrics = ("errors", "latency", "predictions", "loss")
        required = given.get("required", ())
        for name in required if isinstance(required, list | tuple) else ():
            if name not in metrics:
                fix = f"use some of: {', '.join(metrics)}"
                return "required", f"no metric of a release is called {name!r}", fix
        for key in ("server", "admin"):
            if not _HTTP.match(str(given.get(key, "http://HOST"))):
                what = f"{key} is asked over HTTP, and this is no address of that kind"
                return key, what, f'{key} = "http://127.0.0.1:{8000 if key == "server" else 8001}"'
        weights = ("loss_weight", "error_weight", "latency_weight", "prediction_weight")
        if all(given.get(name) == 0 for name in weights):
            return "loss_weight", "with all weights 0 nothing is judged", "loss_weight = 6"
        return None


@dataclass(frozen=True, kw_only=True)
class MonitoringSettings:
    """When a window counts as drifted from what the model was trained on, or does worse there."""

    false_alarms: float = setting(
        "how often a window without drift may be called drifted, all columns together",
        0.01,
        least=1e-6,
        most=0.5,
    )
    smallest_shift: float = setting(
        "smallest change of a distribution that matters, as a shift in standard deviations",
        0.1,
        least=0,
    )
    smallest_share: float = setting(
        "smallest part of the rows that matters where values are missing, new or out of range",
        0.02,
        least=0,
        most=1,
    )
    least_rows: int = setting("rows of a window below which nothing is said of it", 200, least=2)
    windows_in_a_row: int = setting(
        "windows in which a column has to drift, or a metric to be lower, one after another, for an "
        "alarm",
        2,
        least=1,
    )
    smallest_loss: float = setting(
        "smallest loss of performance that matters, as a part of the loss on the held-out rows",
        0.1,
        least=0,
    )
    least_labels: int = setting(
        "rows of a window with ground truth below which nothing is said of performance",
        100,
        least=20,
    )
    window: str | None = setting(
        "size of one window: rows (`1000`) or time (`6h`); without it all that is checked is one",
        None,
    )
    ignore: tuple[str, ...] = setting("columns that are not looked at, such as dates", ())

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of a window that is none; monitoring/windows.py reads it."""
        window = str(given.get("window", "1000"))
        if re.fullmatch(r"\s*0*[1-9][\d_,]*\s*(s|min|h|d|w)?\s*", window):
            return None
        return "window", f"{window!r} is no size of a window", 'window = "1000", of rows, or "6h"'


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Who is told when something is wrong, beside the log."""

    webhook: str | None = setting(
        "address that takes messages as Slack does: `env:NAME`, as whoever has it can write there",
        None,
        secret=True,
    )
    alertmanager: str | None = setting(
        "Prometheus' Alertmanager, such as `http://127.0.0.1:9093`", None
    )
    silence_s: float = setting(
        "seconds without a prediction that are an alert; 0: never, as nights may be quiet",
        0.0,
        least=0,
    )

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of an Alertmanager that nobody can post to."""
        return http_problem(given, "alertmanager", "an Alertmanager", "http://127.0.0.1:9093")


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What `charkha loop` trains on when it trains again, and how the result gets its traffic."""

    every_s: float = setting("seconds between two looks of `--daemon`", 60.0, least=0.1)
    train_on: Literal["everything", "window", "since change"] = setting(
        "which labelled records the pipeline is told to train on; `since change`: from the first "
        "window that drifted or lost, else everything",
        "everything",
        choices=("everything", "window", "since change"),
    )
    window: str = setting("that window: so many labelled rows (`1000`), or an age (`90d`)", "90d")
    engine: str = setting(
        "where a turn trains: `local` is here, or another one as `charkha run --on` takes it",
        "local",
    )
    since_param: str | None = setting(
        "parameter of the pipeline that gets the first moment to train on; empty: everything", None
    )
    until_param: str | None = setting(
        "parameter of the pipeline that gets the moment of the trigger", None
    )
    strategy: Literal["canary", "blue-green", "shadow", "rolling", "none"] = setting(
        "of the release that follows; `none`: what passed the gate becomes champion at once",
        "canary",
        choices=("canary", "blue-green", "shadow", "rolling", "none"),
    )
    steps: str | None = setting("its steps, as `charkha release start --steps` takes them", None)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of a window that no parameter tells the pipeline of."""
        if given.get("train_on", "everything") != "everything" and "since_param" not in given:
            what = f"train_on = {str(given['train_on'])!r} has to reach the pipeline"
            return "train_on", what, 'since_param = "NAME", a parameter of the pipeline'
        return None


@dataclass(frozen=True, kw_only=True)
class TriggerSettings:
    """What makes `charkha loop` train again; one `[[trigger]]` for each, drift and loss without any."""

    on: Literal["drift", "performance", "data", "schedule"] = setting(
        "columns drifted; predictions got worse; new data is there; it is time",
        choices=("drift", "performance", "data", "schedule"),
    )
    cron: str | None = setting("with `schedule`: when, in UTC, such as `0 3 * * 1`", None)
    labels: int | None = setting(
        "ground truths that have to be new since the last turn; with `data` they are reason enough",
        None,
        least=1,
    )
    cool_down_s: float | None = setting(
        "seconds after the end of the last turn, whatever began it, in which this begins none; a day "
        "without it, for `schedule` none",
        None,
        least=0,
    )
    budget: int = setting("turns that it may begin within 30 days", 10, least=0)

    @staticmethod
    def problem(given: Mapping[str, object]) -> Problem | None:
        """Return key, fault and fix of what another trigger would need."""
        on = given["on"]
        if on == "schedule" and len(str(given.get("cron", "")).split()) != 5:
            what = "a schedule has five fields: minute, hour, day, month, day of the week"
            return "on" if "cron" not in given else "cron", what, 'cron = "0 3 * * 1"'
        if on != "schedule" and "cron" in given:
            return "cron", f"{on!r} needs no schedule", 'on = "schedule"'
        return None


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the project is called, and what it may do."""

    root: Path
    environment: str
    name: str = setting("name of the project", "", name=True, folder_name=True)
    allow_pickle: bool = setting("keep values that no codec knows as pickles", False)
    pipeline: PipelineSettings
    airflow: AirflowSettings
    kubeflow: KubeflowSettings
    sagemaker: SagemakerSettings
    ray: RaySettings
    data: DataSettings
    dvc: DvcSettings
    blobs: BlobSettings
    tracking: TrackingSettings
    ledger: LedgerSettings
    model: ModelSettings
    gate: tuple[GateSettings, ...]
    serving: ServingSettings
    records: RecordSettings
    release: ReleaseSettings
    monitoring: MonitoringSettings
    alerts: AlertSettings
    loop: LoopSettings
    trigger: tuple[TriggerSettings, ...]

    @property
    def state(self) -> Path:
        """The folder of all that is not in git: runs, cache, and by default blobs and MLflow."""
        return self.root / ".charkha"


SECTIONS: dict[str, type] = {
    "project": Project,
    "pipeline": PipelineSettings,
    "airflow": AirflowSettings,
    "kubeflow": KubeflowSettings,
    "sagemaker": SagemakerSettings,
    "ray": RaySettings,
    "data": DataSettings,
    "dvc": DvcSettings,
    "blobs": BlobSettings,
    "tracking": TrackingSettings,
    "ledger": LedgerSettings,
    "model": ModelSettings,
    "gate": GateSettings,
    "serving": ServingSettings,
    "records": RecordSettings,
    "release": ReleaseSettings,
    "monitoring": MonitoringSettings,
    "alerts": AlertSettings,
    "loop": LoopSettings,
    "trigger": TriggerSettings,
}
LISTS = ("gate", "trigger")


def open_project(start: Path | None = None, environment: str | None = None) -> Project:
    """Return the project around `start` (the current folder without it).

    The environment is the one asked for, else that of `CHARKHA_ENV`, else `local`. While `charkha up`
    runs here, a release finds its server where nothing else was set.

    Raises:
        ProjectError: there is no charkha.toml, or something in it is wrong.
    """
    file = _find((start or _here()).resolve())
    environment = environment or os.environ.get("CHARKHA_ENV") or "local"
    definition = Definition(file, SECTIONS, LISTS)
    where = partial(definition.where, environment)
    project = _build(file.parent, definition.tables(environment), environment, where)
    running = find_running(project.state)
    if running is None or running.environment != environment:
        return project
    return _joined(project, running)


def default_project(root: Path) -> Project:
    """Return a project of which nothing was defined: for notebooks and tests."""
    return _build(root.resolve(), {}, "local", lambda section, key: FILE)


def resolve_secret(reference: str) -> str:
    """Return what `env:NAME` or `file:PATH` refers to.

    Raises:
        UserError: there is no such variable or file.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        if name not in os.environ:
            raise UserError(f"the environment variable {name} is not set", fix=f"export {name}=…")
        return os.environ[name]
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except OSError as e:
        raise UserError(
            f"the secret in {name} cannot be read: {e.strerror}",
            fix="write it there, readable for you alone",
        ) from e
    except UnicodeDecodeError as e:
        raise UserError(
            f"the secret in {name} cannot be read: it is no text",
            fix="write it there, in UTF-8, readable for you alone",
        ) from e


def read_secret(project: Project, section: str, key: str) -> str | None:
    """Return what a secret of charkha.toml refers to; None where nothing was set.

    Raises:
        ProjectError: there is no such variable or file; says which line wants it.
    """
    reference = getattr(getattr(project, section), key)
    if reference is None:
        return None
    try:
        return resolve_secret(reference)
    except UserError as e:
        definition = Definition(project.root / FILE, SECTIONS, LISTS)  # again, for its line alone
        where = definition.where(project.environment, section, key)
        raise _wanted(e, f"[{section}] {key}", where) from e


def ledger_address(project: Project) -> str:
    """Return what `[ledger] url` says or refers to: an address with its password.

    Raises:
        ProjectError: it refers to something that is not there, or that is no address.
    """
    given = project.ledger.url
    if not is_reference(given):
        return given
    url = read_secret(project, "ledger", "url") or ""
    if problem := LedgerSettings.problem({"url": url}):
        raise ProjectError(  # without the address, which may have a password in it
            f"{problem[1]}: {given} is no address", where=FILE, fix=problem[2]
        )
    return url


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as e:
        raise UserError("the current folder is no longer there", fix="cd to another one") from e


def _find(start: Path) -> Path:
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ProjectError(
        f"no {FILE} here, nor in a folder above", where=str(start), fix="charkha init DIR; cd DIR"
    )


def _build(root: Path, tables: Mapping[str, Any], environment: str, where: _Where) -> Project:
    name = tables.get("project", {}).get("name") or root.name

    def read(section: str, kind: type) -> object:
        given = tables.get(section, ())
        if section in LISTS:
            return tuple(kind(**_values(kind, item, root, name)) for item in given)
        values = _values(kind, given or {}, root, name)
        if kind is TrackingSettings:
            values["uri"] = _tracking_uri(values["uri"], where)
        return kind(**values)

    sections: dict[str, Any] = {
        section: read(section, kind) for section, kind in SECTIONS.items() if kind is not Project
    }
    own = _values(Project, tables.get("project", {}), root, name)
    return Project(root=root, environment=environment, **own, **sections)


def _joined(project: Project, running: Running) -> Project:
    """Return the project with the addresses of what runs, where it says nothing itself."""
    given, serving = project.release, project.serving
    return replace(
        project,
        serving=replace(serving, admin_token=serving.admin_token or running.token),
        release=replace(
            given,
            server=given.server or running.addresses.get("server"),
            admin=given.admin or running.addresses.get("admin"),
        ),
    )


def _values(kind: type, given: Mapping[str, Any], root: Path, name: str) -> dict[str, Any]:
    """Return the values of a section, given or by default, with their references made absolute."""
    values = {}
    for declared in settings_of(kind):
        marks = declared.metadata
        by_default = (
            name if marks.get("project_name") or marks.get("folder_name") else declared.default
        )
        value = given.get(declared.name, by_default)
        if value is MISSING:  # params: the class makes an empty one
            continue
        if marks.get("path") and value is not None:
            absolute = _absolute(str(value), root)
            value = Path(absolute) if str(declared.type).startswith("Path") else absolute
        elif (marks.get("url") or marks.get("secret")) and value is not None:
            value = _absolute_reference(value, root)
        if isinstance(value, list):
            value = tuple(value)
        values[declared.name] = float(value) if isinstance(by_default, float) else value
    return values


def _tracking_uri(given: str, where: _Where) -> str:
    """Return the address, where `given` is a reference the one that it stands for."""
    if not is_reference(given):
        return given
    try:
        uri = resolve_secret(given)
    except UserError as e:
        raise _wanted(e, "[tracking] uri", where("tracking", "uri")) from e
    if problem := TrackingSettings.problem({"uri": uri}):
        raise ProjectError(  # its fix would repeat the address, which may have a password in it
            f"{problem[1]}: {given} is no address",
            where=where("tracking", "uri"),
            fix="let it be sqlite:///FILE, http(s)://… or postgresql://…",
        )
    return uri


def _wanted(error: UserError, setting: str, where: str) -> ProjectError:
    return ProjectError(f"{error.what}, and {setting} wants it", where=where, fix=error.fix)


def _offered(group: str) -> list[str]:
    """Return the names of backends that others install; late, as reading them all costs 30 ms."""
    return [point.name for point in import_module("importlib.metadata").entry_points(group=group)]


def _absolute(path: str, root: Path) -> str:
    return path if "://" in path else str(root / os.path.expanduser(path))


def _absolute_reference(value: str, root: Path) -> str:
    for start in ("sqlite:///", "file:"):
        path = value.removeprefix(start)
        if path != value and not path.startswith("//"):
            return start + _absolute(path, root)
    return value
