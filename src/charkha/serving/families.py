"""The metrics of a server: their names, kinds, labels and what they say; a page is made from this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Family:
    """One metric."""

    name: str  # as it is asked for in PromQL; a histogram without _bucket, _sum and _count
    kind: Literal["counter", "gauge", "histogram", "info"]
    text: str
    labels: tuple[str, ...] = ()
    across: Literal["sum", "max", "min"] = "sum"  # how the values of several workers become one
    bounds: tuple[float, ...] = ()  # upper ones of a histogram's buckets, without infinity

    @property
    def cells(self) -> int:
        """How many numbers one label set has: for a histogram the sum, then each bucket's count."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


_VARIANT = ("model", "version", "variant", "role")

DURATIONS_S = (
    0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024,
    0.032, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 8192.0, 65536.0)

_ALL = (
    Family(
        name="charkha_predictions_total",
        kind="counter",
        text="Rows answered; those of shadows too, with role=\"shadow\".",
        labels=_VARIANT,
    ),
    Family(
        name="charkha_prediction_failures_total",
        kind="counter",
        text="Requests that a variant took and that were answered with 5xx.",
        labels=_VARIANT,
    ),
    Family(
        name="charkha_prediction_duration_seconds",
        kind="histogram",
        text="From when a request was read to its answer; of requests that were answered with 200.",
        labels=_VARIANT,
        bounds=DURATIONS_S,
    ),
    Family(
        name="charkha_batch_size",
        kind="histogram",
        text="Rows that the model was asked for at once.",
        labels=_VARIANT,
        bounds=BATCHES,
    ),
    Family(
        name="charkha_queue_depth",
        kind="gauge",
        text="Requests that wait for their batch.",
        labels=_VARIANT,
    ),
    Family(
        name="charkha_requests_total",
        kind="counter",
        text="Requests that asked for predictions, by the status that they got.",
        labels=("status",),
    ),
    Family(
        name="charkha_requests_in_flight",
        kind="gauge",
        text="Requests that ask for predictions and are being answered.",
    ),
    Family(
        name="charkha_model_info",
        kind="info",
        text="1 for each version that is held; `form` is onnx or native.",
        labels=(*_VARIANT, "form"),
        across="max",
    ),
    Family(
        name="charkha_variant_share",
        kind="gauge",
        text="The part of the traffic that a variant should get, from 0 to 1.",
        labels=("model", "version", "variant"),
        across="max",
    ),
    Family(
        name="charkha_shadow_dropped_total",
        kind="counter",
        text="Requests that a shadow did not follow, by the reason: behind, columns or failed.",
        labels=("model", "version", "variant", "reason"),
    ),
    Family(
        name="charkha_swaps_total",
        kind="counter",
        text="Versions that a worker loaded, checked and put in place while the server ran.",
        labels=("model",),
    ),
    Family(
        name="charkha_swap_failures_total",
        kind="counter",
        text="Versions that a worker could not load, or that failed their check; the old ones stayed.",
        labels=("model",),
    ),
    Family(
        name="charkha_registry_reachable",
        kind="gauge",
        text="Whether the registry answered when it was last asked: 1 or 0.",
        labels=("model",),
        across="min",
    ),
    Family(
        name="charkha_records_written_total",
        kind="counter",
        text="Predictions remembered.",
    ),
    Family(
        name="charkha_records_written_bytes_total",
        kind="counter",
        text="Bytes of remembered predictions, before they are sealed into Parquet.",
    ),
    Family(
        name="charkha_records_skipped_total",
        kind="counter",
        text="Predictions that are not in the sample that `[records] sample` asks for.",
    ),
    Family(
        name="charkha_records_lost_total",
        kind="counter",
        text="Predictions that were answered and could not be remembered.",
    ),
    Family(
        name="charkha_records_failing",
        kind="gauge",
        text="1 while records cannot be written, else 0.",
        across="max",
    ),
    Family(
        name="charkha_feedback_total",
        kind="counter",
        text="Ground truths taken, repeated ones too.",
    ),
    Family(
        name="charkha_workers",
        kind="gauge",
        text="Worker processes that live.",
    ),
    Family(
        name="charkha_process_resident_memory_bytes",
        kind="gauge",
        text="Memory of a worker process, or of the lead of several.",
        labels=("worker",),
    ),
    Family(
        name="charkha_process_cpu_seconds_total",
        kind="counter",
        text="Processor time of a worker process, user and system.",
        labels=("worker",),
    ),
    Family(
        name="charkha_process_open_fds",
        kind="gauge",
        text="Files and connections that a worker process has open.",
        labels=("worker",),
    ),
    Family(
        name="charkha_build_info",
        kind="info",
        text="1, with the versions of Charkha and of Python.",
        labels=("version", "python"),
        across="max",
    ),
)  # fmt: skip
FAMILIES = {family.name: family for family in _ALL}
