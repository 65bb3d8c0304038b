"""`charkha serve`: answer requests with model versions over HTTP."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from charkha.cli import show
from charkha.cli.arguments import count, parser
from charkha.data.late import late
from charkha.errors import DONE
from charkha.models.registry import parse_reference
from charkha.project import open_project


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    server = late("charkha.serving.server", extra="serving")
    wanted = late("charkha.serving.wanted", extra="serving")
    name, which = parse_reference(given.model or project.model.name)
    asked = [wanted.read_asked(text) for text in given.variant] or [
        wanted.Asked(name=which, which=which)
    ]
    asked += [wanted.read_asked(text, shadow=True) for text in given.shadow]
    settings = project.serving
    wish = server.Wish(
        model=name,
        asked=asked,
        host=given.host or settings.host,
        port=settings.port if given.port is None else given.port,
        workers=given.workers or settings.workers,
        admin_port=settings.admin_port if given.admin_port is None else given.admin_port,
        folder=None if given.state is None else Path(given.state),
        debug=given.debug,
    )
    late("charkha.serving.logs", extra="serving").log_to_stderr(settings.log, debug=given.debug)
    with ExitStack() as working:
        working.enter_context(show.working(f"loading {name}"))

        def started(where: Any) -> None:
            working.close()
            _tell(name, where, as_json=given.json)

        server.serve(project, wish, started)
    show.note("stopped")
    return DONE


def _tell(model: str, where: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"model": model, **vars(where)}), flush=True)
        return
    held = ", ".join(f"{name} {version}" for name, version in where.variants.items())
    print(
        f"{model} ({held}) answers at {where.url}/predict, described at {where.url}/docs",
        flush=True,
    )
    if where.admin_url:
        token = f", with the token {where.admin_token}" if where.admin_token else ""
        print(f"administration at {where.admin_url}/docs{token}", flush=True)
    show.note("Ctrl-C stops it")


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "serve",
        example="charkha serve house-prices --variant champion=90 --variant challenger=10",
    )
    made.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="NAME, NAME@champion or NAME@3; the project's own without it",
    )
    made.add_argument("--host", help="address; of [serving] host without it")
    made.add_argument(
        "--port", type=port, help="port, 0 takes a free one; of [serving] port without"
    )
    made.add_argument(
        "--workers", type=count, help="processes that share the port; of [serving] workers"
    )
    made.add_argument(
        "--variant",
        metavar="WHICH=SHARE",
        action="append",
        default=[],
        help="a version that takes part: champion=90, 3=10, or with a name of its own blue:3=10",
    )
    made.add_argument(
        "--shadow",
        metavar="WHICH",
        action="append",
        default=[],
        help="a version that gets the same rows and answers nobody: challenger, or next:5",
    )
    made.add_argument(
        "--admin-port", type=port, help="port of the administration API; 0 takes a free one"
    )
    made.add_argument("--state", metavar="DIR", help="where this server keeps what it holds")
    return made


def port(text: str) -> int:
    """Read a port for argparse."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {number}")
    return number
