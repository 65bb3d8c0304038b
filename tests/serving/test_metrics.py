"""Counts of several processes, and what Prometheus reads of them."""

import multiprocessing
import os
import signal
import time

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from charkha.serving import counts
from charkha.serving.counts import Counts, counting, read_counts
from charkha.serving.exposition import expose
from charkha.serving.families import BATCHES, DURATIONS_S, FAMILIES
from charkha.serving.metrics import Meters

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
LIVE = {"model": "houses", "version": "3", "variant": "champion", "role": "live"}


def shown(folder, accept=""):
    """Return what another program reads: {(sample, labels): value}."""
    body, kind = expose(folder, accept)
    parse = text_string_to_metric_families
    if accept:
        assert kind.startswith("application/openmetrics-text; version=1.0.0")
        parse = openmetrics.text_string_to_metric_families
    samples = [sample for family in parse(body.decode()) for sample in family.samples]
    found = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}
    assert len(found) == len(samples), "a series stands there twice"
    return found


def value(folder, name, accept="", **labels):
    return shown(folder, accept).get((name, tuple(sorted(labels.items()))))


def start(target, *arguments):
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def champion(meters):
    return meters.variant("houses", 3, "champion", "live")


@pytest.fixture
def meters(tmp_path):
    made = Meters(tmp_path, 0)
    yield made
    made.close()


def test_answers_are_counted_by_rows_requests_and_duration(meters):
    meter = champion(meters)
    meter.answered(1, 0.0004)
    meter.answered(50, 0.02)
    found = shown(meters.folder)
    labels = tuple(sorted(LIVE.items()))
    name = "charkha_prediction_duration_seconds"
    assert found["charkha_predictions_total", labels] == 51
    assert found[f"{name}_count", labels] == 2
    assert found[f"{name}_sum", labels] == pytest.approx(0.0204)
    assert value(meters.folder, f"{name}_bucket", **LIVE, le="0.0005") == 1
    assert value(meters.folder, f"{name}_bucket", **LIVE, le="0.024") == 2
    assert found["charkha_requests_total", (("status", "200"),)] == 2


@pytest.mark.parametrize("number", range(len(DURATIONS_S)))
def test_a_duration_on_a_bound_belongs_below_it(meters, number):
    champion(meters).answered(1, DURATIONS_S[number])
    name, bound = "charkha_prediction_duration_seconds_bucket", repr(DURATIONS_S[number])
    assert value(meters.folder, name, **LIVE, le=bound) == 1
    if number:
        assert value(meters.folder, name, **LIVE, le=repr(DURATIONS_S[number - 1])) == 0


def test_what_is_longer_than_every_bound_is_counted(meters):
    champion(meters).answered(1, 1000.0)
    name = "charkha_prediction_duration_seconds_bucket"
    assert value(meters.folder, name, **LIVE, le="30.0") == 0
    assert value(meters.folder, name, **LIVE, le="+Inf") == 1


def test_batches_are_counted_by_their_rows(meters):
    champion(meters).batch(7)
    champion(meters).batch(100_000)
    assert value(meters.folder, "charkha_batch_size_bucket", **LIVE, le="8.0") == 1
    assert value(meters.folder, "charkha_batch_size_count", **LIVE) == 2
    assert value(meters.folder, "charkha_batch_size_sum", **LIVE) == 100_007


def test_a_refused_request_is_counted_by_its_status(meters):
    for status in (422, 422, 429):
        meters.refused(status)
    assert value(meters.folder, "charkha_requests_total", status="422") == 2
    assert value(meters.folder, "charkha_requests_total", status="429") == 1


def test_a_status_that_alerts_ask_for_is_there_before_it_happens(meters):
    assert value(meters.folder, "charkha_requests_total", status="500") == 0
    meters.refused(500)
    assert value(meters.folder, "charkha_requests_total", status="500") == 1


def test_a_shadows_rows_are_predictions_but_no_requests(meters):
    shadow = meters.variant("houses", 4, "next", "shadow")
    shadow.answered(3, 0.01)
    shadow.lost("busy")
    about = {"model": "houses", "version": "4", "variant": "next"}
    assert value(meters.folder, "charkha_predictions_total", **about, role="shadow") == 3
    assert value(meters.folder, "charkha_shadow_dropped_total", **about, reason="busy") == 1
    assert value(meters.folder, "charkha_requests_total", status="200") == 0


