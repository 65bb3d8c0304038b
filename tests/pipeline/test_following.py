"""A run on another engine that is followed, where its engine's server goes away; and asked for twice."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from charkha.cli.main import main
from charkha.errors import YOU, Unavailable
from charkha.events import Noticed
from charkha.pipeline import submitting, tasks
from charkha.pipeline.boards import open_board
from charkha.pipeline.engines.airflow import AirflowEngine
from charkha.pipeline.run import run
from charkha.pipeline.runs import list_runs
from charkha.project import open_project

PIPELINE = """
from pathlib import Path

from charkha import pipeline, step


@step(cache=False)
def counted() -> int:
    with Path(__file__).with_name("begun").open("a") as file:
        file.write("x")
    return 1


@pipeline
def one() -> None:
    counted()
"""
RUN = "20261126-101500-ab12"


class Server:
    """Answers as an Airflow does which is asked about a run; may be away."""

    def __init__(self):
        self.state, self.asked, self._server = "running", 0, None
        self.port = 0
        self.before = lambda: None  # it answers

    def come(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked += 1
                server.before()
                told = {"access_token": "t", "state": server.state, "task_instances": []}
                body = json.dumps({**told, "total_entries": 0}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # whoever asked may have been stopped
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def go(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    made = Server()
    made.come()
    yield made
    made.go()


@pytest.fixture
def project(tmp_path, server, monkeypatch):
    name = f"following_{os.getpid()}_{abs(hash(tmp_path)) % 10**8}"  # a module is imported once
    toml = f'[project]\nname = "one"\n[pipeline]\nentry = "{name}.py"\n'
    url = f"http://127.0.0.1:{server.port}"
    (tmp_path / "charkha.toml").write_text(f'{toml}[airflow]\nurl = "{url}"\n')
    (tmp_path / f"{name}.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return open_project(tmp_path)


@pytest.fixture
def begun(project):
    """A run that an Airflow has taken."""
    tasks.begin(project, RUN, {}, engine="airflow")
    submitting.keep(project, RUN, "airflow", {"dag": "one", "run": RUN})


def told_by(project, **how):
    """Follow the run in a thread; return it, what is told meanwhile, and what came of it."""
    events, came = [], []

    def follow():
        try:
            came.append(submitting.follow(project, RUN, [events.append], **how))
        except Unavailable as e:
            came.append(e)

    thread = threading.Thread(target=follow)
    thread.start()
    return thread, events, came


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_server_that_goes_away_and_comes_back_is_asked_again_and_that_is_said_once(
    project, server, begun
):
    thread, events, came = told_by(project)
    until(lambda: server.asked)
    server.go()
    until(lambda: any(isinstance(event, Noticed) for event in events))
    time.sleep(4)  # as long as two more questions take
    tasks.perform(project, RUN, ["counted"])
    server.state = "success"
    server.come()
    tasks.conclude(project, RUN)
    thread.join(60)
    assert [one.status for one in came] == ["finished"]
    [notice] = [event.text for event in events if isinstance(event, Noticed)]
    assert "does not answer" in notice
    assert "asked again for 60 s" in notice


def test_a_server_that_stays_away_ends_the_following_alone_and_says_how_to_go_on(
    project, server, begun, capsys
):
    thread, _, came = told_by(project, patience_s=0.1)
    until(lambda: server.asked)
    server.go()
    thread.join(60)
    server.come()
    [refused] = came
    assert f"run {RUN} goes on without us" in str(refused)
    assert f"charkha run --on airflow --run {RUN}" in str(refused.fix)
    assert [told.status for told in list_runs(project)] == ["running"]

    tasks.perform(project, RUN, ["counted"])
    tasks.conclude(project, RUN)
    server.state = "success"
    assert main(["run", "--on", "airflow", "--run", RUN]) == 0
    assert "finished" in capsys.readouterr().out


def test_a_server_is_asked_and_the_board_read_at_the_pace_that_its_engine_states(
    project, server, begun, monkeypatch
):
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            tasks.perform(project, RUN, ["counted"])
            tasks.conclude(project, RUN)
            server.state = "success"

    monkeypatch.setattr(submitting, "sleep", pause)
    assert submitting.follow(project, RUN).status == "finished"
    assert pauses == [AirflowEngine.abilities.look_s] * 3


def test_what_is_asked_for_again_under_one_id_is_started_once(project, server, capsys):
    server.go()
    with pytest.raises(Unavailable):
        submitting.submit(project, "airflow", run=RUN)
    assert open_board(project, RUN).ended() is None  # it may yet be taken
    server.come()
    submitting.submit(project, "shell", run=RUN)
    submitting.keep(project, RUN, "shell", None)  # as who was killed before it had answered
    submitting.submit(project, "shell", run=RUN)
    assert submitting.follow(project, RUN).status == "finished"
    assert main(["run", "--on", "shell", "--run", RUN]) == 0
    assert (project.root / "begun").read_text() == "x"


def test_what_is_stopped_before_the_engine_has_taken_it_was_interrupted(project, server):
    answer = threading.Event()

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
        answer.wait(60)

    server.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        submitting.submit(project, "airflow")
    answer.set()
    assert [told.status for told in list_runs(project)] == ["interrupted"]


def test_a_run_is_followed_on_its_own_engine_and_one_that_has_none_on_none(project, begun, capsys):
    assert main(["run", "--on", "shell", "--run", RUN]) == YOU
    told = capsys.readouterr().err
    assert f"run {RUN} is on airflow, not on shell" in told
    assert f"→ charkha run --on airflow --run {RUN}" in told
    local = run(project=project).id
    assert main(["run", "--on", "shell", "--run", local]) == YOU
    assert "was begun without --on" in capsys.readouterr().err


def test_an_engine_that_is_misspelt_is_answered_with_the_right_one(project, capsys):
    assert main(["run", "--on", "airfow"]) == YOU
    told = capsys.readouterr().err
    assert "there is no engine 'airfow'" in told
    assert "did you mean 'airflow'?" in told


def test_an_engine_that_did_not_take_a_run_is_named_once(project, server):
    server.go()
    with pytest.raises(Unavailable):
        submitting.submit(project, "airflow")
    server.come()
    [told] = list_runs(project)
    assert str(told.error).startswith("airflow did not take it: Airflow at http://")


def test_an_id_that_no_engine_could_keep_is_refused(project, capsys):
    assert main(["run", "--on", "shell", "--run", "night"]) == 2
    assert "is no id of a run" in capsys.readouterr().err
