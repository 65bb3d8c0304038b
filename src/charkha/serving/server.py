"""A server: a lead, and the worker processes that share its port.

One worker lives in the process of the lead. Several are children that inherit the listening socket;
the lead starts them again when they die, and when it dies itself they drain and end, for the pipe
between them breaks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.project import read_secret
from charkha.serving.counts import counting
from charkha.serving.crew import Crew
from charkha.serving.keys import keys_for
from charkha.serving.lead import Lead
from charkha.serving.metrics import Meters
from charkha.serving.records import open_sealer
from charkha.serving.remembering import Remembering
from charkha.serving.uvicorn import HttpServer, address, listen, run
from charkha.serving.worker import Worker

if TYPE_CHECKING:
    import socket

    from charkha.project import Project
    from charkha.serving.wanted import Asked

_SEAL_S = 30.0  # at the end, for records that go to S3


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What to serve, and where."""

    model: str
    asked: Sequence[Asked]
    host: str
    port: int
    workers: int
    admin_port: int | None  # None: no administration
    folder: Path | None = None  # where the server keeps what it holds; None: the project's own
    debug: bool = False  # whether workers log the texts of exceptions, which may hold inputs


@dataclass(frozen=True, kw_only=True)
class Started:
    """Where a server answers."""

    url: str
    variants: dict[str, int]  # name -> version
    admin_url: str | None
    admin_token: str | None  # where it was made for this start


def serve(project: Project, wish: Wish, started: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT; `started` is called once the first request can be answered.

    Raises:
        UserError: the port is taken, there is no such version, keys are needed and there are none.
        CharkhaError: nothing can be loaded.
    """
    given = None if wish.admin_port is None else read_secret(project, "serving", "admin_token")
    token = given or secrets.token_urlsafe(24)
    keys_for(project.serving.auth, wish.host, project.serving.keys)  # or a word why not
    with ExitStack() as open_:
        listening = open_.enter_context(listen(wish.host, wish.port))
        admin = None
        if wish.admin_port is not None:
            admin = open_.enter_context(listen("127.0.0.1", wish.admin_port))
        lead = Lead(
            project,
            wish.model,
            asked=wish.asked,
            workers=wish.workers,
            folder=wish.folder,
            every_s=project.serving.follow_s,
        )
        counts = open_.enter_context(counting())
        wanted = lead.begin()
        open_.callback(lead.close)
        where = Started(
            url=address(listening),
            variants={variant.name: variant.version for variant in wanted.variants},
            admin_url=None if admin is None else address(admin),
            admin_token=None if admin is None or given else token,
        )

        def ready() -> None:
            lead.start()
            started(where)

        run(_lead(project, wish, lead, (listening, admin), token, counts, ready))
    if project.records.enabled and project.records.url.startswith("s3://"):
        open_sealer(project).finish(_SEAL_S)  # this machine may be gone before the next start


async def _lead(
    project: Project,
    wish: Wish,
    lead: Lead,
    sockets: tuple[socket.socket, socket.socket | None],
    token: str,
    counts: Path,
    ready: Callable[[], None],
) -> None:
    """Run the workers, and the administration beside them."""
    listening, admin = sockets
    folder = wish.folder or project.state / "serving"
    remembering = Remembering(project, wish.model)
    metering = asyncio.create_task(_meter(lead, wish.model, counts, remembering))
    administering = None
    if admin is not None:
        hashed = sha256(token.encode()).hexdigest()
        administering = asyncio.create_task(_administer(lead, admin, [hashed]))
    try:
        if wish.workers > 1:
            crew = Crew(
                project,
                wish.model,
                listening,
                host=wish.host,
                folder=folder,
                counts=counts,
                debug=wish.debug,
            )
            await crew.run(lead, wish.workers, ready)
        else:
            worker = Worker(
                project, wish.model, listening, host=wish.host, folder=folder, counts=counts
            )
            await worker.run(ready, ending=lead.close)
    finally:
        metering.cancel()
        if administering is not None:
            administering.cancel()


async def _administer(lead: Lead, listening: socket.socket, tokens: Collection[str]) -> None:
    """Serve the administration API, from its first connection on: until then it costs nothing."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.add_reader(listening, called.set)
    try:
        await called.wait()
    finally:
        loop.remove_reader(listening)
    module = await asyncio.to_thread(import_module, "charkha.serving.fastapi_admin")
    server = HttpServer(module.make_admin(lead, tokens=tokens), listening)
    await server.start()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


async def _meter(lead: Lead, model: str, counts: Path, remembering: Remembering) -> None:
    """Show what the lead alone knows, among the metrics of its workers."""
    meters = Meters(counts, "lead")
    try:
        meters.watch("charkha_registry_reachable", lambda: lead.registry_answers, model=model)
        meters.watch("charkha_champion_version", lambda: lead.champion, model=model)
        meters.watch("charkha_ledger_reachable", lambda: remembering.reachable, model=model)
        while True:
            meters.refresh()
            if await remembering.look():
                meters.show(remembering.gauges)
            await asyncio.sleep(1.0)
    finally:
        meters.close()
        remembering.close()
