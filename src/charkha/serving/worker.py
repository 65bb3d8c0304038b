"""A worker: one process with one event loop that answers requests until it is told to stop.

Told to stop it says that it is not ready, goes on answering while load balancers take notice, asks
each connection to close with its next answer, and ends when the last one is answered.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from charkha.serving.app import App, Endpoint, Limits
from charkha.serving.control import Control
from charkha.serving.discovery import Discovery
from charkha.serving.exposition import expose
from charkha.serving.glancing import Glance
from charkha.serving.keys import keys_for
from charkha.serving.lanes import Keep, Lane
from charkha.serving.logs import Access, event
from charkha.serving.metrics import Meters
from charkha.serving.records import open_feedback, open_recorder, open_sealer
from charkha.serving.records.feedback import read_feedback_body
from charkha.serving.records.ids import time_of
from charkha.serving.records.source import Source
from charkha.serving.rest import Answer, Rest, told
from charkha.serving.shadows import Complaints
from charkha.serving.uvicorn import HttpServer
from charkha.serving.variants import Switch, Variant

if TYPE_CHECKING:
    import socket

    from charkha.project import Project
    from charkha.serving.dialects.port import Headers
    from charkha.serving.finished import Listener
    from charkha.serving.loading import ServedModel

Role = Literal["live", "shadow"]
_LOOK_S = 0.25  # between two looks at what takes too long
_log = logging.getLogger(__name__)


class Worker:
    """All of a worker put together. Made and used on its event loop.

    Args:
        project: whose settings are used.
        model: name of the model.
        listening: socket of the predict traffic.
        host: that it listens on, for whether keys are needed.
        folder: where the server keeps what it holds, and its workers their reports.
        counts: where its workers count.
        number: of the worker, from 0.

    Raises:
        UserError: keys are needed, and there are none.
    """

    def __init__(
        self,
        project: Project,
        model: str,
        listening: socket.socket,
        *,
        host: str,
        folder: Path,
        counts: Path,
        number: int = 0,
    ) -> None:
        settings = project.serving
        self._model, self._number = model, number
        self._batch_rows, self._drain_s = settings.batch_rows, settings.drain_s
        self._keys = keys_for(settings.auth, host, settings.keys)
        self._meters = Meters(counts, number)
        self._recorder, self._feedback = open_recorder(project), open_feedback(project)
        self._sealer = open_sealer(project) if number == 0 else None
        self._switch = Switch()
        self._control = Control(
            project,
            model,
            self._switch,
            make_variant=self._make_variant,
            worker=number,
            folder=folder,
        )
        self._listeners = self._listen(project)
        self.endpoint = Endpoint(
            self._switch,
            self._rest(settings.body_mb << 20),
            meters=self._meters,
            limits=Limits(
                body_bytes=settings.body_mb << 20,
                rows=settings.rows,
                requests=settings.requests,
                timeout_s=settings.timeout_s,
            ),
            allowed=None if self._keys is None else self._keys.allowed,
            listeners=self._listeners,
        )
        self._http = HttpServer(self.endpoint, listening)
        self._stop = asyncio.Event()
        self._watch()

    async def run(
        self, ready: Callable[[], None], ending: Callable[[], None] | None = None
    ) -> None:
        """Load, answer, and drain once SIGTERM or SIGINT came.

        Args:
            ready: called when requests are answered.
            ending: called before it drains.

        Raises:
            CharkhaError: nothing could be loaded.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop, 0.0)  # a person waits for the prompt
        try:
            await self._control.start()
            gc.collect()
            gc.freeze()  # what is loaded stays: no collection has to walk through it
            await self._http.start()
            looking = asyncio.create_task(self._look())
            ready()
            event(_log, logging.INFO, "ready", "ready", **self._held())
            await self._stop.wait()
            if ending is not None:
                ending()
            await self._drain()
            looking.cancel()
            await self._http.stop()
            await self._control.close(self.endpoint.limits.timeout_s)
        finally:
            self._close()

    def stop(self, drain_s: float | None = None) -> None:
        """Begin to end, and stay for so long; called again, end without staying."""
        if self._stop.is_set():
            self._drain_s = 0.0
        elif drain_s is not None:
            self._drain_s = drain_s
        self._stop.set()

    async def _drain(self) -> None:
        """Let everybody notice: not ready first, then no connection is kept, then none is left."""
        event(_log, logging.INFO, "draining", "draining", seconds=self._drain_s)
        self.endpoint.draining = True
        until = time.monotonic() + self._drain_s
        while time.monotonic() < until and self._drain_s > 0 and self._is_known():
            await asyncio.sleep(0.02)
        end = time.monotonic() + self.endpoint.limits.timeout_s
        while self.endpoint.open and time.monotonic() < end:
            await asyncio.sleep(0.02)

    def _is_known(self) -> bool:
        """Whether a load balancer may yet send somebody: one that does has called lately."""
        quiet_s = time.monotonic() - self.endpoint.connected_at
        return self._http.busy or quiet_s < self._drain_s

    def _close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
        self._feedback.close()
        for listener in self._listeners:
            getattr(listener, "close", lambda: None)()
        self._meters.close()

    async def _look(self) -> None:
        """Do what has to be done now and then."""
        turn = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            turn += 1
            try:
                self.endpoint.end_late()
                if turn % 4 == 0:
                    self._look_around()
            except Exception:  # noqa: BLE001  # a worker's loop: one look that fails is not the last
                _log.exception("a look at what is open failed")

    def _look_around(self) -> None:
        self._http.sweep(self.endpoint.limits.timeout_s)
        self._meters.refresh()
        if self._keys is not None:
            self._keys.refresh()
        if self._recorder is not None:
            self._recorder.turn()
        self._feedback.turn()
        if self._sealer is not None:
            self._sealer.tick()

    def _make_variant(self, name: str, role: Role, model: ServedModel) -> Variant:
        meter = self._meters.variant(model.name, model.version, name, role)
        glance = None
        if model.reference is not None:
            glance = Glance(self._meters, model.reference, labels=meter.labels)
            meter.look(glance)
        lane = Lane(
            model.predictor,
            keep=self._keeper(name, role, model),
            batched=meter.batch,
            seen=None if glance is None else glance.take,
            failed=Complaints(name) if role == "shadow" else None,
            most_rows=self._batch_rows,
            behind=role == "shadow",
        )
        return Variant(name, model, lane, meter)

    def _keeper(self, name: str, role: Role, model: ServedModel) -> Keep | None:
        recorder = self._recorder
        if recorder is None:
            return None
        classes = model.described["classes"]
        source = recorder.declare(
            Source(
                model=model.name,
                version=model.version,
                variant=name,
                role=role,
                inputs=tuple(model.schema.columns),
                target=model.described["target"],
                classes=None if classes is None else tuple(classes),
            )
        )
        return lambda records: recorder.append(source, records)

    def _listen(self, project: Project) -> list[Listener]:
        settings = project.serving
        listeners: list[Listener] = []
        if settings.access_log:
            listeners.append(Access(settings.access_log))
        if settings.otlp_endpoint:
            module = import_module("charkha.serving.opentelemetry")  # late: only where it is used
            listeners.append(
                module.Tracing(
                    settings.otlp_endpoint,
                    model=self._model,
                    worker=self._number,
                    share=settings.trace_share,
                )
            )
        return listeners

    def _watch(self) -> None:
        """Have the numbers that others keep shown among the metrics."""
        watch, recorder, sealer = self._meters.watch, self._recorder, self._sealer
        watch("charkha_requests_in_flight", lambda: len(self.endpoint.open))
        watch("charkha_swaps_total", lambda: self._control.swaps, model=self._model)
        watch("charkha_swap_failures_total", lambda: self._control.failures, model=self._model)
        watch("charkha_feedback_total", lambda: self._feedback.log.written)
        if recorder is not None:
            watch("charkha_records_written_total", lambda: recorder.written)
            watch("charkha_records_written_bytes_total", lambda: recorder.bytes_written)
            watch("charkha_records_skipped_total", lambda: recorder.skipped)
            watch("charkha_records_lost_total", lambda: recorder.lost)
            watch("charkha_records_failing", lambda: recorder.failing)
        if sealer is not None:
            watch("charkha_records_unsealed_logs", lambda: sealer.behind)
            watch("charkha_records_seal_failures_total", lambda: sealer.failures)

    def _rest(self, body_bytes: int) -> Rest:
        return Rest(
            {
                "/healthz": lambda headers, body: told({"status": "ok", **self._held()}),
                "/readyz": self._readyz,
                "/metrics": self._metrics,
            },
            {"/feedback": self._take_feedback},
            Discovery(self._switch, lambda: self.ready).answer,
            self._documentation,
            lambda: self._switch.routes,
            body_bytes=body_bytes,
        )

    @property
    def ready(self) -> bool:
        """Whether it is loaded, warm, and not about to end."""
        return self._control.ready and not self._stop.is_set()

    def _held(self) -> dict[str, object]:
        """Return what is served, for people."""
        routes = self._switch.routes
        held = {v.name: v.model.version for v in (*routes.live, *routes.shadows)}
        return {"model": self._model, "variants": held}

    def _readyz(self, headers: Headers, body: bytes) -> Answer:
        if self.ready:
            return told({"status": "ready", **self._held()})
        return told({"status": "draining" if self._stop.is_set() else "loading"}, 503)

    def _metrics(self, headers: Headers, body: bytes) -> Answer:
        self._meters.refresh()
        page, kind = expose(self._meters.folder, headers.get(b"accept", b"").decode("latin-1"))
        return 200, page, [(b"content-type", kind.encode())]

    def _take_feedback(self, headers: Headers, body: bytes) -> Answer:
        if self._keys is not None:
            self._keys.allowed(headers, self._model, "feedback")
        truths = read_feedback_body(body)
        self._feedback.append(truths)
        self._meters.feedback([time_of(truth.id).timestamp() for truth in truths])
        return told({"taken": len(truths)})

    def _documentation(self) -> App:
        made: App = import_module("charkha.serving.fastapi").make_documentation(self._switch)
        return made
