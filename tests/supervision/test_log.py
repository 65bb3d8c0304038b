"""One log of several processes."""

import io
import json
import re

import pytest

from charkha.clock import to_second
from charkha.supervision.log import Log, LogFile, readable

LINE = json.dumps(
    {
        "time": "2026-11-26T14:28:46.742Z",
        "level": "warning",
        "logger": "charkha.serving.lead",
        "message": "the registry does not answer",
        "event": "registry-down",
        "variant": "champion",
        "pid": 6958,
    }
)


def written(tmp_path, text, said, **more):
    stream, file = io.StringIO(), LogFile(tmp_path / "logs" / "up.log")
    log = Log(("up", "server"), stream, file, text=text, **more)
    log.write("up", said)
    file.close()
    return stream.getvalue(), (tmp_path / "logs" / "up.log").read_text()


def test_each_line_has_its_part_and_its_time(tmp_path):
    shown, kept = written(tmp_path, True, "one\ntwo")
    assert re.fullmatch(r"(up      \d\d:\d\d:\d\dZ  (one|two)\n){2}", shown)
    assert re.fullmatch(r"([-\dT:.]+Z up      (one|two)\n){2}", kept)


def test_a_line_of_json_stays_as_it_is_where_the_log_is_json(tmp_path):
    shown, kept = written(tmp_path, False, LINE)
    assert shown.endswith(f"  {LINE}\n")
    assert kept.endswith(f"  {LINE}\n")


def test_a_line_of_json_is_made_readable_for_people(tmp_path):
    shown, _ = written(tmp_path, True, LINE)
    assert shown.endswith("  warning: the registry does not answer  variant=champion\n")


@pytest.mark.parametrize("text", [True, False])
def test_a_line_that_begins_with_its_own_time_has_one_time(tmp_path, text):
    shown, kept = written(tmp_path, text, f"{to_second(0)}  quiet: no drift")
    assert re.fullmatch(r"up      \d\d:\d\d:\d\dZ  quiet: no drift\n", shown)
    assert kept.endswith("Z up      quiet: no drift\n")


def test_what_only_looks_like_json_is_left_alone():
    for text in ("{", "{}", "{'message': 1}", "[1]", '{"other": 1}', "plain"):
        assert readable(text) == text


def test_colours_are_for_terminals_and_never_in_the_file(tmp_path):
    shown, kept = written(tmp_path, True, "said", colour=True)
    assert "\033[" in shown
    assert "\033[" not in kept


def test_a_full_file_is_put_aside_and_the_oldest_is_dropped(tmp_path):
    file = LogFile(tmp_path / "up.log", most_bytes=20, keep=2)
    for number in range(8):
        file.write(f"line {number}..")  # 9 bytes: two in a file
    file.close()
    names = ("up.log.2", "up.log.1", "up.log")
    kept = ["".join((tmp_path / name).read_text()) for name in names]
    assert "".join(kept).split() == [w for n in range(2, 8) for w in ("line", f"{n}..")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_file_that_was_begun_is_gone_on_with(tmp_path):
    for _ in range(2):
        file = LogFile(tmp_path / "up.log", most_bytes=12, keep=2)
        file.write("12345678")
        file.close()
    assert (tmp_path / "up.log.1").exists()


class Closed(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


def test_a_closed_terminal_stops_nobody(tmp_path):
    file = LogFile(tmp_path / "up.log")
    Log(("up",), Closed(), file, text=True).write("up", "still here")
    file.close()
    assert "still here" in (tmp_path / "up.log").read_text()
