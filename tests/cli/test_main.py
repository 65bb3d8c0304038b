import errno
import json
import math
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charkha import __version__, errors
from charkha.cli import files, show
from charkha.cli import main as cli
from charkha.cli.arguments import parser, subcommand, subcommands
from charkha.errors import DONE, THEY, USAGE, WE, YOU, MissingExtra, Refused, Unavailable
from charkha.pipeline import distributions


def charkha(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "charkha", *arguments], capture_output=True, text=True, **options
    )


@pytest.fixture
def command(monkeypatch):
    """Return a way to make `charkha doctor` do something else."""

    def replace(main):
        monkeypatch.setitem(sys.modules, "charkha.cli.doctor", type("_", (), {"main": main}))

    return replace


def raising(error):
    def main(arguments):
        raise error

    return staticmethod(main)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_lists_every_command(arguments, capsys):
    assert cli.main(arguments) == DONE
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", told, re.MULTILINE) for name in cli.COMMANDS)


def test_the_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == DONE
    assert capsys.readouterr().out == f"charkha {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "did you mean 'charkha run'?"),
        (["xyzzy"], "charkha --help"),
        (["--jsn"], "there is no option --jsn"),
        (["--env"], "there is no option --env"),
        (["doctor", "--jsn"], "unrecognized arguments: --jsn"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_what_was_meant(arguments, says, capsys):
    assert cli.main(arguments) == USAGE
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("error", "code"), [(Refused("no", fix="do this"), YOU), (Unavailable("no answer"), THEY)]
)
def test_our_errors_are_told_without_a_traceback(error, code, command, capsys):
    command(raising(error))
    assert cli.main(["doctor"]) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_debug_shows_the_traceback(command, capsys):
    command(raising(Refused("no", fix="do this")))
    assert cli.main(["--debug", "doctor"]) == YOU
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith("error: no\n  → do this\n")


def test_what_nobody_expected_is_70_and_keeps_its_traceback_in_a_file(command, capsys):
    command(raising(ZeroDivisionError("a secret of ours")))
    assert cli.main(["doctor"]) == WE
    told = capsys.readouterr().err
    assert "Traceback" not in told
    file = Path(re.search(r"report it with (\S+)", told)[1])
    assert "ZeroDivisionError: a secret of ours" in file.read_text()
    assert f"charkha {__version__}" in file.read_text()
    file.unlink()


def test_a_full_disk_is_no_bug_and_what_met_it_may_be_tried_again(command, capsys):
    command(raising(OSError(errno.ENOSPC, "No space left on device", "here/blobs")))
    assert cli.main(["doctor"]) == THEY
    told = capsys.readouterr().err
    assert "No space left on device (here/blobs)" in told
    assert "free some space" in told


