"""The supervisor with real processes: started in order, again, given up, ended, never left behind."""

import os
import signal
import socket
import subprocess
from itertools import pairwise

import pytest

pytestmark = pytest.mark.timeout(60)
STAYS = "import time\nprint('here', flush=True)\ntime.sleep(60)"
DIES = "import sys\nprint('one'); print('two'); sys.exit(7)"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('here', flush=True)\ntime.sleep(60)"
)
POLITE = """
import signal, sys, time
def end(*_):
    print("ends", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("here", flush=True)
while True:
    time.sleep(0.05)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
ANSWERS = """
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = os.path.exists("ready")
        print("asked", flush=True)
        self.send_response(200 if ready else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_part_is_started_once_the_one_before_is_ready(supervise, free_port, tmp_path):
    probe = f"http://127.0.0.1:{free_port}/readyz"
    run = supervise({"code": ANSWERS.format(port=free_port), "probe": probe}, {"code": STAYS})
    run.until("line", "part0", "asked")  # and answered: not ready
    run.until("line", "part0", "asked")
    (tmp_path / "ready").touch()
    run.until("all-ready")
    kinds = [(kind, part) for kind, part, _, _ in run.events if kind in ("starting", "ready")]
    assert kinds == [
        ("starting", "part0"),
        ("ready", "part0"),
        ("starting", "part1"),
        ("ready", "part1"),
    ]


def test_a_part_that_dies_is_started_again_and_its_code_and_last_words_are_told(supervise):
    run = supervise({"code": DIES})
    _, _, said, about = run.until("died")
    assert "it ended with 7" in said
    assert about["code"] == 7
    assert about["last"] == ["one", "two"]
    run.until("starting", "part0")


def test_a_part_that_was_killed_comes_back(supervise):
    run = supervise({"code": STAYS})
    run.until("line", "part0", "here")
    first = run.pid("part0")
    os.kill(first, signal.SIGKILL)
    assert "SIGKILL" in run.until("died")[2]
    run.until("line", "part0", "here")
    assert run.pid("part0") != first


def test_a_part_that_dies_five_times_is_given_up_and_the_others_go_on(supervise):
    run = supervise({"code": DIES}, {"code": POLITE})
    run.until("given-up", "part0")
    pauses = [e[3]["again_s"] for e in run.events if e[:2] == ["died", "part0"]]
    assert len(pauses) == 4
    assert all(later == 2 * before for before, later in pairwise(pauses))
    assert "ends" not in run.lines("part1")


def test_without_an_essential_part_everything_ends(supervise):
    run = supervise({"code": POLITE}, {"code": DIES, "essential": True})
    run.until("given-up", "part1")
    assert run.outcome() == "given up"
    assert "ends" in run.lines("part0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_parts_in_their_order(supervise, number):
    run = supervise({"code": POLITE, "ends": 1}, {"code": POLITE}, {"code": POLITE, "ends": 2})
    for _ in range(3):
        run.until("line", None, "here")
    run.send(number)
    assert run.outcome() == "ended"
    ended = [part for kind, part, text, _ in run.events if (kind, text) == ("line", "ends")]
    assert ended == ["part1", "part0", "part2"]


def test_a_part_that_does_not_end_is_killed_when_its_time_is_up(supervise, gone):
    run = supervise({"code": STUBBORN, "patience_s": 0.2})
    run.until("line", "part0", "here")
    run.send(signal.SIGTERM)
    run.until("killed", "part0")
    assert run.outcome() == "ended"
    gone(run.pid("part0"))


def test_a_second_ctrl_c_kills_at_once(supervise, gone):
    run = supervise({"code": STUBBORN, "patience_s": 600})
    run.until("line", "part0", "here")
    run.send(signal.SIGINT)
    run.until("stopping")
    run.send(signal.SIGINT)
    run.until("killed", "part0")
    assert run.outcome() == "killed"
    gone(run.pid("part0"))


def test_a_terminal_that_is_closed_says_so_twice_and_nobody_is_killed(supervise):
    run = supervise({"code": POLITE.replace('print("ends"', 'time.sleep(0.5); print("ends"')})
    run.until("line", "part0", "here")
    run.send(signal.SIGHUP)
    run.until("stopping")
    run.send(signal.SIGHUP)
    assert run.outcome() == "ended"
    assert "ends" in run.lines("part0")


def test_what_a_part_has_started_ends_with_it(supervise, gone):
    run = supervise({"code": PARENT})
    grandchild = int(run.until("line")[2])
    os.kill(run.pid("part0"), signal.SIGKILL)
    run.until("died")
    gone(grandchild)


@pytest.mark.parametrize("guard", ["lives", "was killed before"])
def test_a_supervisor_that_is_killed_leaves_nothing_behind(supervise, gone, guard):
    run = supervise({"code": PARENT}, {"code": STUBBORN})
    grandchild = int(run.until("line", "part0")[2])
    run.until("line", "part1", "here")
    if guard == "was killed before":
        told = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(run.process.pid)],
            capture_output=True,
            text=True,
        )
        (guarding,) = [line.split()[0] for line in told.stdout.splitlines() if "lifeline" in line]
        os.kill(int(guarding), signal.SIGKILL)
        run.until("guarded")
    pids = [run.pid("part0"), run.pid("part1"), grandchild]
    run.process.kill()
    gone(*pids)


def test_a_line_without_an_end_and_one_without_measure_are_heard(supervise):
    run = supervise({"code": "import sys\nsys.stdout.write('x' * 200_000 + '\\nlast')"})
    run.until("died")
    assert "".join(run.lines()) == "x" * 200_000 + "last"
    assert len(run.lines()) > 2  # the supervisor keeps no line of any length in its memory


def test_what_a_terminal_would_obey_is_left_out(supervise):
    run = supervise({"code": r"print('\x1b[2Jgone\x07')"})
    run.until("died")
    assert run.lines() == ["[2Jgone"]


def test_a_command_that_is_not_there_is_a_death_with_a_reason(supervise):
    run = supervise({"code": STAYS, "command": ["./no-such-program"]})
    assert "no-such-program" in run.until("died")[2]