def test_a_gauge_shows_what_was_there_at_the_last_refresh(meters):
    waiting = [3]
    champion(meters).show(form="onnx", share=lambda: 0.9, waiting=lambda: waiting[0])
    waiting[0] = 5
    assert value(meters.folder, "charkha_queue_depth", **LIVE) == 3
    meters.refresh()
    assert value(meters.folder, "charkha_queue_depth", **LIVE) == 5
    assert value(meters.folder, "charkha_model_info", **LIVE, form="onnx") == 1
    about = {name: text for name, text in LIVE.items() if name != "role"}
    assert value(meters.folder, "charkha_variant_share", **about) == 0.9


def test_a_variant_that_left_is_shown_no_more_and_its_counts_stay(meters):
    meter = champion(meters)
    meter.show(form="onnx", share=lambda: 1, waiting=lambda: 0)
    meter.answered(2, 0.001)
    meter.gone()
    assert value(meters.folder, "charkha_model_info", **LIVE, form="onnx") is None
    assert value(meters.folder, "charkha_queue_depth", **LIVE) is None
    assert value(meters.folder, "charkha_predictions_total", **LIVE) == 2


def test_a_variant_that_comes_back_goes_on_counting_while_its_former_self_leaves(meters):
    before, after = champion(meters), champion(meters)
    before.show(form="onnx", share=lambda: 1, waiting=lambda: 8)
    before.answered(2, 0.001)
    after.show(form="onnx", share=lambda: 1, waiting=lambda: 1)
    after.answered(1, 0.001)
    before.gone()
    assert value(meters.folder, "charkha_predictions_total", **LIVE) == 3
    assert value(meters.folder, "charkha_queue_depth", **LIVE) == 1


def test_a_watched_count_of_another_object_is_added_as_it_grows(meters):
    written = [0]
    watched = meters.watch("charkha_records_written_total", lambda: written[0])
    for count in (5, 7):
        written[0] = count
        meters.refresh()
    assert value(meters.folder, "charkha_records_written_total") == 7
    written[0] = 9
    meters.unwatch(watched)
    assert value(meters.folder, "charkha_records_written_total") == 9


def test_a_family_without_labels_that_nobody_names_is_refused(meters):
    with pytest.raises(KeyError):
        meters.count("charkha_no_such_total")
    with pytest.raises(KeyError):
        meters.count("charkha_swaps_total")  # it has a label: model


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_both_formats_say_the_same(meters, accept):
    meter = champion(meters)
    meter.answered(2, 0.002)
    meter.show(form="native", share=lambda: 1, waiting=lambda: 0)
    assert value(meters.folder, "charkha_predictions_total", accept, **LIVE) == 2
    assert value(meters.folder, "charkha_model_info", accept, **LIVE, form="native") == 1
    assert value(meters.folder, "charkha_workers", accept) == 1


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
@pytest.mark.parametrize(
    "name", ['say "hi"', "back\\slash", "back\\new", "two\nlines", "ümlaut 漢", "a,b={}"]
)
def test_a_label_comes_through_whatever_is_in_it(meters, accept, name):
    meters.variant("houses", 3, name, "live").answered(1, 0.1)
    about = {**LIVE, "variant": name}
    assert value(meters.folder, "charkha_predictions_total", accept, **about) == 1


def test_every_family_can_be_shown_in_both_formats(meters):
    for family in FAMILIES.values():
        cells = meters.cells(family.name, **dict.fromkeys(family.labels, "x"))
        cells[-1] = 1
    for accept in ("", OPENMETRICS):
        shown(meters.folder, accept)


def test_bounds_rise():
    for bounds in (DURATIONS_S, BATCHES):
        assert list(bounds) == sorted(set(bounds))


def _work(folder, worker, answers, said):
    meters = Meters(folder, worker)
    meter = champion(meters)
    meter.show(form="onnx", share=lambda: 0.5, waiting=lambda: 2)
    for _ in range(answers):
        meter.answered(1, 0.001)
    said.send("done")
    time.sleep(600)


def _killed(folder, worker, answers):
    ours, theirs = multiprocessing.Pipe()
    process = start(_work, folder, worker, answers, theirs)
    assert ours.recv() == "done"
    return process


def test_several_workers_are_added_up_and_a_killed_one_loses_no_count(tmp_path):
    workers = [_killed(tmp_path, number, 1000) for number in range(2)]
    about = {name: text for name, text in LIVE.items() if name != "role"}
    try:
        assert value(tmp_path, "charkha_predictions_total", **LIVE) == 2000
        assert value(tmp_path, "charkha_queue_depth", **LIVE) == 4
        assert value(tmp_path, "charkha_variant_share", **about) == 0.5
        assert value(tmp_path, "charkha_workers") == 2
        assert value(tmp_path, "charkha_process_resident_memory_bytes", worker="1") > 1e6
        os.kill(workers[1].pid, signal.SIGKILL)
        workers[1].join(30)
        assert value(tmp_path, "charkha_predictions_total", **LIVE) == 2000
        assert value(tmp_path, "charkha_queue_depth", **LIVE) == 2
        assert value(tmp_path, "charkha_workers") == 1
        assert value(tmp_path, "charkha_process_resident_memory_bytes", worker="1") is None
    finally:
        for process in workers:
            process.kill()
            process.join(30)


