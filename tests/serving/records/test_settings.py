import pytest

from charkha.errors import ProjectError
from charkha.project import RecordSettings, default_project, open_project
from charkha.serving.records import address_of, open_folder, open_recorder


@pytest.fixture
def define(tmp_path):
    def define(text):
        (tmp_path / "charkha.toml").write_text(f"[records]\n{text}\n")
        return open_project(tmp_path)

    return define


def test_records_lie_in_the_project_and_open_logs_always_do(tmp_path, define):
    project = default_project(tmp_path)
    assert project.records == RecordSettings(url=f"{tmp_path}/.charkha/records")
    project = define('url = "s3://bucket/prefix"')
    assert address_of(project).url == "s3://bucket/prefix"
    assert open_folder(project) == tmp_path / ".charkha" / "records-open"


def test_the_settings_reach_the_recorder(define, source, record):
    project = define('redact = ["area"]\nsample = 1\ndurability = "power"\nsegment_mb = 1')
    assert project.records.redact == ("area",)
    recorder = open_recorder(project)
    recorder.append(recorder.declare(source()), [record(row=(31337.25, 3, "N", True, None))])
    (log,) = open_folder(project).glob("*.log")
    assert b"31337.25" not in log.read_bytes()
    recorder.close()


def test_recording_can_be_turned_off(define):
    assert open_recorder(define("enabled = false")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('redact = "area"', "redact is a list of texts"),
        ('redact = ["area", 7]', "redact is a list of texts, and the number 7 is none"),
        ('redact = [""]', "redact is empty"),
        ("sample = 1.5", "sample is at most 1"),
        ("sample = -0.1", "sample is at least 0"),
        ('durability = "disk"', "durability is never 'disk'"),
        ('on_full = "panic"', "on_full is never 'panic'"),
        ("segment_mb = 0", "segment_mb is at least 1"),
        ('url = "gs://bucket"', "no records go to gs://"),
        ('secret_key = "hunter2"', "a secret never stands in this file"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_line(define, text, said):
    with pytest.raises(ProjectError) as caught:
        define(text)
    assert said in str(caught.value)
    assert caught.value.where == "charkha.toml:2"
