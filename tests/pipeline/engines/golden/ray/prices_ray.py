"""Pipeline prices of houses as tasks of Ray: each is one command of Charkha's."""
# Written by `charkha render ray`, which leaves it alone once somebody has changed it. sha256:5633ab8fa17b6a43eafbe5371d71dd3200939084aa0f3f939dca70e4dd9b77e3
# usage: python prices_ray.py [--run RUN] [--param NAME=VALUE]..., where Ray is;
#    or: ray job submit --address http://HOST:8265 --working-dir . -- python prices_ray.py

import argparse
import asyncio
import collections
import contextlib
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a Ray started here
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_COLOR_PREFIX", "0")

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ADDRESS = "10.0.0.5:6379"
PATIENCE_S = 600.0  # for a node that has what a step asks for; "local" gets no more nodes
RUNTIME_ENV = {"pip": ["lightgbm==4.6.0"]}
FOLDER = "/srv/houses"  # the project's, on every node
PYTHON = None  # on every node; None: the one that Ray's workers run in
ENVIRONMENT = []
STARTED = ["--engine", "ray", "--shape", "07069608b1a0"]
TASKS = {
    "rows": {"retries": 2, "retry_wait_s": 30},
    "fit": {
        "after": ["rows"],
        "each": True,
        "options": {"num_cpus": 0.5, "memory": 2147483648, "num_gpus": 0.25},
    },
    "judged": {
        "after": ["fit"],
        "steps": ["scores", "best"],
        "options": {"num_cpus": 4, "num_gpus": 1},
    },
    "class": {"after": ["judged"]},
}

LOOK_S = 5.0  # between two looks at the nodes, while a task waits
BUG = 70  # an exit code of Charkha's: another attempt would end in the same way
# The command, and beside it somebody who ends its process group when our end of stdin is closed:
# when Ray's worker is killed, nobody else would.
GUARDED = """
exec 3<&0
(trap '' TERM; read -r _ <&3; kill -TERM 0; sleep 10; kill -KILL 0) &
exec "$@" 3<&- </dev/null
"""
because = []  # why the pipeline does not come to its end, the first reason first


class Ended(Exception):
    """A command did not work: its exit code, and the last lines that it said."""


@ray.remote(max_retries=0)  # an attempt has a number, so they are made below
def charkha(*words):
    """Run a command on this node; return the last lines that it said."""
    line = [PYTHON or sys.executable, "-m", "charkha", "step", *words, *ENVIRONMENT]
    said = collections.deque(maxlen=50)
    try:
        process = subprocess.Popen(
            ["sh", "-c", GUARDED, "charkha", *line],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as e:  # the folder is not on this node
        raise Ended(127, [f"error: {e}"]) from e

    def hand_on():
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line.rstrip())

    reader = threading.Thread(target=hand_on, daemon=True)
    reader.start()
    try:
        code = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it has left behind
    reader.join(5)
    if code:
        raise Ended(code, list(said))
    return list(said)


class Failed(Exception):
    """A task has not made what others need."""


async def call(name, options, *words):
    """Have Ray run a command where there is room; return its exit code and its last lines."""
    task = charkha.options(name=name, **options).remote(*words)
    done = asyncio.wrap_future(task.future())
    since = time.monotonic()
    try:
        while not (await asyncio.wait([done], timeout=LOOK_S))[0]:
            if any_node_has(options):
                since = time.monotonic()
            elif ADDRESS == "local" or time.monotonic() - since > PATIENCE_S:
                return 1, [f"error: no node of this Ray has {options}"]
        return 0, done.result()
    except RayError as e:
        if isinstance(cause := getattr(e, "cause", None), Ended):
            return cause.args
        return 1, [f"error: {' '.join(str(e).split())}"]  # its worker, or its node, is gone
    finally:
        if not done.done():
            done.add_done_callback(lambda done: done.cancelled() or done.exception())
            ray.cancel(task, force=True)


