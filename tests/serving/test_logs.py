"""What a server's log says, and what it never says."""

import io
import json
import logging
import shutil

import httpx
import pytest

from charkha.errors import DataError, Unavailable
from charkha.serving.finished import Finished
from charkha.serving.logs import Access, event, log_to_stderr

NAME = "Smi" + "th"  # of a caller; a traceback has our lines of code, and not what they work on
LOG = logging.getLogger("charkha.serving.test")


@pytest.fixture
def said():
    """Return `said(form)`, which sends the log to a text and returns what reads it."""
    root, ours = logging.getLogger(), logging.getLogger("charkha")
    before = root.handlers[:], root.level, ours.level
    root.handlers.clear()  # pytest's own stay open: they are put back

    def start(form="json", *, debug=False, terminal=False):
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        log_to_stderr(form, debug=debug, stream=stream)
        return stream.getvalue

    yield start
    root.handlers[:], level, own = before[0], before[1], before[2]
    root.setLevel(level)
    ours.setLevel(own)


def test_a_line_of_json_has_when_who_what_and_the_events_fields(said):
    read = said()
    event(LOG, logging.INFO, "swapped", "version 4 takes over", model="houses", version=4)
    told = json.loads(read())
    assert told["time"].endswith("Z")
    assert (told["level"], told["logger"]) == ("info", "charkha.serving.test")
    assert (told["event"], told["message"]) == ("swapped", "version 4 takes over")
    assert (told["model"], told["version"]) == ("houses", 4)


def test_each_event_is_one_line_whatever_is_in_it(said):
    read = said()
    event(LOG, logging.INFO, "odd", 'two\nlines and "quotes"', about={"deep": [1, "ü"]})
    LOG.warning("plain %s", "words")
    lines = read().splitlines()
    assert [json.loads(line)["message"] for line in lines] == [
        'two\nlines and "quotes"',
        "plain words",
    ]


def test_a_terminal_gets_text_and_everything_else_json(said):
    read = said("auto", terminal=True)
    event(LOG, logging.WARNING, "full", "records are lost", lost=3)
    assert read().endswith("warning: records are lost  lost=3\n")
    read = said("auto", terminal=False)
    LOG.warning("words")
    assert json.loads(read())["message"] == "words"
    read = said("text", terminal=False)
    LOG.warning("words")
    assert read().endswith("warning: words\n")


def _fail(error):
    try:
        try:
            raise ValueError(f"could not convert {NAME!r} to float")
        except ValueError as e:
            raise error from e
    except Exception as e:
        LOG.error("request 1 failed", exc_info=e)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("error", [RuntimeError("row Smith"), DataError("Smith is no area")])
def test_an_error_is_told_by_its_type_and_place_and_not_by_its_text(said, form, error):
    read = said(form)
    _fail(error)
    text = read()
    assert "Smith" not in text
    assert type(error).__name__ in text
    assert "ValueError" in text
    assert "in _fail" in text


def test_the_text_of_an_error_that_speaks_of_no_row_is_told(said):
    read = said()
    _fail(Unavailable("the registry does not answer"))
    assert "the registry does not answer" in json.loads(read())["error"]
    read = said()
    _fail(OSError(28, "No space left on device"))
    assert "No space left" in json.loads(read())["error"]


def test_debug_shows_the_texts_of_all_errors(said):
    read = said(debug=True)
    _fail(RuntimeError("row"))
    LOG.debug("and more")
    assert "Smith" in read()
    assert "and more" in read()


def test_others_are_heard_when_they_warn(said):
    read = said()
    logging.getLogger("somebody").info("chatter")
    logging.getLogger("somebody").warning("trouble")
    assert [json.loads(line)["message"] for line in read().splitlines()] == ["trouble"]


def request(number):
    headers = {b"x-api-key": b"charkha_secret"}
    return Finished(number, "/predict", headers, 200, 0.00123, "houses", 3, "champion", 1, "k1")


def test_a_request_is_named_without_its_key_and_its_inputs(said):
    read = said()
    Access(1.0)(request("id-7"))
    Access(1.0)(Finished("id-8", "/predict", {}, 422, 0.001))
    first, second = map(json.loads, read().splitlines())
    assert (first["message"], first["id"], first["key"]) == ("/predict", "id-7", "k1")
    assert (first["version"], first["rows"], first["status"]) == (3, 1, 200)
    assert "charkha_secret" not in read()
    assert "version" not in second


@pytest.mark.parametrize(("share", "named"), [(0.0, 0), (0.01, 10), (0.25, 250), (1.0, 1000)])
def test_the_access_log_names_the_part_that_is_asked_for(said, share, named):
    read = said()
    access = Access(share)
    for number in range(1000):
        access(request(f"id-{number}"))
    lines = [json.loads(line) for line in read().splitlines()]
    assert len(lines) == pytest.approx(named, abs=1)
    for line in lines:
        assert (line["event"], line["status"], line["duration_ms"]) == ("request", 200, 1.23)


def test_a_server_tells_of_its_life_in_json_and_nothing_of_what_it_was_asked(
    serve, registered, tmp_path
):
    root = tmp_path / "logged"
    shutil.copytree(registered.root, root)
    with (root / "charkha.toml").open("a") as toml:
        toml.write("access_log = 1.0\n")
    server = serve(root, "--port", "0")
    answer = httpx.post(f"{server.url}/predict", json={"area": 123456.5})
    httpx.post(f"{server.url}/predict", json={"area": "Smith"})
    _, err = server.end()
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    events = [line.get("event") for line in lines]
    assert events[0] == "ready"
    assert "draining" in events
    answered, refused = (line for line in lines if line.get("event") == "request")
    assert (answered["id"], answered["status"]) == (answer.headers["charkha-id"], 200)
    assert (answered["version"], answered["rows"]) == (answer.json()["version"], 1)
    assert refused["status"] == 422
    assert "123456" not in err
    assert "Smith" not in err
