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
    bounds: tuple[float, ...] = ()  # upper ones of a histogram's buckets, without infinity;
    # a histogram without them has bounds for each label set, which `Meters.cells` is given

    @property
    def cells(self) -> int:
        """How many numbers one label set has: for a histogram the sum, then each bucket's count."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


BOUNDS = "le"  # in the key of counts: a histogram's own bounds, as text, with a space between two
_VARIANT = ("model", "version", "variant", "role")
_VERSION = ("model", "version")

DURATIONS_S = (
    0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024,
    0.032, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
DELAYS_S = (
    1.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0, 7_776_000.0, 31_536_000.0,
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
        name="charkha_feedback_delay_seconds",
        kind="histogram",
        text="From a prediction to its ground truth, as told by its id and the clock of the server.",
        bounds=DELAYS_S,
    ),
    Family(
        name="charkha_rows_examined_total",
        kind="counter",
        text="Rows whose inputs and predictions were looked at: each, up to 1,000 a second of a "
        "variant and worker, beyond that a part of them.",
        labels=("model", "variant", "role"),
    ),
    Family(
        name="charkha_input_values_total",
        kind="counter",
        text="Values of a column, among the rows examined, that are `missing`, `out_of_range` of the "
        "training rows, a `new_category`, or `above_median` of the training rows.",
        labels=("model", "variant", "column", "is"),
    ),
    Family(
        name="charkha_input_reference_share",
        kind="gauge",
        text="The part of the training rows of which the same is true, from 0 to 1.",
        labels=("model", "variant", "column", "is"),
        across="max",
    ),
    Family(
        name="charkha_prediction_value",
        kind="histogram",
        text="Predictions that are numbers, of the rows examined; bounds are quantiles of what the "
        "version said of the held-out rows when it was made.",
        labels=_VARIANT,
    ),
    Family(
        name="charkha_prediction_reference",
        kind="gauge",
        text="Quantiles of what the version said of the held-out rows when it was made.",
        labels=(*_VERSION, "quantile"),
        across="max",
    ),
    Family(
        name="charkha_predicted_labels_total",
        kind="counter",
        text="Predictions that are labels, of the rows examined; beyond 20 labels they are `(other)`.",
        labels=(*_VARIANT, "label"),
    ),
    Family(
        name="charkha_predicted_label_reference_share",
        kind="gauge",
        text="The part of the held-out rows for which the version said this label, from 0 to 1.",
        labels=(*_VERSION, "label"),
        across="max",
    ),
    Family(
        name="charkha_champion_version",
        kind="gauge",
        text="The version that is champion in the registry; 0: none is.",
        labels=("model",),
        across="max",
    ),
    Family(
        name="charkha_ledger_reachable",
        kind="gauge",
        text="Whether the ledger answered when the lead last read what follows in it: 1 or 0.",
        labels=("model",),
        across="max",
    ),
    Family(
        name="charkha_drift",
        kind="gauge",
        text="1 where the newest window of a version that was judged has drifted, else 0.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_drift_columns",
        kind="gauge",
        text="Columns that drifted in the newest window that was judged.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_drift_windows_in_a_row",
        kind="gauge",
        text="Windows without a break, up to that one, in which one column drifted: the longest.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_drift_window_rows",
        kind="gauge",
        text="Rows of the newest window that was looked at, also of one with too few rows.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_drift_window_end_timestamp_seconds",
        kind="gauge",
        text="When the newest window that was looked at ended, also one with too few rows.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_drift_column",
        kind="gauge",
        text="1 for each column that drifted in that window, else 0; 50 columns at most.",
        labels=(*_VERSION, "column"),
        across="max",
    ),
    Family(
        name="charkha_drift_column_psi",
        kind="gauge",
        text="Population stability index of a column in that window.",
        labels=(*_VERSION, "column"),
        across="max",
    ),
    Family(
        name="charkha_drift_column_shift",
        kind="gauge",
        text="How far a column moved in that window, in standard deviations of training.",
        labels=(*_VERSION, "column"),
        across="max",
    ),
    Family(
        name="charkha_performance",
        kind="gauge",
        text="A metric on the newest window whose ground truth is known.",
        labels=(*_VERSION, "metric"),
        across="max",
    ),
    Family(
        name="charkha_performance_low",
        kind="gauge",
        text="The lower end of its confidence interval.",
        labels=(*_VERSION, "metric"),
        across="max",
    ),
    Family(
        name="charkha_performance_high",
        kind="gauge",
        text="The upper end of its confidence interval.",
        labels=(*_VERSION, "metric"),
        across="max",
    ),
    Family(
        name="charkha_performance_held_out",
        kind="gauge",
        text="The same metric on the held-out rows when the version was made.",
        labels=(*_VERSION, "metric"),
        across="max",
    ),
    Family(
        name="charkha_performance_worse",
        kind="gauge",
        text="1 where the whole interval is worse than the held-out figure, else 0.",
        labels=(*_VERSION, "metric"),
        across="max",
    ),
    Family(
        name="charkha_performance_labelled",
        kind="gauge",
        text="Rows of the newest window whose ground truth is known.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_alerts_open",
        kind="gauge",
        text="Alerts of Charkha that are open, by severity.",
        labels=("model", "severity"),
        across="max",
    ),
    Family(
        name="charkha_release_active",
        kind="gauge",
        text="1 while a release of the version goes on, 0 after it.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_release_phase",
        kind="gauge",
        text="1 for the phase of the newest release: judging, watching, promoted, rolled back, aborted.",
        labels=(*_VERSION, "phase"),
        across="max",
    ),
    Family(
        name="charkha_release_stage",
        kind="gauge",
        text="The stage of the newest release, from 0.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_release_share",
        kind="gauge",
        text="The part of the traffic that its plan gives the version in this stage, from 0 to 1.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_release_overdue",
        kind="gauge",
        text="1 where the time of the release is over and a person has to decide, else 0.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_release_looked_timestamp_seconds",
        kind="gauge",
        text="When a controller last looked at the release.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_release_changed_timestamp_seconds",
        kind="gauge",
        text="When the release came into its stage.",
        labels=_VERSION,
        across="max",
    ),
    Family(
        name="charkha_loop_turns",
        kind="gauge",
        text="Turns of the loop in the ledger, by what started them and how they ended.",
        labels=("model", "trigger", "outcome"),
        across="max",
    ),
    Family(
        name="charkha_loop_phase",
        kind="gauge",
        text="1 for the phase of the newest turn of the loop.",
        labels=("model", "phase"),
        across="max",
    ),
    Family(
        name="charkha_loop_turn_timestamp_seconds",
        kind="gauge",
        text="When the newest turn of the loop last moved.",
        labels=("model",),
        across="max",
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