def any_node_has(options):
    """Whether a task with these options could ever be begun on the nodes as they are now."""
    asked = {"CPU": options.get("num_cpus", 1), "GPU": options.get("num_gpus", 0)}
    asked["memory"] = options.get("memory", 0)
    nodes = nodes_at(time.monotonic() // LOOK_S)
    return any(all(has.get(what, 0) >= n for what, n in asked.items()) for has in nodes)


@functools.lru_cache(maxsize=1)
def nodes_at(_):
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def fail(name, code, said):
    """Give a task up."""
    told = [line for line in said if "error" in line.lower()] or said or ["it said nothing"]
    because.append(f"task {name} ended with {code}: {told[-1]}")
    raise Failed


async def attempts(name, task, *words):
    """Run the command of a task until it works, as often as the task may be tried."""
    for attempt in range(1, task.get("retries", 0) + 2):
        if attempt > 1:
            await asyncio.sleep(task.get("retry_wait_s", 0))
        options = task.get("options", {})
        code, said = await call(name, options, "run", *words, "--attempt", str(attempt))
        if code == 0:
            return
        if code == BUG:
            break
    fail(name, code, said)


async def perform(run, name, task, after, ours):
    """Perform the steps of a task when those before it are done."""
    await asyncio.gather(*after)
    if not task.get("each"):
        steps = [word for step in task.get("steps", [name]) for word in ("--step", step)]
        await attempts(name, task, "--run", run, *steps)
        return
    code, said = await call(f"{name}.elements", ours, "count", "--run", run, "--step", name)
    if code:
        fail(f"{name}.elements", code, said)
    numbers = json.loads(next(line for line in reversed(said) if line.startswith("[")))
    words = ["--run", run, "--step", name, "--element"]
    elements = [attempts(f"{name}[{n}]", task, *words, str(n)) for n in numbers]
    for failed in await asyncio.gather(*elements, return_exceptions=True):
        if failed:
            raise failed


async def begin(run, given, ours):
    """Begin the run, where nobody has done so."""
    code, said = await call("charkha.start", ours, "start", "--run", run, *STARTED, *given)
    if code:
        fail("charkha.start", code, said)


async def pipeline(run, given, begun_elsewhere):
    """Run all tasks, and end the run whatever became of them; return our exit code."""
    here = ray.get_runtime_context().get_node_id()  # ours run beside this driver
    ours = {"num_cpus": 0}
    ours["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=True)
    begun = asyncio.create_task(begin(run, given, ours))
    tasks = {}
    for name, task in TASKS.items():
        after = [tasks[other] for other in task.get("after", [])] or [begun]
        tasks[name] = asyncio.create_task(perform(run, name, task, after, ours))
    ended = ["--run", run]
    if await stopped([begun, *tasks.values()]):
        if begun_elsewhere:
            return 128 + signal.SIGTERM
        ended.append("--stopped")
    if because:
        ended += ["--because", because[0]]
    code, said = await call("charkha.finish", ours, "finish", *ended)
    if because or code:
        print(because[0] if because else said[-1] if said else "", file=sys.stderr, flush=True)
    return 128 + signal.SIGTERM if "--stopped" in ended else code


async def stopped(tasks):
    """Wait until all tasks are over; return whether a signal has stopped them."""
    me, loop, asked = asyncio.current_task(), asyncio.get_running_loop(), False
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, me.cancel)
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        asked = True
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: None)  # the run is being ended
    for task in tasks if asked else ():
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    ours = [end for end in ends if end and not isinstance(end, Failed | asyncio.CancelledError)]
    because.extend(f"the driver failed: {end!r}" for end in ours)
    return asked


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--run", default=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}"
    )
    options.add_argument("--param", metavar="NAME=VALUE", action="append", default=[])
    options.add_argument("--begun", action="store_true", help="who stops us ends the run as well")
    given = options.parse_args()
    alone = {"include_dashboard": False, "object_store_memory": 100_000_000}  # ids go through it
    try:
        ray.init(
            address=ADDRESS,
            runtime_env=RUNTIME_ENV or None,
            logging_level=logging.WARNING,
            **(alone if ADDRESS == "local" else {}),
        )
    except (OSError, RuntimeError, ValueError) as e:
        token = "" if "RAY_AUTH_MODE" in os.environ else " (has it a token? RAY_AUTH_MODE=token)"
        sys.exit(f"Ray at {ADDRESS}: {' '.join(str(e).split())}{token}")
    params = [word for pair in given.param for word in ("--param", pair)]
    code = asyncio.run(pipeline(given.run, params, given.begun))
    ray.shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
