"""The board of the service: whether requests are answered, how fast, by whom, and remembered."""

from __future__ import annotations

from charkha.monitoring.rendering.panels import Panel, Row, ask, stat

_M = 'model="$model"'
_LIVE = f'{_M},role="live"'
_RATE = "[$__rate_interval]"
_BAD = (("green", None), ("red", 1.0))
_NO_IS_BAD = ((0.0, "no", "red"), (1.0, "yes", "green"))
_NAMED = "{{version}} {{variant}}"
_BY = "version, variant"


def service(latency_s: float) -> tuple[Row, ...]:
    """Return the rows; 99 of 100 answers may take so many seconds."""
    failed = 'sum(rate(charkha_requests_total{status=~"5.."}[1h]))'
    all_ = 'sum(rate(charkha_requests_total{status=~"2..|5.."}[1h]))'
    durations = f"rate(charkha_prediction_duration_seconds_bucket{{{_LIVE}}}{_RATE})"
    rows, batches = (
        f"sum by ({_BY}) (rate(charkha_batch_size_{each}{{{_LIVE}}}{_RATE}))"
        for each in ("sum", "count")
    )

    def quantile(share: float) -> str:
        return f"histogram_quantile({share}, sum by ({_BY}, le) ({durations}))"

    return (
        Row(
            title="Is it well?",
            panels=(
                stat("Up", "Whether Prometheus can read the server.", "min(up{job=\"charkha\"})",
                      words=_NO_IS_BAD),
                stat("Answered", "Part of the requests of the last hour that did not fail (5xx).",
                      f"1 - {failed} / {all_}", unit="percentunit",
                      thresholds=(("red", None), ("orange", 0.99), ("green", 0.999))),
                stat("p99", "Of 100 answers of the last five minutes 99 were faster.",
                      "histogram_quantile(0.99, sum by (le) (rate("
                      f"charkha_prediction_duration_seconds_bucket{{{_LIVE}}}[5m])))",
                      unit="s", thresholds=(("green", None), ("red", latency_s))),
                stat("Champion", "The version that is champion in the registry.",
                      f"max(charkha_champion_version{{{_M}}})", unit="none"),
                stat("Alerts open", "Alerts of Charkha itself, from drift and performance.",
                      f"sum(charkha_alerts_open{{{_M}}})", thresholds=_BAD),
                stat("Workers", "Processes that answer.", "sum(charkha_workers)",
                      thresholds=(("red", None), ("green", 1.0))),
            ),
        ),
        Row(
            title="Requests",
            panels=(
                Panel(
                    title="Requests by status",
                    description="422: the caller's row is wrong. 429: too many at once. 503: not in time, "
                    "or not ready. 500: the model failed, and the log says why.",
                    asked=(ask(f"sum by (status) (rate(charkha_requests_total{_RATE}))", "{{status}}"),),
                    unit="reqps", stacked=True,
                ),
                Panel(
                    title="Latency",
                    description="From when a request was read to its answer, of those answered with 200. "
                    "The line is the aim for p99.",
                    asked=tuple(
                        ask(quantile(share), f"{name} {_NAMED}")
                        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
                    ),
                    unit="s", thresholds=(("transparent", None), ("red", latency_s)),
                ),
                Panel(
                    title="Error budget burn",
                    description="Failed requests in an hour, as multiples of the one in a thousand that may "
                    "fail: above 14.4 the errors of 30 days last two days.",
                    asked=(ask(f"{failed} / {all_} / 0.001", "1 h"),),
                    unit="none", thresholds=(("transparent", None), ("orange", 1.0), ("red", 14.4)),
                ),
                Panel(
                    title="Rows answered by variant",
                    description="How the traffic is divided; shadows answer nobody.",
                    asked=(ask(f"sum by (version, variant, role) (rate(charkha_predictions_total{{{_M}}}"
                               f"{_RATE}))", f"{_NAMED} {{{{role}}}}"),),
                    unit="rowsps",
                ),
                Panel(
                    title="Share of the traffic",
                    description="What each variant should get, as the lead of the server has it.",
                    asked=(ask(f"max by ({_BY}) (charkha_variant_share{{{_M}}})", _NAMED),),
                    unit="percentunit", most=1, stacked=True,
                ),
                Panel(
                    title="Failures by variant",
                    description="Requests that a variant took and that were answered with 5xx.",
                    asked=(ask(f"sum by ({_BY}) (rate(charkha_prediction_failures_total{{{_M}}}"
                               f"{_RATE}))", _NAMED),),
                    unit="reqps",
                ),
            ),
        ),
        Row(
            title="Saturation",
            panels=(
                Panel(
                    title="In flight and waiting",
                    description="Requests that are being answered, and those that wait for their batch. "
                    "Both grow when the model is slower than its traffic.",
                    asked=(ask("sum(charkha_requests_in_flight)", "in flight"),
                           ask(f"sum by ({_BY}) (charkha_queue_depth{{{_M}}})", f"waiting {_NAMED}")),
                    unit="short",
                ),
                Panel(
                    title="Rows of a batch",
                    description="What came while the model was busy is answered together: larger batches "
                    "are a sign of load.",
                    asked=(ask(f"{rows} / {batches}", _NAMED),),
                    unit="short",
                ),
                Panel(
                    title="Turned away",
                    description="Part of all requests that got 429 or 503.",
                    asked=(ask('sum(rate(charkha_requests_total{status=~"429|503"}'
                               f"{_RATE})) / sum(rate(charkha_requests_total{_RATE}))", "429 and 503"),),
                    unit="percentunit", thresholds=(("transparent", None), ("red", 0.01)),
                ),
            ),
        ),
    )  # fmt: skip


