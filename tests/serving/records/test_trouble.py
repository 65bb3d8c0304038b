"""A disk that is full, read-only or gone: serving goes on or stops as configured, and it is told."""

import logging
import os
import re
import subprocess
import time
from contextlib import suppress

import pytest

from charkha.errors import Unavailable
from charkha.serving.records.feedback import Feedback, FeedbackLog
from charkha.serving.records.recorder import Recorder

LIMITED = """
import sys
from pathlib import Path
from conftest import Kept, make_record, make_source
from charkha.errors import Unavailable
kept = Kept(Path(sys.argv[1]))
recorder = kept.recorder(on_full=sys.argv[2], durability=sys.argv[3])
number = recorder.declare(make_source())
acknowledged, refused = [], 0
for size in (1, 7, 30, 2, 64, 1, 1) * 3:
    batch = [make_record() for _ in range(size)]
    lost = recorder.lost
    try:
        recorder.append(number, batch)
    except Unavailable:
        refused += 1
    if recorder.lost == lost:
        acknowledged += [r[0] for r in batch]
(log,) = kept.logs()
whole = log.read_bytes().endswith(b"\\n")
print(sorted(acknowledged) == kept.ids(), whole, recorder.failing, refused > 0)
print(recorder.written + recorder.lost == 3 * 106, recorder.written == len(acknowledged))
"""


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("on_full", ["serve", "refuse"])
def test_a_file_that_may_not_grow_ends_at_the_last_whole_batch(kept, script, on_full, durability):
    for most_bytes in (4096, 10_000, 10_001, 10_011):
        told = script(LIMITED, kept.project.root, on_full, durability, most_bytes=most_bytes)
        refused = str(on_full == "refuse")
        assert told.stdout.split() == ["True", "True", "True", refused, "True", "True"]
        assert told.stderr.count("are not recorded") == 1  # the alarm, once
        for log in kept.logs():
            log.unlink()


def fill(folder):
    """Fill a small disk; return the file that does."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def until_refused(append):
    for _ in range(100_000):
        append()


def test_a_full_disk_is_told_once_serving_goes_on_and_recording_comes_back(
    small_disk, source, record, caplog
):
    recorder = Recorder(small_disk / "open")
    number = recorder.declare(source())
    recorder.append(number, [record()])
    filler = fill(small_disk)
    for _ in range(50):
        recorder.append(number, [record(row=(1.5, 3, "a-secret" * 100, True, None))])
    assert recorder.failing
    lost = recorder.lost
    assert lost > 10
    filler.unlink()
    time.sleep(1.1)
    recorder.append(number, [record()])
    assert not recorder.failing
    assert (recorder.lost, recorder.written) == (lost, 51 - lost + 1)
    alarm, relief = (entry for entry in caplog.records if "recorded" in entry.message)
    assert (alarm.levelno, relief.levelno) == (logging.ERROR, logging.WARNING)
    assert "No space left" in alarm.message
    assert f"{lost} in" in relief.message
    assert "a-secret" not in caplog.text


def test_while_it_fails_it_tries_once_in_a_second(small_disk, source, record, monkeypatch):
    recorder = Recorder(small_disk / "open")
    number = recorder.declare(source())
    fill(small_disk)
    while not recorder.failing:
        recorder.append(number, [record()])
    opened = []
    really = os.open
    monkeypatch.setattr(os, "open", lambda *a, **k: opened.append(a) or really(*a, **k))
    for _ in range(1000):
        recorder.append(number, [record()])
    assert opened == []


def test_refusing_raises_unavailable_and_keeps_raising(small_disk, source, record):
    recorder = Recorder(small_disk / "open", on_full="refuse")
    number = recorder.declare(source())
    fill(small_disk)
    with pytest.raises(Unavailable, match="cannot be recorded"):
        until_refused(lambda: recorder.append(number, [record()]))
    with pytest.raises(Unavailable):
        recorder.append(number, [record()])


def test_a_disk_that_is_read_only_is_told_before_the_first_record(small_disk, source, record):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    recorder = Recorder(small_disk / "open")
    number = recorder.declare(source())
    assert recorder.failing
    recorder.append(number, [record()])
    assert recorder.lost == 1


def test_a_disk_that_becomes_read_only_is_told(small_disk, source, record, caplog):
    recorder = Recorder(small_disk / "open", segment_bytes=1)
    number = recorder.declare(source())
    recorder.append(number, [record()])
    recorder.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    recorder.append(number, [record()])
    assert (recorder.written, recorder.lost, recorder.failing) == (1, 1, True)
    assert "Read-only file system" in caplog.text


def test_a_folder_that_cannot_be_made_is_told_before_the_first_record(tmp_path, source, caplog):
    (tmp_path / "file").write_text("no folder")
    recorder = Recorder(tmp_path / "file" / "open")
    recorder.declare(source())
    assert recorder.failing
    assert re.search(r"not recorded, in .*/file/open: Not a directory", caplog.text)


def test_a_disk_that_loses_what_it_took_is_told(kept, source, record, monkeypatch):
    recorder = kept.recorder(durability="power")
    number = recorder.declare(source())
    recorder.append(number, [record()])

    def broken(fd):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        recorder.append(number, [record()])
    assert (recorder.written, recorder.lost, recorder.failing) == (1, 1, True)
    assert len(kept.ids()) == 1


def test_a_log_that_cannot_be_followed_by_another_goes_on(kept, source, record, monkeypatch):
    recorder = kept.recorder(segment_bytes=500)
    number = recorder.declare(source())
    really = os.open

    def too_many(path, flags, *args, **kwargs):
        if flags & os.O_CREAT:
            raise OSError(24, "Too many open files")
        return really(path, flags, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", too_many)
        for _ in range(20):
            recorder.append(number, [record()])
    assert (recorder.written, recorder.lost, len(kept.logs())) == (20, 0, 1)
    for _ in range(20):
        recorder.append(number, [record()])
    assert len(kept.logs()) > 1
    assert len(kept.ids()) == 40


def test_feedback_that_cannot_be_kept_is_refused_always(small_disk, record):
    log = FeedbackLog(small_disk / "open")
    fill(small_disk)
    with pytest.raises(Unavailable, match="feedback cannot be written"):
        until_refused(lambda: log.append([Feedback(id=record()[0], truth="t" * 100)]))
