"""What a turn trains on: everything, a window by rows or by age, or since the change."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from charkha.errors import ProjectError
from charkha.loop.material import check_parameters, check_window, parameters
from charkha.loop.triggers import Signal
from charkha.project import open_project
from charkha.serving.records import open_feedback, open_recorder
from charkha.serving.records.feedback import Feedback
from charkha.serving.records.ids import new_ids
from charkha.serving.records.source import Source

NOW = time.time()
SIGNAL = Signal(kind="drift", fires=True, because="area went up", since=NOW - 1000)


@pytest.fixture
def given(tmp_path):
    """Return `given(settings)`: the parameters of a turn under these settings of `[loop]`."""

    def given(settings, signal=SIGNAL, now=NOW):
        (tmp_path / "charkha.toml").write_text(f'[project]\nname = "prices"\n[loop]\n{settings}')
        given.project = open_project(tmp_path)
        return parameters(given.project, "prices", signal, now)

    return given


def record(project, *, seconds_ago, known=True):
    recorder = open_recorder(project)
    inputs = ({"name": "area", "type": "double"},)
    source = Source(
        model="prices", version=1, variant="champion", role="live", inputs=inputs, target="price"
    )
    (id,) = new_ids(1)
    at_us = int((NOW - seconds_ago) * 1_000_000)
    recorder.append(recorder.declare(source), [(id, at_us, 900, None, None, (1.0,), 2.0, None)])
    recorder.close()
    if known:
        log = open_feedback(project)
        log.append([Feedback(id=id, truth=1.0)])
        log.close()


def ago(text):
    return round(NOW - datetime.fromisoformat(text).timestamp())


def test_a_pipeline_without_parameters_for_it_is_told_nothing(given):
    assert given("") == {}


def test_everything_is_an_empty_first_moment_and_the_end_is_the_trigger(given):
    told = given('since_param = "since"\nuntil_param = "until"')
    assert told["since"] == ""
    assert datetime.fromisoformat(told["until"]) == datetime.fromtimestamp(NOW, UTC)


def test_a_window_by_age_begins_so_long_before_the_trigger(given):
    told = given('train_on = "window"\nwindow = "90d"\nsince_param = "since"')
    begin = datetime.fromtimestamp(NOW, UTC) - timedelta(days=90)
    assert told == {"since": begin.isoformat()}


def test_a_window_by_rows_begins_with_the_oldest_of_the_newest_labelled(given):
    settings = 'train_on = "window"\nwindow = "2"\nsince_param = "since"'
    assert given(settings) == {"since": ""}
    for seconds, known in ((400, True), (300, True), (200, False), (100, True), (50, False)):
        record(given.project, seconds_ago=seconds, known=known)
    assert ago(given(settings)["since"]) == 300
    assert ago(given(settings, now=NOW - 90)["since"]) == 300
    assert given(settings, now=NOW - 150) == {"since": ""}  # of two there are not more
    assert given(settings.replace('"2"', '"1_000"')) == {"since": ""}


def test_since_the_change_is_when_what_was_seen_began_else_everything(given):
    settings = 'train_on = "since change"\nsince_param = "since"'
    assert ago(given(settings)["since"]) == 1000
    quiet = Signal(kind="person", fires=True, because="eve")
    assert given(settings, signal=quiet) == {"since": ""}


@pytest.mark.parametrize("window", ["0", "90x", "-3", "a week", "1.5"])
def test_a_window_that_is_none_is_refused(given, window):
    with pytest.raises(ProjectError, match="is no window"):
        check_window(window)
    with pytest.raises(ProjectError, match="is no window"):
        given(f'train_on = "window"\nwindow = "{window}"\nsince_param = "since"')


@pytest.mark.parametrize("window", ["1000", "1_000", "1,000", "90d", " 2 ", "2026-01-01"])
def test_a_window_is_rows_or_an_age_or_a_moment(window):
    check_window(window)


def test_a_window_that_reaches_no_parameter_is_refused_when_it_is_read(given):
    with pytest.raises(ProjectError, match="has to reach the pipeline"):
        given('train_on = "window"')


PIPELINE = """
import charkha
from charkha import pipeline


raise SystemExit("nobody is to import this")


@pipeline
def prices(trees: int = 3, *, since: str = "", until: str = "") -> None: ...


@charkha.pipeline(name="other")
def others(rest: int) -> None: ...


@pipeline
def anything(**given: object) -> None: ...
"""


@pytest.fixture
def checked(tmp_path):
    """Return `checked(settings, entry)`, which looks at the parameters of a pipeline."""

    def checked(settings, entry="pipeline.py:prices", text=PIPELINE):
        (tmp_path / "pipeline.py").write_text(text)
        (tmp_path / "charkha.toml").write_text(
            f'[project]\nname = "prices"\n[pipeline]\nentry = "{entry}"\n[loop]\n{settings}'
        )
        check_parameters(open_project(tmp_path))
        return True

    return checked


@pytest.mark.parametrize(
    ("settings", "entry", "fix"),
    [
        ('since_param = "sinc"', "pipeline.py:prices", "did you mean 'since'"),
        ('until_param = "zzz"', "pipeline.py:prices", "its parameters are: trees, since, until"),
        ('since_param = "since"', "pipeline.py:others", "its parameters are: rest"),
    ],
)
def test_a_parameter_that_the_pipeline_lacks_is_refused_before_a_turn_needs_it(
    checked, settings, entry, fix
):
    with pytest.raises(ProjectError, match=r"\[loop\].*names.*no such parameter") as refused:
        checked(settings, entry)
    assert fix in refused.value.fix


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("pipeline.py:prices", PIPELINE),
        ("pipeline.py:anything", PIPELINE),
        ("pipeline.py", PIPELINE),  # three of them, so it is none
        ("pipeline.py:made", "made = make()"),  # only who runs it knows
        ("pipeline.py:prices", "def prices("),
        ("nowhere.py:prices", PIPELINE),
    ],
)
def test_what_the_text_of_the_file_does_not_tell_is_left_to_the_run(checked, entry, text):
    assert checked('since_param = "since"\nuntil_param = "until"', entry, text)