def machine() -> tuple[Row, ...]:
    """Return the rows on versions, records and processes."""
    return (
        Row(
            title="Versions and records",
            panels=(
                Panel(
                    title="What is held",
                    description="Each version that is loaded. `onnx` is the fast form; `native` asks the "
                    "model's own library.",
                    asked=(ask(f"max by (version, variant, role, form) (charkha_model_info{{{_M}}})"),),
                    unit="none", shape="table", width=12,
                ),
                Panel(
                    title="Swaps",
                    description="Versions that workers have put in place, and those that they could not "
                    "load or that failed their check.",
                    asked=(ask(f"sum(increase(charkha_swaps_total{{{_M}}}[10m]))", "put in place"),
                           ask(f"sum(increase(charkha_swap_failures_total{{{_M}}}[10m]))", "failed")),
                    unit="short", width=12,
                ),
                Panel(
                    title="Predictions remembered",
                    description="Rows written, left out by `[records] sample`, and lost. Lost ones were "
                    "answered, and nothing knows of them.",
                    asked=(ask(f"sum(rate(charkha_records_written_total{_RATE}))", "written"),
                           ask(f"sum(rate(charkha_records_skipped_total{_RATE}))", "not in the sample"),
                           ask(f"sum(rate(charkha_records_lost_total{_RATE}))", "lost")),
                    unit="rowsps",
                ),
                Panel(
                    title="Trouble with records",
                    description="1 while they cannot be written; logs that wait for being sealed; attempts "
                    "to seal that failed.",
                    asked=(ask("max(charkha_records_failing)", "cannot be written"),
                           ask("max(charkha_records_unsealed_logs)", "logs that wait"),
                           ask("sum(increase(charkha_records_seal_failures_total[1h]))", "failed to seal")),
                    unit="short", thresholds=(("transparent", None), ("red", 1.0)),
                ),
                Panel(
                    title="Whom it depends on",
                    description="Whether the registry and the ledger answered when they were last asked. "
                    "Without them requests are answered all the same.",
                    asked=(ask(f"min(charkha_registry_reachable{{{_M}}})", "registry"),
                           ask(f"min(charkha_ledger_reachable{{{_M}}})", "ledger")),
                    unit="none", shape="state-timeline", words=_NO_IS_BAD,
                ),
            ),
        ),
        Row(
            title="Processes",
            panels=(
                Panel(
                    title="Processor",
                    description="Cores that each process uses.",
                    asked=(ask(f"sum by (worker) (rate(charkha_process_cpu_seconds_total{_RATE}))",
                               "worker {{worker}}"),),
                    unit="short",
                ),
                Panel(
                    title="Memory",
                    description="Resident memory; pages that several processes share count for each.",
                    asked=(ask("sum by (worker) (charkha_process_resident_memory_bytes)",
                               "worker {{worker}}"),),
                    unit="bytes",
                ),
                Panel(
                    title="Open files and connections",
                    description="Of each process; `ulimit -n` is where it ends.",
                    asked=(ask("sum by (worker) (charkha_process_open_fds)", "worker {{worker}}"),),
                    unit="short",
                ),
            ),
        ),
    )  # fmt: skip