def test_who_comes_after_a_killed_worker_goes_on_in_its_file(tmp_path):
    process = _killed(tmp_path, 0, 10)
    process.kill()
    process.join(30)
    meters = Meters(tmp_path, 0)
    champion(meters).answered(1, 0.001)
    assert [path.name for path in tmp_path.iterdir()] == ["0-0.0"]
    assert value(tmp_path, "charkha_predictions_total", **LIVE) == 11
    assert value(tmp_path, "charkha_queue_depth", **LIVE) is None  # the dead one's
    meters.close()


def test_two_living_processes_with_the_same_number_do_not_disturb_each_other(tmp_path):
    process = _killed(tmp_path, 0, 10)
    try:
        meters = Meters(tmp_path, 0)
        champion(meters).answered(1, 0.001)
        assert value(tmp_path, "charkha_predictions_total", **LIVE) == 11
        assert value(tmp_path, "charkha_workers") == 2
        meters.close()
    finally:
        process.kill()
        process.join(30)


def _swap(folder, count):
    meters = Meters(folder, 0)
    for version in range(count):
        meters.variant("houses", version, "champion", "live").answered(1, 0.001)


def test_a_lead_is_no_worker_and_is_shown_as_itself(tmp_path):
    lead, worker = Meters(tmp_path, "lead"), Meters(tmp_path, 0)
    lead.watch("charkha_registry_reachable", lambda: 0, model="houses")
    lead.count("charkha_swap_failures_total", model="houses")
    assert value(tmp_path, "charkha_workers") == 1
    assert value(tmp_path, "charkha_registry_reachable", model="houses") == 0
    assert value(tmp_path, "charkha_swap_failures_total", model="houses") == 1
    assert value(tmp_path, "charkha_process_resident_memory_bytes", worker="lead") > 1e6
    lead.close()
    worker.close()


def test_while_label_sets_come_no_reader_sees_half_of_one_or_a_count_that_falls(tmp_path):
    process = start(_swap, tmp_path, 400)  # they need several pages
    before, seen = 0.0, []
    while process.is_alive() or not seen or seen[-1] < 400:
        found = shown(tmp_path)
        count = sum(v for (name, _), v in found.items() if name == "charkha_predictions_total")
        assert count >= before
        before = count
        seen.append(count)
        assert process.exitcode in (None, 0)
    process.join()
    assert len(list(tmp_path.iterdir())) > 1
    assert seen[-1] == 400


def test_a_page_that_is_cut_off_or_foreign_is_left_out(tmp_path, meters):
    champion(meters).answered(1, 0.001)
    (tmp_path / "7-0.0").write_bytes(b"short")
    (tmp_path / "8-0.0").write_bytes(b"\xff" * counts.PAGE_BYTES)
    assert value(tmp_path, "charkha_predictions_total", **LIVE) == 1


def test_an_entry_whose_key_is_not_whole_yet_ends_the_page(tmp_path):
    own = Counts(tmp_path, 0)
    own.take(("first", ()), 1)[0] = 4
    page = bytearray((tmp_path / "0-0.0").read_bytes())
    own.take(("second", ()), 1)
    torn = bytearray((tmp_path / "0-0.0").read_bytes())
    page[8:16] = torn[8:16]  # counted in, but not written yet
    (tmp_path / "9-0.0").write_bytes(page)
    found = {worker.worker: worker.values for worker in read_counts(tmp_path)}
    assert found["9"] == {("first", ()): [4.0]}
    assert set(found["0"]) == {("first", ()), ("second", ())}
    own.close()


def test_where_there_is_no_room_a_worker_counts_for_itself_and_says_so(
    tmp_path, monkeypatch, caplog
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    meters = Meters(tmp_path, 0)
    champion(meters).answered(1, 0.001)
    assert "No space left" in caplog.text
    assert value(tmp_path, "charkha_predictions_total", **LIVE) is None
    meters.close()


def test_a_servers_folder_goes_with_it_and_with_it_those_of_killed_servers(tmp_path, monkeypatch):
    monkeypatch.setattr(counts, "_IN_MEMORY", tmp_path)
    left = tmp_path / f"{counts._PREFIX}{os.getuid()}-left"
    left.mkdir()
    (left / "server").touch()
    with counting() as first, counting() as second:
        assert not left.exists()
        assert first != second
        assert first.exists()
        assert first.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []
