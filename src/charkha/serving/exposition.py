"""What all workers have counted, as text for Prometheus: its own format, or OpenMetrics 1.0.

Formats: prometheus.io «Exposition formats» (0.0.4) and the OpenMetrics specification. Counts of
several workers are added up, those of the dead ones too, so that no counter falls while the server
lives; gauges of the dead are left out.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import accumulate
from operator import add
from pathlib import Path

from charkha import __version__
from charkha.serving.counts import Counted, Key, read_counts
from charkha.serving.families import BOUNDS, FAMILIES
from charkha.serving.family import Family

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Labels = tuple[tuple[str, str], ...]
Summed = dict[str, dict[Labels, list[float]]]  # by family, then by labels


def expose(folder: Path, accept: str = "") -> tuple[bytes, str]:
    """Return the page that Prometheus reads, and its content type.

    Args:
        folder: of the server's counts.
        accept: the request's header; OpenMetrics where it names that.
    """
    workers = read_counts(folder)
    summed = _summed(workers)
    for key, cells in _of_the_processes(workers):
        _add(summed, key, cells)
    open_metrics = "application/openmetrics-text" in accept
    lines = [
        line
        for family in FAMILIES.values()
        if family.name in summed
        for line in _family(family, summed[family.name], open_metrics)
    ]
    if open_metrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode(), OPENMETRICS if open_metrics else TEXT


def _summed(workers: list[Counted]) -> Summed:
    summed: Summed = {}
    for worker in workers:
        for key, cells in worker.values.items():
            counts = FAMILIES[key[0]].kind in ("counter", "histogram")
            if counts or (worker.pid is not None and not math.isnan(cells[0])):
                _add(summed, key, cells)
    _count_answers(summed)
    return summed


def _add(summed: Summed, key: Key, cells: list[float]) -> None:
    name, labels = key
    of_family = summed.setdefault(name, {})
    before = of_family.get(labels)
    if before is None:
        of_family[labels] = cells
    else:
        across = _ACROSS[FAMILIES[name].across]
        of_family[labels] = list(map(across, before, cells))


_ACROSS: dict[str, Callable[[float, float], float]] = {"sum": add, "max": max, "min": min}


def _count_answers(summed: Summed) -> None:
    """Requests with status 200 are those that have a duration: nobody counts them a second time."""
    answered = sum(
        sum(cells[1:])
        for labels, cells in summed.get("charkha_prediction_duration_seconds", {}).items()
        if ("role", "live") in labels
    )
    _add(summed, ("charkha_requests_total", (("status", "200"),)), [answered])
    for status in _WATCHED:
        _add(summed, ("charkha_requests_total", (("status", status),)), [0.0])


# Shown from the start: a rate does not see how a counter that was not there becomes 1.
_WATCHED = ("422", "429", "500", "503")


def _of_the_processes(workers: list[Counted]) -> Iterator[tuple[Key, list[float]]]:
    """Yield what the kernel knows of each living worker, and what all of them are."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ("charkha_build_info", (("version", __version__), ("python", version))), [1.0]
    living = [worker for worker in workers if worker.pid is not None and worker.worker.isdecimal()]
    yield ("charkha_workers", ()), [float(len(living))]
    for worker in workers:
        labels = (("worker", worker.worker),)
        try:
            told = Path(f"/proc/{worker.pid}/stat").read_text()
            open_fds = len(os.listdir(f"/proc/{worker.pid}/fd"))
        except OSError:  # it has ended meanwhile, or this is no Linux
            continue
        fields = told.rpartition(")")[2].split()  # proc(5), from the third on
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        cpu_s = (int(fields[11]) + int(fields[12])) / ticks
        yield ("charkha_process_resident_memory_bytes", labels), [float(fields[21]) * page]
        yield ("charkha_process_cpu_seconds_total", labels), [cpu_s]
        yield ("charkha_process_open_fds", labels), [float(open_fds)]


def _family(
    family: Family, of_labels: dict[Labels, list[float]], open_metrics: bool
) -> Iterator[str]:
    name, kind = family.name, family.kind
    if open_metrics:  # there the family of x_total is x, and that of x_info is x
        name = name.removesuffix({"counter": "_total", "info": "_info"}.get(kind, ""))
    elif kind == "info":
        kind = "gauge"
    yield f"# HELP {name} {_escaped(family.text) if open_metrics else family.text}"
    yield f"# TYPE {name} {kind}"
    for labels, cells in sorted(of_labels.items()):
        if kind == "histogram":
            yield from _buckets(family, labels, cells)
        else:
            yield f"{family.name}{_labels(labels)} {_number(cells[0])}"


def _buckets(family: Family, labels: Labels, cells: list[float]) -> Iterator[str]:
    counts = list(accumulate(cells[1:]))
    bounds = [*map(repr, family.bounds), "+Inf"]
    if labels and labels[-1][0] == BOUNDS:
        bounds = [*labels[-1][1].split(), "+Inf"]
        labels = labels[:-1]
    for bound, count in zip(bounds, counts, strict=True):
        yield f"{family.name}_bucket{_labels((*labels, ('le', bound)))} {_number(count)}"
    if bounds[0].startswith("-"):  # OpenMetrics: their sum may fall, so there is none
        return
    yield f"{family.name}_sum{_labels(labels)} {_number(cells[0])}"
    yield f"{family.name}_count{_labels(labels)} {_number(counts[-1])}"


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return reduce(lambda text, pair: text.replace(*pair), _ESCAPES, value)


_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"))
