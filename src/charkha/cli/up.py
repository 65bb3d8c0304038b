"""`charkha up`: run the whole platform here, under one supervisor with one log and Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.cli.main import INTERRUPTED
from charkha.cli.serve import port
from charkha.data.late import late
from charkha.errors import DONE, THEY, BackendError, MissingExtra, UserError
from charkha.models.registry import CHAMPION, list_versions
from charkha.project import Project, open_project, read_secret
from charkha.running import Running, claim, keep_token, write_running
from charkha.supervision.log import Log, LogFile
from charkha.supervision.parts import Event, Part, Tell
from charkha.supervision.ports import HIGHEST, Ports
from charkha.supervision.supervisor import ALL, Supervisor

_UI_PORT = 5000  # MLflow's own
_LOOPBACK = "127.0.0.1"
_SERVING = ("numpy", "onnxruntime", "fastapi", "uvicorn", "httptools", "msgspec", "pyarrow")
_CODES = {"ended": DONE, "killed": INTERRUPTED, "given up": THEY}
_NEWS = {"died", "given-up", "killed", "guarded"}  # bad ones
_PURPOSES = {
    "server": ("predictions", "POST /predict; /docs is a page to try it"),
    "admin": ("administration", "versions and their shares, for charkha release"),
    "loop": ("loop", "trains again when there is a reason, and releases what is better"),
    "mlflow": ("runs and models", "MLflow's page"),
}


def main(arguments: list[str]) -> int:
    """Run until Ctrl-C or SIGTERM; 3 where the model server had to be given up."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    _check(project)
    if not given.no_loop:
        late("charkha.loop.opening", extra="loop").check_settings(project, served=True)
    with claim(project.state, _waiting) as lock, Ports() as ports, _telling(project, given) as tell:
        addresses = _addresses(project, given, ports, tell)
        token = None if project.serving.admin_token else secrets.token_urlsafe(24)
        running = Running(
            pid=os.getpid(),
            started_at=time.time(),
            environment=project.environment,
            model=project.model.name,
            addresses=addresses,
            token=token and keep_token(project.state, token),
            pids={},
        )
        write_running(project.state, running)

        def wrote(pids: Mapping[str, int]) -> None:
            nonlocal running
            running = replace(running, pids=dict(pids))
            with suppress(OSError):  # a full disk: the addresses are there already
                write_running(project.state, running)

        def heard(event: Event) -> None:
            tell(event)
            if event.kind == "all-ready":
                _tell_ready(running, event, project, as_json=given.json)

        parts = list(_parts(project, addresses, given))
        outcome = asyncio.run(Supervisor(parts, heard, wrote, holding=(lock,)).run())
        tell(Event("ended", ALL, f"all parts have ended: {outcome}", {"outcome": outcome}))
    return _CODES[outcome]


def _parser() -> argparse.ArgumentParser:
    made = parser("up", example="charkha up --port 9000 --no-ui")
    made.add_argument(
        "--port", type=port, help="of the model server, 0 takes a free one; of [serving] port"
    )
    made.add_argument("--no-ui", action="store_true", help="without MLflow's page")
    made.add_argument("--no-loop", action="store_true", help="without the loop")
    return made


def _check(project: Project) -> None:
    """Refuse what would let the model server die again and again."""
    for module in _SERVING:
        if find_spec(module) is None:
            raise MissingExtra(module, "serving")
    serving = project.serving
    read_secret(project, "serving", "admin_token")
    keys = late("charkha.serving.keys", extra="serving")
    keys.keys_for(serving.auth, serving.host, serving.keys)
    name = project.model.name
    try:
        versions = list_versions(project, name)
    except BackendError as e:
        show.note(f"whether {name} has a champion cannot be told: {e}")
        return
    if not any(CHAMPION in version.aliases for version in versions):
        raise UserError(
            f"{name} has no champion yet, so there is nothing to answer with",
            fix=f"charkha models promote {name}@{versions[-1].version}"
            if versions
            else "charkha run",
        )


def _waiting() -> None:
    show.note("waiting for what a killed charkha up left here to end")


def _addresses(
    project: Project, given: argparse.Namespace, ports: Ports, tell: Tell
) -> dict[str, str]:
    """Return where everything will answer, on ports that are free now."""
    serving = project.serving
    host = _LOOPBACK if serving.host == "0.0.0.0" else serving.host  # noqa: S104  # compared
    host = "::1" if host == "::" else host

    def address(name: str, listens: str, asked: str, wanted: int) -> str:
        found = ports.find(listens, wanted)
        if wanted not in (0, found):
            said = f"{wanted} is taken, so {found}"
            tell(Event("moved", name, said, {"wanted": wanted, "port": found}))
        return f"http://{f'[{asked}]' if ':' in asked else asked}:{found}"

    wanted = serving.port if given.port is None else given.port
    found = {"server": address("server", serving.host, host, wanted)}
    admin = serving.admin_port
    if admin is None:
        last = _port_of(found["server"]) == HIGHEST
        admin = _port_of(found["server"]) + 1 if wanted and not last else 0
    found["admin"] = address("server", _LOOPBACK, _LOOPBACK, admin)
    if not given.no_ui and _has_ui(project, tell):
        ui = _UI_PORT if wanted else 0
        found["mlflow"] = address("mlflow", _LOOPBACK, _LOOPBACK, ui)
    return found


