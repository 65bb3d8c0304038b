"""Charkha's model server beside its limit and its peers: one core for each server, one for the load.

Every server answers with the same model, over 32 connections, and every answer is compared with
scikit-learn's own. In each round each server is started afresh, asked, weighed and stopped; Charkha
and the limit run side by side and are asked second by second in turn, so that a slow moment hits
both. Figures are medians of the moments in which nobody else used the two cores, of CPU time the
least. Memory is the proportional set size of all of a server's processes, summed, after the load;
CPU time is theirs as well, with those that ended.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from measure import report
from peers import environments
from peers.alone import alone_us
from peers.contenders import CHARKHA, CONTENDERS, LIMIT, Absent
from peers.measuring import (
    PATIENCE_S,
    SPOILED,
    Innocents,
    Sample,
    among_spoiled,
    ask,
    median,
    running,
    warm_up,
)
from peers.models import Model, make
from peers.process import LOAD_CORE, SERVER_CORE, Died, Server, environment, stay_on
from peers.profiling import profile

FAST = [LIMIT, CHARKHA, "BentoML", "MLServer", "LitServe"]
PLAN: dict[str, dict[int, list[str]]] = {  # model: rows a request: who
    "forest": {1: list(CONTENDERS), 50: FAST},
    "linear": {1: list(CONTENDERS), 50: FAST},
    "wide": {1: FAST},
}
QUICK: dict[str, dict[int, list[str]]] = {
    "linear": {1: [LIMIT, CHARKHA, "MLServer"]},
}


class Found:
    """What was measured so far: samples by shape and contender, and innocents by contender."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        self.innocents: dict[str, Innocents] = {}
        self.absent: dict[str, str] = {}
        self.alone_us: dict[str, float] = {}  # by model: what a row takes it, without a server


def main() -> None:
    """Measure, print, write."""
    given = options()
    if given.install_peers:
        environments.install([n for n in environments.LOCKS if n not in environments.DRIFT])
        return
    plan = {m: r for m, r in (QUICK if given.quick else PLAN).items() if given.model in (None, m)}
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, 4.0)
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        models = make(Path(folder), list(plan))
        stay_on(LOAD_CORE)
        if given.profile:
            figures = profile(models["linear"], rounds, seconds)
        else:
            figures = told(measure(models, plan, rounds, seconds, given.only))
    report(figures, given.json)


def options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, fewer servers")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", metavar="NAME", action="append", help="beside the limit; again")
    parser.add_argument("--model", choices=list(PLAN))
    parser.add_argument("--profile", action="store_true", help="where Charkha's time goes, instead")
    parser.add_argument("--install-peers", action="store_true", help="install them, and end")
    return parser.parse_args()


def measure(
    models: dict[str, Model],
    plan: dict[str, dict[int, list[str]]],
    rounds: int,
    seconds: float,
    only: list[str] | None,
) -> Found:
    """Go round by round through all models and all servers."""
    found = Found()
    for number in range(rounds):
        for name, shapes in plan.items():
            spoil = number == rounds - 1 and name == next(iter(plan))
            alone = alone_us(models[name].project, name, SERVER_CORE, environment())
            found.alone_us[name] = min(alone, found.alone_us.get(name, alone))
            named = dict.fromkeys(who for names in shapes.values() for who in names)
            peers = [who for who in named if who not in (LIMIT, CHARKHA)]
            chosen = [who for who in peers if only is None or who in only]
            for together in [[LIMIT, CHARKHA], *([who] for who in chosen)]:
                wanted = [rows for rows, names in shapes.items() if together[0] in names]
                turn(found, together, models[name], wanted, seconds, spoil=spoil)
                print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    return found


def turn(
    found: Found,
    together: list[str],
    model: Model,
    shapes: list[int],
    seconds: float,
    *,
    spoil: bool,
) -> None:
    """Start servers, and ask them all shapes of questions: several second by second in turn."""
    each_s = 1.0 if len(together) > 1 else 2.0  # slow servers give few answers
    slices = max(int(seconds / each_s), 1)
    with ExitStack() as stack:
        started: dict[str, tuple[Server, float]] = {}
        for who in together:
            if who in found.absent:
                continue
            try:
                started[who] = stack.enter_context(running(CONTENDERS[who], model))
            except (Absent, Died) as e:
                found.absent[who] = str(e)
                print(f"\n{who}: skipped, {e}", file=sys.stderr)
        for rows in shapes:
            for who, (server, _) in started.items():
                warm_up(server, CONTENDERS[who], model, rows)
            for who, (server, start_s) in slices * list(started.items()):
                sample = ask(
                    server,
                    CONTENDERS[who],
                    model,
                    rows,
                    min(each_s, seconds),
                    start_s,
                    min(PATIENCE_S, 2.5 * seconds),
                )
                found.samples[shape(model, rows)][who].append(sample)
        for who, (server, _) in started.items():
            if spoil and CONTENDERS[who].said is not None:
                found.innocents[who] = among_spoiled(server, CONTENDERS[who], model)


