"""Where Charkha's time goes under load, and what a record costs.

The cost of records is the difference between servers of the same model that keep none, keep them
through the end of the process, and through a power cut. Where time goes is sampled by py-spy, from
outside and with native frames; samples of a thread that waits, for a lock or for a request, are
left out, and each other one counts for its innermost frame whose place is known.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from load import load

from peers.contenders import CHARKHA, CONTENDERS, Contender, Start
from peers.environments import program
from peers.measuring import CONNECTIONS, Sample, ask, median, running, warm_up
from peers.models import Model
from peers.process import Server

RECORDS = {"none": "silent", "process": "", "power": "power"}  # durability: environment
RATE_HZ = 500
SHOWN = 30
_WAITS = ("PyThread_acquire_lock_timed", "pthread_cond_", "epoll_", "take_gil", "futex")
_SOCKETS = "the system: sockets"
_LOOP = "event loop: uvloop"
_PLACES = (  # the first that fits: part of a file's name, and how it is called
    ("charkha/serving/uvicorn", "HTTP: Charkha's protocol"),
    ("uvicorn/", "HTTP: uvicorn"),
    ("httptools", "HTTP: httptools"),
    ("uvloop", _LOOP),
    ("libuv", _LOOP),
    ("asyncio/", "event loop: asyncio"),
    ("charkha/serving/records", "records"),
    ("charkha/serving/dialects", "reading and writing bodies"),
    ("charkha/serving/predictors", "the predictor"),
    ("charkha/serving/lanes", "lanes"),
    ("charkha/serving/app", "the endpoint"),
    ("onnxruntime", "ONNX Runtime"),
    ("numpy", "NumPy"),
    ("msgspec", "msgspec"),
    ("charkha/", "the rest of Charkha"),
)


def profile(model: Model, rounds: int, seconds: float) -> dict[str, float]:
    """Print and return what records cost, and where the time goes."""
    return recording(model, rounds, seconds) | sampled(model, seconds)


def recording(model: Model, rounds: int, seconds: float) -> dict[str, float]:
    """Serve with and without records in turn, and compare what a request costs."""
    found: dict[str, list[Sample]] = {name: [] for name in RECORDS}
    for _ in range(rounds):
        for name, environment in RECORDS.items():
            contender = in_environment(environment)
            with running(contender, model) as (server, start_s):
                warm_up(server, contender, model, 1)
                found[name].append(ask(server, contender, model, 1, seconds, start_s))
    medians = {name: median(some) for name, some in found.items()}
    print(f"{'records outlive':22}{'req/s':>9}{'CPU µs':>9}{'p99 ms':>9}{'more µs':>9}")
    for name, one in medians.items():
        more = one.cpu_us - medians["none"].cpu_us
        print(f"{name:22}{one.per_second:9,.0f}{one.cpu_us:9.1f}{one.p99_ms:9.2f}{more:9.1f}")
    print()
    figures = {f"records_{name}_cpu_us": one.cpu_us for name, one in medians.items()}
    figures |= {f"records_{name}_per_second": one.per_second for name, one in medians.items()}
    return {name: round(value, 2) for name, value in figures.items()}


def in_environment(environment: str) -> Contender:
    """Return Charkha as it is served in an environment of the project."""
    charkha = CONTENDERS[CHARKHA]

    def start(model: Model, port: int, folder: Path) -> Start:
        plain = charkha.start(model, port, folder)
        more = ["--env", environment] if environment else []
        return replace(plain, command=[*plain.command, *more])

    return replace(charkha, start=start)


def sampled(model: Model, seconds: float) -> dict[str, float]:
    """Sample a server under load; return each place's share of the samples."""
    spy = program("py-spy", "py-spy")
    if spy is None:
        print("where time goes: skipped, py-spy is not installed (--install-peers)")
        return {}
    contender = CONTENDERS[CHARKHA]
    with running(contender, model) as (server, _), ExitStack() as stack:
        output = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "stacks"
        stacks = spied(spy, server, contender, model, seconds, output)
    places, frames = counted(stacks)
    total = sum(places.values())
    if not total:
        print(f"where time goes: skipped, py-spy saw nothing: {stacks[-300:]}")
        return {}
    print(f"where time goes, of {total} samples")
    for place, samples in places.most_common():
        print(f"  {place:42}{samples / total:7.1%}")
    print("\nthe innermost frames")
    for frame, samples in frames.most_common(SHOWN):
        print(f"  {shortened(frame):74}{samples / total:7.1%}")
    return {f"time_{place}": round(n / total, 4) for place, n in places.items()}


def spied(
    spy: str, server: Server, contender: Contender, model: Model, seconds: float, output: Path
) -> str:
    """Return the stacks, one in a line with its count, of a server under load."""
    requests, right = contender.requests(model, 1), contender.is_right(model, 1)
    line = [spy, "record", "--pid", str(server.processes()[0]), "--native"]
    line += ["--format", "raw", "--full-filenames", "--function", "--rate", str(RATE_HZ)]
    line += ["--duration", str(int(seconds + 1)), "--output", str(output)]
    load(server.address, requests, right, connections=CONNECTIONS, seconds=1.0)
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as spying:
        load(server.address, requests, right, connections=CONNECTIONS, seconds=seconds + 3)
        said, _ = spying.communicate(timeout=120)
    return output.read_text() if output.exists() else said


def counted(stacks: str) -> tuple[Counter[str], Counter[str]]:
    """Return the samples by place and by innermost frame."""
    places: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        names = stack.split(";")
        if any(wait in name for name in names[-3:] for wait in _WAITS):
            continue
        frames[names[-1]] += int(count)
        places[place_of(names)] += int(count)
    return places, frames


def shortened(frame: str) -> str:
    """Return a frame with the end of its file's path."""
    what, _, file = frame.rpartition(" (")
    return f"{what} ({'/'.join(file.split('/')[-3:])}"[:72]


def place_of(names: list[str]) -> str:
    """Return where a stack belongs: the innermost frame whose file is known."""
    for name in reversed(names):
        file = name.rpartition(" (")[2].lower()
        if "gc_collect" in name:
            return "garbage collection"
        for part, place in _PLACES:
            if part in file:
                return _SOCKETS if place == _LOOP and "libc.so" in names[-1] else place
    return "elsewhere"
