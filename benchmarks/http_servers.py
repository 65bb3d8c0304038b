"""What an HTTP server costs on one core: raw ASGI with a constant answer, and an echo of 350 bytes.

The servers run at once, are asked in turn, a round after the other, and each figure is the median
of its rounds. `--install-peers` makes the environment that they are started from.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from load import post, send
from measure import report
from peers.environments import install, program
from peers.process import LOAD_CORE, Died, Server, free_port, stay_on
from peers.raw import CONSTANT

BODY = json.dumps({f"feature_number_{i:02}": 1.25 * i for i in range(15)})[:349] + "}"
UVICORN = ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
GRANIAN = ["--interface", "asgi", "--workers", "1", "--no-access-log", "--log-level", "warning"]
SERVERS: dict[str, list[str]] = {  # program and options
    "uvicorn asyncio": ["uvicorn", *UVICORN, "--loop", "asyncio"],
    "uvicorn uvloop": ["uvicorn", *UVICORN, "--loop", "uvloop"],
    "granian st asyncio": ["granian", *GRANIAN, "--runtime-mode", "st", "--loop", "asyncio"],
    "granian st uvloop": ["granian", *GRANIAN, "--runtime-mode", "st", "--loop", "uvloop"],
    "granian mt asyncio": ["granian", *GRANIAN, "--runtime-mode", "mt", "--loop", "asyncio"],
    "granian mt uvloop": ["granian", *GRANIAN, "--runtime-mode", "mt", "--loop", "uvloop"],
    "hypercorn asyncio": ["hypercorn", "--worker-class", "asyncio"],
    "hypercorn uvloop": ["hypercorn", "--worker-class", "uvloop"],
}
QUESTIONS = {  # which app: what it has to say
    "constant": CONSTANT,
    "echo": BODY.encode(),
}


class Round(NamedTuple):
    """What one round with one server showed."""

    per_second: float
    p50_ms: float
    p99_ms: float
    server_core: float  # share of its core that the server used; well below 1: others were there
    cpu_us: float  # what a request cost the server
    bad: float  # wrong answers and errors


def main() -> None:
    """Measure, print, write."""
    given = options()
    if given.install_peers:
        install(["http"])
        return
    stay_on(LOAD_CORE)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for app, said in QUESTIONS.items():
            running = started(stack, app, said, Path(folder))
            rounds, seconds = (2, 1.0) if given.quick else (7, 3.0)
            found = in_turn(running, said, rounds, seconds)
            figures |= told(app, running, found)
            stack.close()
    report(figures, given.json)


def options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    parser.add_argument("--install-peers", action="store_true", help="install the servers, and end")
    return parser.parse_args()


def started(
    stack: ExitStack, app: str, said: bytes, folder: Path
) -> dict[str, tuple[Server, float]]:
    """Start every server that is installed; return each with its start in seconds."""
    running: dict[str, tuple[Server, float]] = {}
    where = Path(__file__).parent
    for name, (tool, *words) in SERVERS.items():
        command = program("http", tool)
        if command is None:
            print(f"{name}: skipped, {tool} is not installed ({sys.argv[0]} --install-peers)")
            continue
        port = free_port()
        bind = ["--bind", f"127.0.0.1:{port}"] if tool == "hypercorn" else ["--port", str(port)]
        line = [command, f"peers.raw:{app}", *words, *bind]
        server = Server(line, where, port, folder / f"{app} {name}.log")
        stack.callback(server.stop)
        try:
            took = server.wait(question(), lambda status, body: (status, body) == (200, said))
        except Died as e:
            print(f"{name}: skipped, it {e}")
            continue
        running[name] = (server, took)
    return running


def question() -> bytes:
    """Return the request that every server gets."""
    return post("/predict", BODY.encode())


def in_turn(
    running: dict[str, tuple[Server, float]], said: bytes, rounds: int, seconds: float
) -> dict[str, Round]:
    """Ask each server once a round, and return the medians."""
    found: dict[str, list[Round]] = {name: [] for name in running}
    requests = [question()]
    for number in range(rounds + 1):  # the first warms up
        for name, (server, _) in running.items():
            used_s = -server.cpu_s()
            outcome = send(server.address, requests, seconds=seconds if number else 0.5)
            used_s += server.cpu_s()
            outcome.judge(lambda number, status, body: status == 200 and body == said)
            one = Round(
                outcome.per_second,
                outcome.quantile_ms(0.5),
                outcome.quantile_ms(0.99),
                used_s / outcome.seconds,
                1e6 * used_s / outcome.answers,
                outcome.wrong + outcome.errors,
            )
            if number:
                found[name].append(one)
    return {name: Round(*map(statistics.median, zip(*all_))) for name, all_ in found.items()}  # noqa: B905


def told(
    app: str, running: dict[str, tuple[Server, float]], found: dict[str, Round]
) -> dict[str, float]:
    """Print the table of one app, and return it as figures."""
    if not found:
        return {}
    most = max(one.per_second for one in found.values())
    heads = ["req/s", "of best", "p50 ms", "p99 ms", "PSS MB", "start s", "core", "CPU µs", "bad"]
    print(f"{app:22}" + "".join(f"{head:>9}" for head in heads))
    figures: dict[str, float] = {}
    for name, one in sorted(found.items(), key=lambda item: -item[1].per_second):
        server, start_s = running[name]
        mb = server.pss_mb()
        print(
            f"{name:22}{one.per_second:9,.0f}{one.per_second / most:9.2f}{one.p50_ms:9.2f}"
            f"{one.p99_ms:9.2f}{mb:9.1f}{start_s:9.2f}{one.server_core:9.2f}"
            f"{one.cpu_us:9.1f}{one.bad:9.0f}"
        )
        slug = f"{app}_{name.replace(' ', '_')}"
        figures[f"{slug}_per_second"] = round(one.per_second)
        figures[f"{slug}_p99_ms"] = round(one.p99_ms, 3)
        figures[f"{slug}_cpu_us"] = round(one.cpu_us, 1)
        figures[f"{slug}_pss_mb"] = round(mb, 1)
        figures[f"{slug}_start_s"] = round(start_s, 2)
        figures[f"{slug}_bad"] = one.bad
    print()
    return figures


if __name__ == "__main__":
    main()
