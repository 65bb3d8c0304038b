"""Evidence from records: the windows of a release counted again from what was predicted.

A request counts for its own time, not for when its ground truth came: labels that come late, or
never, do not bias a comparison as long as they come for both arms alike. Of labels only those are taken
that lie in a span of time for which both arms have some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from charkha.release.evidence import Arm, Evidence, Pairs, Sample, Scales, Window, latency_bin
from charkha.release.rules import CAP_AT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Loss = Literal["auto", "absolute", "squared", "zero-one"]  # auto: by what is predicted
COLUMNS = ("id", "time", "version", "role", "latency_s", "prediction", "ground_truth")
_BINS = 20  # of predictions that are numbers, each with as many of the first ones
BREAK_S = 300.0  # seconds without a request that still count as time with traffic
_FEW = 100  # predictions, or labels, from which a scale is made


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time in which nobody changed the shares."""

    stage: int
    paired: bool  # one of both follows as a shadow
    since: float  # unix seconds
    until: float | None = None


def collect(
    table: pa.Table,
    spans: Sequence[Span],
    versions: tuple[int, int],
    *,
    loss: Loss,
    scales: Scales,
) -> Evidence:
    """Return the evidence of records; errors are none of them, as they are not recorded.

    Args:
        table: with `COLUMNS`, of both versions, with shadows.
        spans: of the release's stages.
        versions: of baseline and candidate.
        loss: of a prediction, once its truth is there.
        scales: that the release has, of `make_scales`.
    """
    seconds = compute.cast(table["time"], pa.int64()).to_numpy() / 1e6
    windows = []
    for span in spans:
        inside = (seconds >= span.since) & (seconds < (span.until or np.inf))
        windows.append(_window(table.filter(pa.array(inside)), span, versions, loss, scales))
    whole = Evidence(scales=scales)
    for window in windows:
        whole += Evidence(windows=(window,), scales=scales)
    return whole


def make_scales(table: pa.Table, versions: tuple[int, int], *, loss: Loss, known: Scales) -> Scales:
    """Return `known` with what it lacks, from the first records of both arms together.

    What a scale has stays as it is: evidence on another one could not be added to.
    """
    both = table.filter(compute.is_in(table["version"], pa.array(versions, pa.int64())))
    if not known.edges and not known.classes:
        known = _with_bins(known, compute.drop_null(both["prediction"]).slice(0, 10 * _FEW))
    if np.isinf(known.cap):
        told = _losses(both, loss)
        told = told[np.isfinite(told)][: 2 * _FEW]
        if len(told) == 2 * _FEW:
            known = replace(known, cap=float(np.quantile(told, CAP_AT)))
    return known


def _with_bins(scales: Scales, values: pa.ChunkedArray) -> Scales:
    if len(values) < _FEW:
        return scales
    if _numeric(values.type):
        inner = np.linspace(0, 1, _BINS + 1)[1:-1]
        return replace(scales, edges=tuple(np.unique(np.quantile(_floats(values), inner)).tolist()))
    return replace(scales, classes=tuple(sorted({str(v) for v in values.to_pylist()})))


def _window(
    table: pa.Table, span: Span, versions: tuple[int, int], loss: Loss, scales: Scales
) -> Window:
    tables = [table.filter(compute.equal(table["version"], version)) for version in versions]
    times = [compute.cast(t["time"], pa.int64()).to_numpy() / 1e6 for t in tables]
    losses = [_losses(t, loss) for t in tables]
    first, last = _common([at[np.isfinite(of)] for at, of in zip(times, losses, strict=True)])
    losses = [
        np.where((at >= first) & (at <= last), of, np.nan)
        for at, of in zip(times, losses, strict=True)
    ]
    arms = [_arm(t, of, scales, shadow=span.paired) for t, of in zip(tables, losses, strict=True)]
    plain, capped = Pairs(), Pairs()
    if span.paired:
        base, cand = _same_requests(tables, losses)
        plain = _pairs(base, cand)
        capped = _pairs(np.minimum(base, scales.cap), np.minimum(cand, scales.cap))
    return Window(
        stage=span.stage,
        paired=span.paired,
        baseline=arms[0],
        candidate=arms[1],
        pairs=plain,
        capped_pairs=capped,
        first_at=float(times[1].min()) if len(times[1]) else None,
        last_at=float(times[1].max()) if len(times[1]) else None,
        idle_s=_idle_s(times[1]),
    )


