"""What `charkha up` leaves for other commands to find, and for how long they do."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from charkha.errors import UserError
from charkha.project import open_project
from charkha.running import Running, claim, find_running, keep_token, write_running

RUNNING = Running(
    pid=os.getpid(),
    started_at=1_795_000_000.0,
    environment="local",
    model="houses",
    addresses={"server": "http://127.0.0.1:18001", "admin": "http://127.0.0.1:18002"},
    token=None,
    pids={"server": 1},
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "houses"\n\n[env.prod.serving]\n')
    return tmp_path


@pytest.fixture
def up(root):
    with claim(root / ".charkha", lambda: None):
        token = keep_token(root / ".charkha", "not-a-secret")
        write_running(root / ".charkha", replace(RUNNING, token=token))
        yield root


def test_what_runs_is_found_until_it_has_ended(root):
    state = root / ".charkha"
    assert find_running(state) is None
    with claim(state, lambda: None):
        write_running(state, RUNNING)
        assert find_running(state) == RUNNING
    assert find_running(state) is None
    assert not (state / "up.json").exists()


def test_nobody_else_can_read_what_is_written_down(up):
    for name in ("up.json", "up.token"):
        assert (up / ".charkha" / name).stat().st_mode & 0o777 == 0o600


def test_a_release_finds_the_server_that_runs(up):
    project = open_project(up)
    assert project.release.server == "http://127.0.0.1:18001"
    assert project.release.admin == "http://127.0.0.1:18002"
    assert project.serving.admin_token == f"file:{up / '.charkha' / 'up.token'}"


def test_what_the_project_says_itself_counts_more(up):
    (up / "charkha.toml").write_text(
        '[release]\nserver = "http://a:1"\nadmin = "http://a:2"\n'
        '[serving]\nadmin_token = "env:MINE"\n'
    )
    project = open_project(up)
    assert (project.release.server, project.release.admin) == ("http://a:1", "http://a:2")
    assert project.serving.admin_token == "env:MINE"  # noqa: S105


def test_another_environment_is_not_the_one_that_runs(up):
    assert open_project(up, "prod").release.admin is None


CLAIMS = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
from test_running import RUNNING
from charkha.running import claim, write_running
with claim(Path(sys.argv[1]), lambda: None):
    write_running(Path(sys.argv[1]), replace(RUNNING, pid=os.getpid()))
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(root):
    """A supervisor in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIMS, root / ".charkha"],
        cwd=os.path.dirname(__file__),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_one_is_refused_with_where_the_first_is(root, other):
    with (
        pytest.raises(UserError, match=rf"pid {other.pid} .*http://127.0.0.1:18001"),
        claim(root / ".charkha", lambda: None),
    ):
        pass
    assert find_running(root / ".charkha").pid == other.pid  # and it is still there


def test_a_file_that_a_killed_supervisor_left_misleads_nobody(root, other):
    other.kill()
    other.wait()
    assert (root / ".charkha" / "up.json").exists()
    assert find_running(root / ".charkha") is None
    # also when its pid is somebody else's by now
    write_running(root / ".charkha", RUNNING)
    assert find_running(root / ".charkha") is None
    with claim(root / ".charkha", lambda: None):
        assert not (root / ".charkha" / "up.json").exists()


def test_one_that_waits_for_what_is_left_of_a_killed_supervisor_says_so(root, other):
    """The guard of its parts holds the lock until the last of them is gone."""
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDS, root / ".charkha" / "up.lock"],
        stdout=subprocess.PIPE,
        text=True,
    )
    other.kill()
    other.wait()
    assert holding.stdout.readline() == "held\n"
    assert find_running(root / ".charkha") is None
    said = []
    with claim(root / ".charkha", lambda: said.append(time.monotonic())):
        assert holding.poll() is not None or holding.wait(5) == 0
    holding.stdout.close()
    assert len(said) == 1


HOLDS = """
import fcntl, sys, time
with open(sys.argv[1]) as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_a_state_that_cannot_be_made_is_said(root):
    (root / ".charkha").write_text("a file")
    with (
        pytest.raises(UserError, match="cannot be written"),
        claim(root / ".charkha", lambda: None),
    ):
        pass
