"""`charkha serve`: answer requests with a model version over HTTP."""

from __future__ import annotations

import json
import logging

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.data.late import late
from charkha.errors import DONE
from charkha.models.registry import find_version
from charkha.project import open_project


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C."""
    made = parser("serve", example="charkha serve house-prices@champion --port 8001")
    made.add_argument(
        "model", metavar="MODEL", nargs="?", help="NAME, NAME@champion or NAME@3; the project's own"
    )
    made.add_argument("--host", help="address; of [serving] host without it")
    made.add_argument(
        "--port", type=int, help="port, 0 takes a free one; of [serving] port without"
    )
    given = made.parse_args(arguments)
    project = open_project(environment=given.env)
    version = find_version(project, given.model or project.model.name)
    server = late("charkha.serving.uvicorn", extra="serving")
    host = given.host or project.serving.host
    port = project.serving.port if given.port is None else given.port
    with server.listen(host, port) as listening:
        with show.working(f"loading {version}"):
            app = late("charkha.serving.building", extra="serving").build(project, version)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        if given.json:
            told = {"url": where, "model": version.name, "version": version.version}
            print(json.dumps(told), flush=True)
        else:
            print(f"{version} answers at {where}/predict, described at {where}/docs", flush=True)
            show.note("Ctrl-C stops it")
        try:
            server.run(app, listening)
        except KeyboardInterrupt:
            show.note("stopped")
    return DONE
