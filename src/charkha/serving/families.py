"""The metrics of a server: their names, kinds, labels and what they say; a page is made from this."""

from __future__ import annotations

from charkha.serving.family import VARIANT, VERSION, Family
from charkha.serving.ledger_families import LEDGER

BOUNDS = "le"  # in the key of counts: a histogram's own bounds, as text, with a space between two

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
        labels=VARIANT,
    ),
    Family(
        name="charkha_prediction_failures_total",
        kind="counter",
        text="Requests that a variant took and that were answered with 5xx.",
        labels=VARIANT,
    ),
    Family(
        name="charkha_prediction_duration_seconds",
        kind="histogram",
        text="From when a request was read to its answer; of requests that were answered with 200.",
        labels=VARIANT,
        bounds=DURATIONS_S,
    ),
    Family(
        name="charkha_batch_size",
        kind="histogram",
        text="Rows that the model was asked for at once.",
        labels=VARIANT,
        bounds=BATCHES,
    ),
    Family(
        name="charkha_queue_depth",
        kind="gauge",
        text="Requests that wait for their batch.",
        labels=VARIANT,
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
        labels=(*VARIANT, "form"),
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
        name="charkha_records_unsealed_logs",
        kind="gauge",
        text="Closed logs of records that waited for being sealed into Parquet at the last look.",
        across="max",
    ),
    Family(
        name="charkha_records_seal_failures_total",
        kind="counter",
        text="Attempts to seal records into Parquet that failed; the logs stay until one succeeds.",
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
        text="Rows whose inputs and predictions were looked at: each, up to 256 a second of a "
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
        labels=VARIANT,
    ),
    Family(
        name="charkha_prediction_reference",
        kind="gauge",
        text="Quantiles of what the version said of the held-out rows when it was made.",
        labels=(*VERSION, "share"),
        across="max",
    ),
    Family(
        name="charkha_predicted_labels_total",
        kind="counter",
        text="Predictions that are labels, of the rows examined; beyond 20 labels they are `(other)`.",
        labels=(*VARIANT, "label"),
    ),
    Family(
        name="charkha_predicted_label_reference_share",
        kind="gauge",
        text="The part of the held-out rows for which the version said this label, from 0 to 1.",
        labels=(*VERSION, "label"),
        across="max",
    ),
    *LEDGER,
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
