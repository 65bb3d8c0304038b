"""`charkha render`: the pipeline for an engine, rules for Prometheus, dashboards for Grafana."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from charkha import plugins
from charkha.cli import show
from charkha.cli.arguments import pair, parser, subcommand, subcommands
from charkha.errors import DONE
from charkha.monitoring.rendering.grafana import dashboards, provisioning
from charkha.monitoring.rendering.prometheus import Aims, files
from charkha.monitoring.rendering.texts import as_json, as_yaml
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.plans import plan
from charkha.pipeline.run import load_pipeline
from charkha.project import open_project
from charkha.stamps import stamped, write

if TYPE_CHECKING:
    from charkha.cli.arguments import Subcommands
    from charkha.project import Project


def main(arguments: list[str]) -> int:
    """Run one `charkha render …` command line; return the exit code."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    if given.action in ("prometheus", "grafana"):
        texts = {"prometheus": _prometheus, "grafana": _grafana}[given.action](project, given)
        folder: Path = given.out or project.root / "monitoring" / given.action
    else:
        texts, folder = _engine(project, given), given.out or project.root
    written = write(folder, texts, force=given.force)
    if given.json:
        show.as_json({"folder": folder, "files": list(texts), "written": written})
        return DONE
    for name in texts:
        print(f"{folder / name}{'' if name in written else ', as it was'}")
    return DONE


def _engine(project: Project, given: argparse.Namespace) -> dict[str, str]:
    engine = open_engine(project, given.action)
    params = dict(pair(text) for text in given.param)
    texts = engine.compile(plan(load_pipeline(project), project, params))
    return {name: stamped(text) for name, text in texts.items()}


def _prometheus(project: Project, given: argparse.Namespace) -> dict[str, str]:
    settings = project.monitoring
    aims = Aims(
        project=project.name or project.root.name,
        server=given.server or _server(project),
        alertmanager=given.alertmanager,
        webhook=given.webhook,
        availability=given.availability / 100,
        latency_s=given.latency,
        windows_in_a_row=settings.windows_in_a_row,
        smallest_share=settings.smallest_share,
        least_rows=settings.least_rows,
    )
    return {name: as_yaml(data, "charkha render prometheus") for name, data in files(aims).items()}


def _grafana(project: Project, given: argparse.Namespace) -> dict[str, str]:
    command = "charkha render grafana"
    made = dashboards(
        project.name or project.root.name,
        given.model or project.model.name or None,
        smallest_share=project.monitoring.smallest_share,
        latency_s=given.latency,
    )
    texts = {name: as_yaml(data, command) for name, data in provisioning(given.prometheus).items()}
    return texts | {name: as_json(data, command) for name, data in made.items()}


def _server(project: Project) -> str:
    host = project.serving.host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  # it is compared
    return f"[{host}]:{project.serving.port}" if ":" in host else f"{host}:{project.serving.port}"


def _parser() -> argparse.ArgumentParser:
    made = parser("render", example="charkha render prometheus --server 10.0.0.7:8000")
    among = subcommands(made)
    prometheus = _subcommand(
        among,
        "prometheus",
        "write scraping, recording and alerting rules, their proof, and Alertmanager's routes",
        example="charkha render prometheus --webhook http://127.0.0.1:9095/alerts",
    )
    prometheus.add_argument(
        "--server",
        metavar="HOST:PORT",
        type=_place,
        help="the model server; of [serving] without it",
    )
    prometheus.add_argument(
        "--alertmanager",
        metavar="HOST:PORT",
        type=_place,
        default="127.0.0.1:9093",
        help="127.0.0.1:9093 without",
    )
    prometheus.add_argument(
        "--webhook",
        metavar="URL",
        type=_url,
        help="where Alertmanager posts; its own page alone without it",
    )
    prometheus.add_argument(
        "--availability",
        metavar="PERCENT",
        type=_percent,
        default=99.9,
        help="of the requests that have to be answered; 99.9 without it",
    )
    _add_grafana(among)
    for name in plugins.names("engines"):
        _add_engine(among, name)
    return made


def _add_grafana(among: Subcommands) -> None:
    grafana = _subcommand(
        among,
        "grafana",
        "write three dashboards, and what makes Grafana load them",
        example="charkha render grafana --prometheus http://127.0.0.1:9090",
    )
    grafana.add_argument(
        "--prometheus",
        metavar="URL",
        type=_url,
        default="http://127.0.0.1:9090",
        help="as Grafana reaches it; http://127.0.0.1:9090 without it",
    )
    grafana.add_argument(
        "--model", metavar="NAME", help="shown at first; the project's own without"
    )


def _add_engine(among: Subcommands, name: str) -> None:
    engine = subcommand(
        among,
        name,
        f"write the pipeline as {name} reads it",
        example=f"charkha render {name}",
    )
    engine.add_argument("--out", "-o", metavar="DIR", type=Path, help="the project without it")
    engine.add_argument(
        "--param", metavar="NAME=VALUE", action="append", default=[], help="can be given again"
    )
    engine.add_argument(
        "--force", action="store_true", help="write over files that somebody has changed"
    )


def _subcommand(
    among: Subcommands, name: str, text: str, *, example: str
) -> argparse.ArgumentParser:
    made = subcommand(among, name, text, example=example)
    made.add_argument(
        "--out", metavar="DIR", type=Path, help=f"folder; monitoring/{name} without it"
    )
    made.add_argument(
        "--force", action="store_true", help="write over files that somebody has changed"
    )
    made.add_argument(
        "--latency",
        metavar="SECONDS",
        type=_seconds,
        default=0.5,
        help="that 99 of 100 answers may take; 0.5 without it",
    )
    return made


def _place(text: str) -> str:
    if not re.fullmatch(r"([^\s:/@]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT such as 10.0.0.7:8000")
    return text


def _url(text: str) -> str:
    if not re.match(r"https?://[^\s/:]", text):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// and a host")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0.5") from None


def _percent(text: str) -> float:
    number = _number(text)
    if not 50 <= number < 100:
        raise argparse.ArgumentTypeError(f"{text} is not from 50 to below 100")
    return number


def _seconds(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 30:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 30")
    return number
