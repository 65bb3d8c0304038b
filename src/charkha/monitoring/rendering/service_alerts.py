"""Alerts on the service: answers, speed, saturation, and whether predictions are remembered."""

from __future__ import annotations

from charkha.monitoring.rendering.alert import Alert

_JOB = 'job="charkha"'
_VARIANT = 'model="houses",version="3",variant="champion"'


def service(availability: float, latency_s: float) -> tuple[Alert, ...]:
    """Return the alerts on answers."""
    up, requests = f"up{{{_JOB}}}", "charkha_requests_total"
    duration = f'charkha_prediction_duration_seconds_bucket{{{_JOB},{_VARIANT},role="live",le='
    slow = f"{min(latency_s * 4, 1e4):g}"
    return (
        Alert(
            name="CharkhaServerDown",
            about="service",
            severity="critical",
            expression='up{job="charkha"} == 0\nor\nabsent(up{job="charkha"})',
            lasting="2m",
            summary="The model server {{ $labels.instance }} does not answer",
            description="Prometheus could not read its /metrics for two minutes.",
            action="Look at the server's log; start it again with `charkha serve`. "
            "`charkha doctor` says what is missing on its machine.",
            fires={up: "0x70"},
            rests={up: "1x70"},
        ),
        *_burns(availability),
        Alert(
            name="CharkhaLatencyHigh",
            about="service",
            severity="warning",
            expression=f"variant:charkha_prediction_duration_seconds:p99_5m > {latency_s:g}",
            lasting="10m",
            summary="{{ $labels.model }}@{{ $labels.version }} answers slowly",
            description="One answer in a hundred took more than {{ $value | humanizeDuration }} "
            f"in the last five minutes; the aim is {latency_s:g} s.",
            action="See on the board whether the queue or the batches grew. More workers: "
            "`charkha serve --workers N`. A version that is slower than the one before: "
            "`charkha release status {{ $labels.model }}`, `charkha models rollback {{ $labels.model }}`.",
            fires={f'{duration}"{slow}"}}': "0x70", f'{duration}"+Inf"}}': "0+600x70"},
            rests={
                f'{duration}"{latency_s / 4:g}"}}': "0+600x70",
                f'{duration}"+Inf"}}': "0+600x70",
            },
        ),
        Alert(
            name="CharkhaSaturated",
            about="service",
            severity="warning",
            expression='sum by (job, instance) (rate(charkha_requests_total{status=~"429|503"}[5m]))\n'
            "/\nsum by (job, instance) (rate(charkha_requests_total[5m])) > 0.01",
            lasting="5m",
            summary="The model server {{ $labels.instance }} turns requests away",
            description="{{ $value | humanizePercentage }} of the requests get 429 (too many at once) "
            "or 503 (not in time, or not ready).",
            action="More workers or servers: `charkha serve --workers N`. The bounds are "
            "`[serving] requests` and `timeout_s` in charkha.toml.",
            fires={
                f'{requests}{{{_JOB},instance="a",status="200"}}': "0+600x70",
                f'{requests}{{{_JOB},instance="a",status="429"}}': "0+60x70",
            },
            rests={
                f'{requests}{{{_JOB},instance="a",status="200"}}': "0+600x70",
                f'{requests}{{{_JOB},instance="a",status="429"}}': "0+1x70",
            },
        ),
        Alert(
            name="CharkhaNoTraffic",
            about="service",
            severity="warning",
            expression="sum by (job) (rate(charkha_requests_total[15m])) == 0\n"
            "and\nsum by (job) (increase(charkha_requests_total[1h] offset 15m)) >= 10",
            lasting="5m",
            summary="Nobody asks the model server any more",
            description="No request came for 15 minutes, after an hour in which some did.",
            action="See whether callers or the load balancer still reach it: "
            "`curl http://SERVER/readyz`.",
            fires={f'{requests}{{{_JOB},status="200"}}': "0+60x50 3000x40"},
            rests={f'{requests}{{{_JOB},status="200"}}': "0+60x90"},
            after="80m",
        ),
        Alert(
            name="CharkhaWorkerMissing",
            about="service",
            severity="warning",
            expression="charkha_workers < max_over_time(charkha_workers[1h])",
            lasting="5m",
            summary="A worker of {{ $labels.instance }} does not come back",
            description="{{ $value }} workers live, and there were more within the last hour.",
            action="The server's log says why the worker ended; memory is the usual reason.",
            fires={f"charkha_workers{{{_JOB}}}": "4x50 3x30"},
            rests={f"charkha_workers{{{_JOB}}}": "4x70"},
        ),
    )


