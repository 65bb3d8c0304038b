"""One server under load: started with a model, asked, weighed, and tried with spoiled requests."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from load import load, send

from peers.contenders import Contender, spoiled
from peers.models import Model
from peers.process import LOAD_CORE, SERVER_CORE, Server, busy_s, free_port

CONNECTIONS = 32
SPOILED = 16  # one request in so many
PATIENCE_S = 10.0  # for both cores to be free
DISTURBED = 0.05  # share of a core that others may use in a sample that counts


class Sample(NamedTuple):
    """What one load on one server showed."""

    per_second: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    start_s: float
    cpu_us: float  # what a request cost the server
    core: float  # share of its core that the server used
    load_core: float  # the same of the load; near 1: it was the limit
    others: float  # share of a core that went to neither, the greater one of both
    wrong: float
    errors: float


def median(samples: list[Sample]) -> Sample:
    """Return the medians of the undisturbed samples; of CPU time the least, of faults the sum.

    Where fewer than three samples had both cores for themselves, the three least disturbed count.
    """
    quiet = [sample for sample in samples if sample.others <= DISTURBED]
    if len(quiet) < 3:
        quiet = sorted(samples, key=lambda sample: sample.others)[:3]
    middle = Sample(*map(statistics.median, zip(*quiet, strict=True)))
    return middle._replace(
        cpu_us=min(sample.cpu_us for sample in samples),
        wrong=sum(sample.wrong for sample in samples),
        errors=sum(sample.errors for sample in samples),
    )


class Innocents(NamedTuple):
    """What became of right requests among spoiled ones, and of those."""

    innocent: int
    failed: int  # right ones that got no 200, or a wrong answer
    cut: int  # right ones whose connection was closed under them, which some clients try again
    accepted: int  # spoiled ones that were answered with 2xx
    blamed: int  # spoiled ones for which the server took the blame: 5xx, or no answer
    spoiled: int


@contextmanager
def running(
    contender: Contender, model: Model, told: dict[str, str] | None = None
) -> Iterator[tuple[Server, float]]:
    """Start a contender with a model, and stop it; yields it with its start in seconds.

    Raises:
        Absent: it cannot run here.
        Died: it did not come to answer.
    """
    port = free_port()
    folder = Path(tempfile.mkdtemp(dir=model.folder))
    start = contender.start(model, port, folder)
    request, is_right = contender.requests(model, 1)[0], contender.is_right(model, 1)
    server = Server(
        start.command, start.folder, port, folder / "log", {**start.told, **(told or {})}
    )
    try:
        yield server, server.wait(request, lambda status, body: is_right(0, status, body))
    finally:
        server.stop()


def warm_up(server: Server, contender: Contender, model: Model, rows: int) -> None:
    """Load a server with one shape of requests, and forget what came of it."""
    requests, right = contender.requests(model, rows), contender.is_right(model, rows)
    load(server.address, requests, right, connections=CONNECTIONS, seconds=0.5)


def ask(
    server: Server,
    contender: Contender,
    model: Model,
    rows: int,
    seconds: float,
    start_s: float,
    patience_s: float = PATIENCE_S,
) -> Sample:
    """Load a server with one shape of requests, as soon as both cores are free."""
    wait_until_alone(server, patience_s)
    requests, right = contender.requests(model, rows), contender.is_right(model, rows)
    before, began = _clocks(server), time.perf_counter()
    outcome = send(server.address, requests, connections=CONNECTIONS, seconds=seconds)
    used_s, own_s, *busy_s = (b - a for a, b in zip(before, _clocks(server), strict=True))
    took_s = time.perf_counter() - began
    outcome.judge(right)
    return Sample(
        outcome.per_second,
        outcome.quantile_ms(0.5),
        outcome.quantile_ms(0.99),
        server.pss_mb(),
        start_s,
        1e6 * used_s / max(outcome.answers, 1),
        used_s / took_s,
        own_s / took_s,
        max(busy_s[0] - used_s, busy_s[1] - own_s, 0.0) / took_s,
        outcome.wrong,
        outcome.errors,
    )


def wait_until_alone(server: Server, patience_s: float) -> None:
    """Wait until nobody else uses the two cores, or until it took too long."""
    until = time.perf_counter() + patience_s
    while time.perf_counter() < until:
        before, began = _clocks(server), time.perf_counter()
        time.sleep(0.2)
        used_s, own_s, *busy_s = (b - a for a, b in zip(before, _clocks(server), strict=True))
        allowed_s = 2 * DISTURBED * (time.perf_counter() - began)
        if max(busy_s[0] - used_s, busy_s[1] - own_s) <= allowed_s:
            return


def _clocks(server: Server) -> tuple[float, ...]:
    """Return the seconds that the server, the load, the server's core and the load's worked."""
    return server.cpu_s(), time.process_time(), busy_s(SERVER_CORE), busy_s(LOAD_CORE)


def among_spoiled(server: Server, contender: Contender, model: Model) -> Innocents:
    """Spoil one request in 16, and count the others that suffered."""
    requests = contender.requests(model, 1)
    bad = range(0, len(requests), SPOILED)
    for row in bad:
        requests[row] = spoiled(model, requests[row], row)
    statuses: list[tuple[bool, int]] = []
    right = contender.is_right(model, 1)

    def seen(number: int, status: int, body: bytes) -> bool:
        if number in bad:
            statuses.append((True, status))
            return True
        return right(number, status, body)

    outcome = load(server.address, requests, seen, connections=CONNECTIONS, count=2 * len(requests))
    failed = [failure for failure in outcome.failures if failure.number not in bad]
    cut = sum(failure.status == 0 for failure in failed)
    unanswered = len(outcome.failures) - len(failed)
    return Innocents(
        2 * (len(requests) - len(bad)),
        len(failed) - cut,
        cut,
        sum(200 <= status < 300 for _, status in statuses),
        sum(status >= 500 for _, status in statuses) + unanswered,
        2 * len(bad),
    )