def _idle_s(times: Floats) -> float:
    """Return for how long nobody asked: of each break what is longer than `BREAK_S`."""
    gaps = np.diff(np.sort(times))
    return float(np.maximum(gaps - BREAK_S, 0).sum())


def _common(times: Sequence[Floats]) -> tuple[float, float]:
    if not all(len(at) for at in times):
        return np.inf, -np.inf
    return max(float(at.min()) for at in times), min(float(at.max()) for at in times)


def _arm(table: pa.Table, losses: Floats, scales: Scales, *, shadow: bool) -> Arm:
    told = losses[np.isfinite(losses)]
    seconds = [] if shadow else compute.drop_null(table["latency_s"]).to_pylist()
    return Arm(
        requests=table.num_rows,
        latency=dict(sorted(Counter(map(latency_bin, seconds)).items())),
        predictions=_binned(table["prediction"], scales),
        loss=_sample(told),
        capped=_sample(np.minimum(told, scales.cap)),
    )


def _binned(values: pa.ChunkedArray, scales: Scales) -> tuple[int, ...]:
    known = compute.drop_null(values)
    if scales.classes:
        places = {name: at for at, name in enumerate(scales.classes)}
        at = [places.get(str(value), len(places)) for value in known.to_pylist()]
    elif scales.edges and _numeric(known.type):
        at = np.searchsorted(scales.edges, _floats(known), side="right").tolist()
    else:
        return ()
    return tuple(np.bincount(np.array(at, int), minlength=scales.bins).tolist())


def _losses(table: pa.Table, loss: Loss) -> Floats:
    """Return a loss for each row; NaN where there is no truth yet."""
    truths, values = table["ground_truth"], table["prediction"]
    if loss == "zero-one" or (loss == "auto" and not _numeric(values.type)):
        pairs = zip(truths.to_pylist(), values.to_pylist(), strict=True)
        return np.array([np.nan if t is None or v is None else float(t != v) for t, v in pairs])
    if not _numeric(truths.type) or not _numeric(values.type):
        return np.full(table.num_rows, np.nan)
    apart = np.abs(_floats(values) - _floats(truths))
    found: Floats = _SHAPES[loss](apart)
    return found


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "auto": np.abs,
    "absolute": np.abs,
    "squared": np.square,
}


def _same_requests(tables: Sequence[pa.Table], losses: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return the losses of both versions for the requests that both have answered."""
    known = [
        {id: of for id, of in zip(t["id"].to_pylist(), losses_.tolist(), strict=True) if of == of}
        for t, losses_ in zip(tables, losses, strict=True)
    ]
    both = [id for id in known[0] if id in known[1]]
    base, cand = (np.array([of[id] for id in both], float) for of in known)
    return base, cand


def _pairs(base: Floats, cand: Floats) -> Pairs:
    if not len(base):
        return Pairs()
    apart = float(((base - base.mean()) * (cand - cand.mean())).sum())
    return Pairs(baseline=_sample(base), candidate=_sample(cand), products=apart)


def _sample(values: Floats) -> Sample:
    if not len(values):
        return Sample()
    mean = float(values.mean())
    return Sample(count=len(values), mean=mean, squares=float(((values - mean) ** 2).sum()))


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _floats(values: pa.ChunkedArray) -> Floats:
    """Return numbers, NaN where one is missing."""
    found: Floats = compute.cast(values, pa.float64()).to_numpy()
    return np.where(np.isnan(found), np.nan, found)


def moment(at: float) -> datetime:
    """Return unix seconds as `read_records` takes them."""
    return datetime.fromtimestamp(at, UTC)