def _burns(availability: float) -> tuple[Alert, ...]:
    """Return alerts on how fast a month's errors are used up: two windows each, long and short.

    Source: Beyer and others, The Site Reliability Workbook (2018), chapter 5, «Multiwindow,
    Multi-Burn-Rate Alerts». Five errors at least, so that one alone at night wakes nobody.
    """
    budget = 1 - availability
    ratio = "job:charkha_request_errors:ratio_rate"

    def burns(factor: float, long: str, short: str) -> str:
        most = f"{factor * budget:.6g}"
        errors = f'sum by (job) (increase(charkha_requests_total{{status=~"5.."}}[{long}])) >= 5'
        return f"({ratio}{long} > {most} and {ratio}{short} > {most} and {errors})"

    good = f'charkha_requests_total{{{_JOB},status="200"}}'
    bad = f'charkha_requests_total{{{_JOB},status="500"}}'
    aim = f"{100 * availability:g} %"
    action = (
        "The server's log names each failed request with its id; "
        "`charkha records MODEL` shows what was asked before and after. Failures of one variant only: "
        "`charkha release status MODEL`, `charkha release abort MODEL`, `charkha models rollback MODEL`."
    )
    return (
        Alert(
            name="CharkhaErrorBudgetBurnsFast",
            about="service",
            severity="critical",
            expression=f"{burns(14.4, '1h', '5m')}\nor\n{burns(6, '6h', '30m')}",
            lasting="2m",
            summary="Requests fail so often that the month's errors are soon used up",
            description="{{ $value | humanizePercentage }} of the requests failed (5xx); the aim is that "
            f"{aim} are answered. At this rate the errors of 30 days last five days or less.",
            action=action,
            fires={good: "0+600x100", bad: f"0+{600 * min(0.5, 20 * budget):.6g}x100"},
            rests={good: "0+600x100", bad: f"0+{600 * 0.5 * budget:.6g}x100"},
            after="90m",
        ),
        Alert(
            name="CharkhaErrorBudgetBurns",
            about="service",
            severity="warning",
            expression=f"{burns(3, '1d', '2h')}\nor\n{burns(1, '3d', '6h')}",
            lasting="15m",
            summary="Requests fail more often than they may",
            description="{{ $value | humanizePercentage }} of the requests failed (5xx); the aim is that "
            f"{aim} are answered.",
            action=action,
            fires={good: "0+600x400", bad: f"0+{600 * 4 * budget:.6g}x400"},
            rests={good: "0+600x400", bad: f"0+{600 * 0.5 * budget:.6g}x400"},
            after="380m",
        ),
    )


def records() -> tuple[Alert, ...]:
    """Return the alerts on records and feedback."""
    failing, lost = "charkha_records_failing", "charkha_records_lost_total"
    seals = "charkha_records_seal_failures_total"
    logs, feedback = "charkha_records_unsealed_logs", "charkha_feedback_total"
    return (
        Alert(
            name="CharkhaRecordsNotWritten",
            about="records",
            severity="critical",
            expression=f"{failing} == 1\nor\nincrease({lost}[10m]) > 0",
            lasting="1m",
            summary="Predictions are not remembered",
            description="{{ $labels.instance }} answers and cannot keep what it answered: drift, "
            "releases and `charkha why` will not know of it.",
            action="Free some disk space where `[records]` lies: `df -h`, then `charkha doctor`.",
            fires={f"{failing}{{{_JOB}}}": "1x70"},
            rests={f"{failing}{{{_JOB}}}": "0x70", f"{lost}{{{_JOB}}}": "7x70"},
        ),
        Alert(
            name="CharkhaRecordsNotSealed",
            about="records",
            severity="warning",
            expression=f"increase({seals}[1h]) > 0\nand\n{logs} > 0",
            lasting="15m",
            summary="Records wait for being sealed",
            description="{{ $labels.instance }} cannot put what it remembers into the place of "
            "`[records] url`; it stays on this machine until then, and nothing is lost.",
            action="See that the place of `[records] url` can be written: `charkha doctor`; "
            "the server's log has the reason.",
            fires={f"{seals}{{{_JOB}}}": "0+1x70", f"{logs}{{{_JOB}}}": "3x70"},
            rests={f"{seals}{{{_JOB}}}": "4x70", f"{logs}{{{_JOB}}}": "3x70"},
        ),
        Alert(
            name="CharkhaFeedbackStopped",
            about="records",
            severity="warning",
            expression=f"sum by (job) (increase({feedback}[1d])) == 0\n"
            f"and\nsum by (job) (increase({feedback}[7d])) > 0",
            lasting="1h",
            summary="Ground truth comes no more",
            description="None came for a day, after a week in which some did: performance is not known "
            "any more, and a release cannot compare losses.",
            action="See what sends `POST /feedback` or runs `charkha feedback`.",
            fires={f"{feedback}{{{_JOB}}}": "0+5x60 300x1700"},
            rests={f"{feedback}{{{_JOB}}}": "0+5x1760"},
            after="1640m",
        ),
    )