def _has_ui(project: Project, tell: Tell) -> bool:
    uri = project.tracking.uri
    if uri.startswith(("http://", "https://", "databricks")):
        said = f"no page of MLflow is started: it runs at {re.sub(r'//[^/@]*@', '//…@', uri)}"
    elif find_spec("mlflow") is None:
        said = "no page of MLflow is started: it is not installed (pip install 'charkha[local]')"
    else:
        return True
    tell(Event("skipped", "mlflow", said, {}))
    return False


def _parts(
    project: Project, addresses: Mapping[str, str], given: argparse.Namespace
) -> Iterator[Part]:
    """Yield what runs, in the order in which it is started."""
    ours: tuple[str, ...] = (sys.executable, "-P", "-m", "charkha", "--env", project.environment)
    ours += ("--debug",) if given.debug else ()
    serving = project.serving
    server, admin = (str(_port_of(addresses[name])) for name in ("server", "admin"))
    yield Part(
        name="server",
        command=(
            *(*ours, "serve", project.model.name),
            *("--port", server, "--admin-port", admin),
        ),
        folder=project.root,
        probe=f"{addresses['server']}/readyz",
        ends=1,
        patience_s=serving.drain_s + serving.timeout_s + 5,
        essential=True,
    )
    if not given.no_loop:
        yield Part(
            name="loop", command=(*ours, "loop", "--daemon"), folder=project.root, patience_s=15
        )
    if "mlflow" in addresses:
        yield _ui(project, addresses["mlflow"])


def _ui(project: Project, address: str) -> Part:
    tracking = project.tracking
    variables = {  # an address may hold a password, and everybody can read a command line
        "MLFLOW_BACKEND_STORE_URI": tracking.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": tracking.artifacts,
        "MLFLOW_DISABLE_TELEMETRY": "true",  # that of its page too
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # four processes for what nobody uses here
    }
    if tracking.endpoint_url:
        variables["MLFLOW_S3_ENDPOINT_URL"] = tracking.endpoint_url
    return Part(
        name="mlflow",
        command=(
            *(sys.executable, "-P", "-m", "mlflow", "server", "--no-serve-artifacts"),
            *("--host", _LOOPBACK, "--port", str(_port_of(address)), "--workers", "1"),
        ),
        folder=project.state,
        variables=variables,
        probe=f"{address}/health",
        ends=2,
    )


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextmanager
def _telling(project: Project, given: argparse.Namespace) -> Iterator[Tell]:
    """Yield what tells of events: on the terminal or as JSON lines, and in the log's file."""
    path = project.state / "logs" / "up.log"
    try:
        file = LogFile(path)
    except OSError as e:
        raise UserError(
            f"the log {path} cannot be written: {e.strerror}",
            fix="change its permissions, or its owner",
        ) from e
    terminal = sys.stderr.isatty()
    form = project.serving.log
    log = Log(
        (ALL, "server", "loop", "mlflow"),
        None if given.json else sys.stderr,
        file,
        text=form == "text" or (form == "auto" and terminal),
        colour=terminal,
    )

    def tell(event: Event) -> None:
        log.write(event.part, event.text, alarm=event.kind in _NEWS)
        for line in event.about.get("last") or ():  # type: ignore[attr-defined]
            log.write(event.part, f"  its last words: {line}", alarm=True)
        if given.json and event.kind != "all-ready":
            _print({"event": event.kind, "part": event.part, "text": event.text, **event.about})

    try:
        yield tell
    finally:
        file.close()


def _print(document: Mapping[str, object]) -> None:
    with suppress(OSError):  # nobody reads any more: the platform goes on
        print(json.dumps({"at": time.time(), **document}, ensure_ascii=False), flush=True)


def _tell_ready(running: Running, event: Event, project: Project, *, as_json: bool) -> None:
    if as_json:
        about = {"model": running.model, "addresses": running.addresses, **event.about}
        _print({"event": event.kind, "part": event.part, "text": event.text, **about})
        return
    lacking, addresses = event.about["given_up"], running.addresses
    rows = [
        (called, addresses.get(name), purpose)
        for name, (called, purpose) in _PURPOSES.items()
        if name in (*addresses, *running.pids) and name not in lacking  # type: ignore[operator]
    ]
    log = _short(project.state / "logs" / "up.log")
    with suppress(OSError):
        show.table((running.model, "where", "what for"), [*rows, ("log", log, "all of it")])
        print("Ctrl-C ends it all", flush=True)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