def shape(model: Model, rows: int) -> str:
    """Return how a kind of request is called in the table."""
    return model.name if rows == 1 else f"{model.name}, {rows} rows"


def told(found: Found) -> dict[str, float]:
    """Print the tables, and return everything as figures."""
    figures: dict[str, float] = {}
    for name, samples in found.samples.items():
        medians = {who: median(some) for who, some in samples.items()}
        print_table(name, medians)
        ratios = compared(medians, found.alone_us.get(name))
        for what, ratio in ratios.items():
            print(f"  {what:30}{ratio:9.2f}")
        print()
        for who, one in medians.items():
            figures |= {f"{slug(name)}_{slug(who)}_{k}": v for k, v in rounded(one).items()}
        figures |= {f"{slug(name)}_{slug(k)}": round(v, 3) for k, v in ratios.items()}
    print_innocents(found.innocents)
    for who, one in found.innocents.items():
        figures |= {f"spoiled_{slug(who)}_{k}": float(v) for k, v in one._asdict().items()}
    for contender in CONTENDERS.values():
        if contender.settings and any(contender.name in some for some in found.samples.values()):
            print(f"{contender.name}: {contender.settings}")
    for who, why in found.absent.items():
        print(f"{who}: skipped, {why.splitlines()[-1]}")
    return figures


def print_table(name: str, medians: dict[str, Sample]) -> None:
    """Print one shape: a line for each server."""
    heads = [
        "req/s",
        "p50 ms",
        "p99 ms",
        "PSS MB",
        "start s",
        "CPU µs",
        "core",
        "load",
        "others",
        "wrong",
    ]
    print(f"{name:22}" + "".join(f"{head:>9}" for head in [*heads, "errors"]))
    for who, one in medians.items():
        print(
            f"{who:22}{one.per_second:9,.0f}{one.p50_ms:9.2f}{one.p99_ms:9.2f}{one.pss_mb:9.0f}"
            f"{one.start_s:9.2f}{one.cpu_us:9.1f}{one.core:9.2f}{one.load_core:9.2f}"
            f"{one.others:9.2f}{one.wrong:9.0f}{one.errors:9.0f}"
        )


def compared(medians: dict[str, Sample], alone_us: float | None) -> dict[str, float]:
    """Return Charkha beside the limit, and beside the fastest of the others.

    Args:
        medians: by contender.
        alone_us: what one request takes the model, where it has one row.
    """
    if not {LIMIT, CHARKHA} <= set(medians):
        return {}
    limit, charkha = medians[LIMIT], medians[CHARKHA]
    ratios = {
        "Charkha / limit": charkha.per_second / limit.per_second,
        "Charkha / limit, by CPU": limit.cpu_us / charkha.cpu_us,
        "p99 / limit's p99": charkha.p99_ms / limit.p99_ms,
    }
    if alone_us is not None:
        ratios["the model alone, µs a row"] = alone_us
        ratios["Charkha / limit and model, CPU"] = (limit.cpu_us + alone_us) / charkha.cpu_us
    peers = {who: one for who, one in medians.items() if who not in (LIMIT, CHARKHA)}
    if peers:
        best = max(peers, key=lambda who: peers[who].per_second)
        ratios[f"Charkha / best peer ({best})"] = charkha.per_second / peers[best].per_second
    return ratios


def print_innocents(innocents: dict[str, Innocents]) -> None:
    """Print what became of right requests among spoiled ones."""
    if not innocents:
        return
    print(f"{f'one in {SPOILED} spoiled':22}" + "".join(f"{h:>9}" for h in Innocents._fields))
    for who, one in innocents.items():
        print(f"{who:22}" + "".join(f"{count:9}" for count in one))
    print()


def rounded(one: Sample) -> dict[str, float]:
    """Return the figures of a sample by their names."""
    return {name: round(value, 3) for name, value in one._asdict().items()}


def slug(name: str) -> str:
    """Return the name as an identifier."""
    kept = "".join(letter if letter.isalnum() else " " for letter in name.lower())
    return "_".join(kept.split())


if __name__ == "__main__":
    main()
