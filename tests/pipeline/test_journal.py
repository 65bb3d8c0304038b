"""A run's own record: whole lines survive anything, torn ones are left out."""

import pytest

from charkha.errors import NotFound
from charkha.events import Noticed, RunFinished
from charkha.pipeline import journal
from charkha.pipeline.journal import Journal


def test_events_come_back_as_they_were_written(tmp_path):
    made = Journal(tmp_path)
    made(Noticed("something", "fit"))
    made(RunFinished("finished", 1.5))
    made.close()
    lines = list(journal.read(tmp_path / made.run))
    assert [line.event for line in lines] == [
        Noticed("something", "fit"),
        RunFinished("finished", 1.5),
    ]
    assert lines[0].at <= lines[1].at


@pytest.mark.parametrize("torn", [b'{"at": 1, "eve', b"\x00\x00\x00", b'{"at": 1}\n', b"[]\n"])
def test_a_line_that_is_not_whole_is_left_out(tmp_path, torn):
    made = Journal(tmp_path)
    made(Noticed("whole"))
    made.close()
    path = tmp_path / made.run / "journal.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    assert [line.event for line in journal.read(tmp_path / made.run)] == [Noticed("whole")]


def test_a_run_lives_as_long_as_its_journal_is_open(tmp_path):
    made = Journal(tmp_path)
    assert journal.is_alive(made.folder)
    made.close()
    assert not journal.is_alive(made.folder)


def test_ids_sort_by_time(tmp_path):
    made = [Journal(tmp_path) for _ in range(3)]
    for one in made:
        one.close()
    moments = [one.run.rpartition("-")[0] for one in made]
    assert moments == sorted(moments)


def test_a_run_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no run nowhere"):
        list(journal.read(tmp_path / "nowhere"))