def test_a_missing_library_is_no_bug(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'pandas'", name="pandas")))
    assert cli.main(["doctor"]) == YOU
    assert "pip install 'charkha[local]'" in capsys.readouterr().err


def test_a_missing_library_of_one_extra_is_that_extras(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'xgboost'", name="xgboost")))
    assert cli.main(["doctor"]) == YOU
    assert "pip install 'charkha[xgboost]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [("dvc", "local"), ("tables", "local"), ("serving", "serving"), ("s3", "s3")],
)
def test_who_lacks_one_part_of_a_turn_of_the_wheel_is_told_of_all(extra, wanted):
    error = MissingExtra("it", extra)
    assert error.fix == f"pip install 'charkha[{wanted}]'"
    assert error.extra == extra


def test_what_is_told_together_are_parts_of_the_local_extra():
    parts = distributions.extras()
    assert all(parts[extra] <= parts["local"] for extra in errors._TOGETHER)


def test_a_missing_module_of_ours_is_a_bug(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'charkha.x'", name="charkha.x")))
    assert cli.main(["doctor"]) == WE
    Path(re.search(r"report it with (\S+)", capsys.readouterr().err)[1]).unlink()


def test_options_ahead_of_the_command_reach_it(command):
    given = []
    command(staticmethod(lambda arguments: given.extend(arguments) or DONE))
    assert cli.main(["--env", "prod", "--debug", "doctor", "x"]) == DONE
    assert given == ["--env", "prod", "--debug", "x"]


def test_ctrl_c_is_130_and_one_line(tmp_path):
    wait = "import time, charkha.cli.doctor as d\nd.main = lambda a: (print('up', flush=True), time.sleep(60))"
    code = f"{wait}\nfrom charkha.cli.main import main\nraise SystemExit(main(['doctor']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert told.strip() == "interrupted"


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "charkha", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    os.close(writing)
    assert process.returncode == 141
    assert process.stderr == ""


def test_common_options_may_stand_before_or_after_a_subcommand():
    made = parser("data", example="charkha data list")
    subcommand(subcommands(made), "list", "list datasets", example="charkha data list")
    ahead = made.parse_args(["--env", "prod", "--json", "list"])
    after = made.parse_args(["list", "--env", "prod", "--json"])
    neither = made.parse_args(["list"])
    assert vars(ahead) == vars(after)
    assert (ahead.env, ahead.json, ahead.debug, ahead.action) == ("prod", True, False, "list")
    assert (neither.env, neither.json, neither.debug) == (None, False, False)


def test_a_table_is_aligned_and_leaves_no_space_at_the_end(capsys):
    show.table(("name", "rows", "note"), [("ames", 2930, None), ("x", 7, "small")])
    assert capsys.readouterr().out == (
        "name  rows  note\n"
        "ames  2930\n"
        "x        7  small\n"
    )  # fmt: skip


def test_an_empty_table_is_its_head(capsys):
    show.table(("name", "rows"), [])
    assert capsys.readouterr().out == "name  rows\n"


def test_json_is_one_document_with_everything_readable(capsys):
    show.as_json({"path": Path("a/b"), "name": "Größe", "psi": [math.inf, {"p": math.nan}, 1.5]})
    told = capsys.readouterr().out
    found = {"path": "a/b", "name": "Größe", "psi": [None, {"p": None}, 1.5]}
    assert json.loads(told) == found
    assert "Größe" in told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.34, "340 ms"), (1.24, "1.2 s"), (59.94, "59.9 s"), (185, "3 min 5 s"), (7440, "2 h 4 min")],
)
def test_a_duration_is_told_as_people_do(seconds, text):
    assert show.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (3_100_000, "3.1 MB"), (2 * 10**15, "2000.0 TB")],
)
def test_a_size_has_a_unit(count, text):
    assert show.size(count) == text


def test_what_goes_on_is_told_on_stderr_where_nobody_watches(capsys):
    with show.working("pulling ames"):
        pass
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "pulling ames\n")


def test_a_terminal_of_an_old_locale_gets_what_it_can_show(tmp_path):
    show = "from charkha.cli import main, show; show.as_json({'a': 'Größe →'}); print('├ →')"
    done = subprocess.run(
        [sys.executable, "-c", f"import charkha.cli.main as m; m._see_to_streams()\n{show}"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *document, last = done.stdout.splitlines()
    assert json.loads("\n".join(document)) == {"a": "Größe →"}
    assert last == r"\u251c \u2192"


def test_closed_streams_are_no_bug():
    done = subprocess.run(
        ["sh", "-c", '"$0" -m charkha --help >&-; echo $?', sys.executable],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_folder_that_is_gone_is_told(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f'cd {gone} && rmdir {gone} && exec "$0" -m charkha run'
    done = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, text=True)
    assert done.returncode == YOU, done.stderr
    assert "the current folder is no longer there" in done.stderr


def test_a_file_that_is_written_replaces_no_device_and_no_link(tmp_path):
    pipe, kept, link = (tmp_path / name for name in ("pipe", "kept", "link"))
    os.mkfifo(pipe)
    link.symlink_to(kept)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    files.write_file(str(pipe), b"all of it")
    assert reader.communicate(timeout=10)[0] == b"all of it"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    files.write_file(str(link), b"all of it")
    assert link.is_symlink()
    assert kept.read_bytes() == b"all of it"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "link", "pipe"]
