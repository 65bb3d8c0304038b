import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from charkha.errors import DataError
from charkha.serving.records.ids import Ids, is_id, new_ids, time_of


def test_an_id_is_a_uuid_of_version_7_and_of_the_variant_of_the_rfc():
    for id in new_ids(10_000):
        parsed = uuid.UUID(id)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == id
        assert is_id(id)


def test_ids_increase_as_text():
    ids = [id for n in (1, 7, 1, 5000, 1, 9000) for id in new_ids(n)]
    assert ids == sorted(set(ids))
    assert [len(new_ids(n)) for n in (0, 1, 4095, 4097)] == [0, 1, 4095, 4097]


def test_ids_increase_while_the_clock_steps_back_and_forth():
    clock = iter([1000.0, 1000.0, 400.0, 999.9, 1000.1, 0.0])
    ids = Ids(lambda: next(clock))
    made = [id for n in (1, 4096, 5000, 1, 1, 1) for id in ids.new(n)]
    assert made == sorted(set(made))
    assert time_of(made[0]) == datetime(1970, 1, 1, 0, 16, 40, tzinfo=UTC)
    assert time_of(made[-2]) == datetime(1970, 1, 1, 0, 16, 40, 100_000, tzinfo=UTC)


def test_threads_get_ids_of_their_own():
    with ThreadPoolExecutor(8) as pool:
        ids = [id for some in pool.map(lambda _: new_ids(100), range(200)) for id in some]
    assert len(set(ids)) == len(ids)


def test_a_child_of_a_fork_makes_other_ids():
    code = (
        "import os\n"
        "from charkha.serving.records.ids import Ids, _ids, new_ids\n"
        "_ids._now = lambda: 1e9  # a clock that stands, so that only chance tells them apart\n"
        "new_ids(5)\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        print(*new_ids(200), flush=True); os._exit(0)\n"
        "    os.wait()\n"
        "print(*new_ids(200))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ids = told.stdout.split()
    assert len(ids) == len(set(ids)) == 21 * 200


def test_the_random_part_is_drawn_anew_for_each_millisecond():
    first = new_ids(1)[0]
    time.sleep(0.002)
    assert new_ids(1)[0][19:] != first[19:]


def test_the_time_of_an_id_is_that_at_which_it_was_made():
    before = datetime.now(UTC)
    made = time_of(new_ids(1)[0])
    assert before - timedelta(milliseconds=1) <= made <= datetime.now(UTC) + timedelta(seconds=1)
    assert time_of("00000000-03e8-7000-8000-000000000000").timestamp() == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        str(uuid.UUID(int=0)),
        "01a20dd2-3775-4600-ae79-e0fd34e228c8",  # version 4
        "01a20dd2-3775-7600-2e79-e0fd34e228c8",  # another variant
        "01A20DD2-3775-7600-AE79-E0FD34E228C8",
        "01a20dd2-3775-7600-ae79-e0fd34e228c8\n",
        "01a20dd237757600ae79e0fd34e228c8",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",  # beyond the year 9999
        "٠1a20dd2-3775-7600-ae79-e0fd34e228c8",
    ],
)
def test_what_is_no_id_is_refused(text):
    assert not is_id(text)
    with pytest.raises(DataError, match="is no id"):
        time_of(text)
