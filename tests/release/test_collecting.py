"""Evidence counted from records: whose, when, and what of labels that are late or lacking."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from charkha.release.collecting import BREAK_S, Span, collect, make_scales
from charkha.release.evidence import Scales

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
AT = BEGAN.timestamp()
VERSIONS = (1, 2)
SCALES = Scales(edges=(0.0,), cap=5.0)


def rows(*given, kind=None):
    """Return records of (second, version, prediction, truth), each with an id of its own."""
    seconds, versions, values, truths = zip(*given, strict=True)
    return pa.table(
        {
            "id": [f"{version}-{n}" for n, version in enumerate(versions)],
            "time": pa.array(
                [BEGAN + timedelta(seconds=s) for s in seconds], pa.timestamp("us", "UTC")
            ),
            "version": pa.array(versions, pa.int64()),
            "role": ["live"] * len(versions),
            "latency_s": [0.01] * len(versions),
            "prediction": pa.array(values, kind),
            "ground_truth": pa.array(truths, kind or pa.float64()),
        }
    )


def counted(table, *spans, loss="absolute", scales=SCALES):
    spans = spans or (Span(stage=0, paired=False, since=AT),)
    return collect(table, spans, VERSIONS, loss=loss, scales=scales)


def test_a_night_without_requests_is_no_time_with_traffic():
    night = 8 * 3600.0
    asked = [(t, 2, 1.0, None) for t in (0, 200, 200 + night, 300 + night)]
    window = counted(rows(*asked)).windows[0]
    assert window.lasted_s == 200 + BREAK_S + 100


def test_each_version_is_counted_in_the_stage_of_its_request_and_no_other_version_at_all():
    table = rows(
        (0, 1, 1.0, None),
        (10, 2, -1.0, None),
        (20, 1, 1.0, None),
        (30, 2, 1.0, None),
        (31, 9, 1.0, None),
    )
    found = counted(
        table,
        Span(stage=0, paired=False, since=AT, until=AT + 20),
        Span(stage=1, paired=False, since=AT + 20),
    )
    first, second = found.windows
    assert (first.baseline.requests, first.candidate.requests) == (1, 1)
    assert (second.baseline.requests, second.candidate.requests) == (1, 1)
    assert (first.candidate.predictions, second.candidate.predictions) == ((1, 0), (0, 1))
    assert (first.first_at, first.lasted_s) == (AT + 10, 0)


def test_spans_of_one_stage_are_one_window():
    table = rows((0, 1, 1.0, None), (30, 1, 1.0, None))
    spans = [Span(stage=0, paired=False, since=AT + s, until=AT + s + 10) for s in (0, 30)]
    assert [w.baseline.requests for w in counted(table, *spans).windows] == [2]


def test_a_loss_counts_once_its_truth_is_there_with_and_without_the_cap():
    table = rows((0, 1, 1.0, 2.0), (0, 2, 1.0, 10.0), (1, 1, 1.0, None), (1, 2, 1.0, None))
    window = counted(table).windows[0]
    assert (window.baseline.loss.count, window.baseline.loss.mean) == (1, 1)
    assert (window.candidate.loss.mean, window.candidate.capped.mean) == (9, 5)
    assert counted(table, loss="squared").windows[0].candidate.loss.mean == 81


def test_labels_count_only_where_both_arms_have_them():
    # The candidate's later labels are not there yet, and the baseline's later losses are higher.
    table = rows(*[(s, v, 0.0, float(s)) for s in range(10) for v in VERSIONS if v == 1 or s < 4])
    window = counted(table).windows[0]
    assert window.baseline.loss == window.candidate.loss
    assert window.baseline.loss.count == 4
    assert window.baseline.requests == 10


def test_a_label_that_comes_late_counts_where_its_request_was():
    early = rows((0, 1, 0.0, None), (0, 2, 0.0, None), (50, 1, 0.0, 1.0), (50, 2, 0.0, 1.0))
    late = rows((0, 1, 0.0, 3.0), (0, 2, 0.0, 3.0), (50, 1, 0.0, 1.0), (50, 2, 0.0, 1.0))
    spans = (
        Span(stage=0, paired=False, since=AT, until=AT + 9),
        Span(stage=1, paired=False, since=AT + 9),
    )
    assert [w.baseline.loss.count for w in counted(early, *spans).windows] == [0, 1]
    assert [w.baseline.loss.count for w in counted(late, *spans).windows] == [1, 1]


def test_a_shadow_pairs_the_losses_of_the_requests_that_both_answered():
    table = rows(*[(n, v, 0.0, float(n + v)) for n in range(5) for v in VERSIONS])
    table = table.set_column(0, "id", [[str(n) for n in range(5) for _ in VERSIONS]])
    table = table.filter(pa.array([True] * 9 + [False]))
    window = counted(table, Span(stage=0, paired=True, since=AT)).windows[0]
    assert (window.pairs.baseline.mean, window.pairs.candidate.mean) == (2.5, 3.5)
    assert window.pairs.products == pytest.approx(window.pairs.baseline.squares)
    assert window.candidate.latency == {}


def test_classes_are_counted_by_name_and_what_is_new_among_them_apart():
    table = rows(
        (0, 1, "no", "yes"),
        (0, 2, "yes", "yes"),
        (1, 2, "maybe", None),
        (1, 1, "no", "no"),
        kind=pa.string(),
    )
    window = counted(table, loss="zero-one", scales=Scales(classes=("no", "yes"))).windows[0]
    assert (window.baseline.predictions, window.candidate.predictions) == ((2, 0, 0), (0, 1, 1))
    assert (window.baseline.loss.count, window.candidate.loss.mean) == (1, 0)


def many(count, truth=1.0):
    return rows(*[(n, 1 + n % 2, float(n % 50), truth) for n in range(count)])


def test_scales_are_made_once_of_both_arms_and_stay():
    made = {
        n: make_scales(many(n), VERSIONS, loss="absolute", known=Scales()) for n in (99, 150, 250)
    }
    assert made[99] == Scales()
    assert made[150].edges
    assert np.isinf(made[150].cap)
    assert made[250].cap == pytest.approx(43.1)
    assert make_scales(many(250), VERSIONS, loss="absolute", known=SCALES) == SCALES


def test_no_records_are_no_evidence_and_no_error():
    window = counted(rows((0, 9, 1.0, None))).windows[0]
    assert (window.baseline.requests, window.candidate.requests, window.first_at) == (0, 0, None)
