"""Rules and dashboards as they are written: they ask for what is there, and stay a person's own."""

import json
import re
from itertools import combinations

import pytest
import yaml

from charkha.cli.main import COMMANDS, main
from charkha.errors import UserError
from charkha.monitoring.rendering.grafana import dashboards, provisioning
from charkha.monitoring.rendering.panels import SCHEMA_VERSION
from charkha.monitoring.rendering.prometheus import Aims, files, recordings
from charkha.monitoring.rendering.texts import as_json, as_yaml
from charkha.monitoring.rendering.yaml import to_yaml
from charkha.serving.families import FAMILIES
from charkha.stamps import is_ours, write

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SELECTOR = re.compile(r"([a-z_:0-9]+)\{([^{}]*)\}")
GROUPED = re.compile(r"\b(?:by|on|ignoring|group_left)\s*\(([^()]*)\)")
RECORDED = {rule["record"] for rule in recordings()}
TARGETS = {"job", "instance", "project"}  # labels that Prometheus adds
PROJECT = "The Houses (2026)"
YET_TO_COME = {"loop"}


def rendered():
    return files(Aims(project=PROJECT, webhook="http://127.0.0.1:9095/"))


def boards():
    return dashboards(PROJECT, "houses")


def alerts():
    return [rule for group in rendered()["alerts.yml"]["groups"] for rule in group["rules"]]


def panels():
    return [
        (name, panel)
        for name, board in boards().items()
        for panel in board["panels"]
        if panel["type"] != "row"
    ]


def expressions():
    """Return every expression with where it stands."""
    found = {f"rule {rule['record']}": rule["expr"] for rule in recordings()}
    found |= {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    for name, panel in panels():
        for target in panel["targets"]:
            found[f"{name}: {panel['title']} {target['refId']}"] = target["expr"]
    for name, board in boards().items():
        found[f"{name}: annotation"] = board["annotations"]["list"][0]["expr"]
    return found


def family_of(name):
    """Return the family of a series; None where there is no such series."""
    family = FAMILIES.get(name)
    if family is not None:
        return None if family.kind == "histogram" else family
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    family = FAMILIES.get(base)
    return family if family is not None and family.kind == "histogram" else None


def unknown_in(expression):
    """Return the names in an expression that no server has and no rule makes."""
    text = re.sub(r'"[^"]*"', '""', expression)
    names = {name for name in NAME.findall(text) if "charkha" in name}
    return {name for name in names if name not in RECORDED and family_of(name) is None}


def strange_labels_in(expression):
    """Return (metric, label) for each label that is asked for and that its metric has not."""
    found = set()
    for name, inside in SELECTOR.findall(expression.replace("$model", "")):
        family = family_of(name)
        if family is not None:
            own = {*family.labels, *TARGETS, "le"}
            asked = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", inside)
            found |= {(name, label) for label in asked if label not in own}
    known = {label for family in FAMILIES.values() for label in family.labels} | TARGETS | {"le"}
    for inside in GROUPED.findall(expression):
        grouped = [label.strip() for label in inside.split(",") if label.strip()]
        found |= {("by", label) for label in grouped if label not in known}
    return found


@pytest.mark.parametrize("place", expressions())
def test_every_metric_and_label_that_is_asked_for_is_there(place):
    expression = expressions()[place]
    assert unknown_in(expression) == set()
    assert strange_labels_in(expression) == set()


@pytest.mark.parametrize(
    "typo",
    [
        "rate(charkha_request_total[5m])",
        "charkha_prediction_duration_seconds > 1",
        "sum(charkha_workers_bucket)",
        "job:charkha_request_errors:ratio_rate7m > 1",
    ],
)
def test_a_name_with_a_typo_is_found(typo):
    assert unknown_in(typo)


@pytest.mark.parametrize("typo", ['charkha_drift{modle="x"}', "sum by (verison) (charkha_drift)"])
def test_a_label_with_a_typo_is_found(typo):
    assert strange_labels_in(typo)


def test_every_metric_of_the_ledger_is_on_a_board():
    shown = " ".join(t["expr"] for _, panel in panels() for t in panel["targets"])
    ledger = [n for n, f in FAMILIES.items() if f.labels[:1] == ("model",)]
    missing = {name for name in ledger if name not in shown}
    assert missing == {
        "charkha_shadow_dropped_total",
        "charkha_release_overdue",
        "charkha_release_changed_timestamp_seconds",
    }


def test_an_alert_says_what_it_is_and_what_to_do():
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description", "action"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert all(len(text) > 20 for text in rule["annotations"].values())
        assert "`" in rule["annotations"]["action"] or "log" in rule["annotations"]["action"]


def test_commands_that_alerts_name_are_commands():
    for rule in alerts():
        for command in re.findall(r"`charkha ([a-z]+)", rule["annotations"]["action"]):
            assert command in COMMANDS or command in YET_TO_COME, rule["alert"]


def test_every_alert_is_proved_to_fire_and_to_rest():
    tests = [test["name"] for test in rendered()["alerts_test.yml"]["tests"]]
    expected = [f"{rule['alert']} {what}" for rule in alerts() for what in ("fires", "rests")]
    assert sorted(tests) == sorted(expected)
    for test in rendered()["alerts_test.yml"]["tests"]:
        assert test["input_series"], test["name"]


def test_the_aims_of_the_project_are_in_its_rules():
    aims = Aims(project="p", availability=0.99, latency_s=0.2, windows_in_a_row=5)
    text = to_yaml(files(aims))
    assert "charkha_drift_windows_in_a_row >= 5" in text
    assert "p99_5m > 0.2" in text
    assert "ratio_rate1h > 0.144" in text  # 14.4 times the one in a hundred that may fail


def test_alertmanager_posts_where_the_project_says_and_nowhere_else():
    assert "webhook_configs" not in files(Aims(project="p"))["alertmanager.yml"]["receivers"][0]
    [receiver] = rendered()["alertmanager.yml"]["receivers"]
    assert receiver["webhook_configs"] == [{"url": "http://127.0.0.1:9095/", "send_resolved": True}]


def test_a_panel_says_what_it_shows_and_in_what():
    for name, panel in panels():
        assert len(panel["description"]) > 20, (name, panel["title"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None


def test_a_dashboard_refers_only_to_what_it_has():
    for board in boards().values():
        variables = {v["name"] for v in board["templating"]["list"]}
        assert variables == {"datasource", "model"}
        text = json.dumps(board)
        assert set(re.findall(r"\$\{?([a-z]+)\b", text)) <= variables
        assert set(re.findall(r"\$(__[a-z_]+)", text)) <= {"__rate_interval"}
        assert board["schemaVersion"] == SCHEMA_VERSION
        for panel in board["panels"]:
            refs = [target["refId"] for target in panel.get("targets", ())]
            assert len(refs) == len(set(refs))


def test_dashboards_are_told_apart():
    uids = [board["uid"] for board in boards().values()]
    other = [board["uid"] for board in dashboards("barns", None).values()]
    assert len({*uids, *other}) == 6
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in (*uids, *other))


def test_panels_have_ids_of_their_own_and_lie_beside_each_other():
    for board in boards().values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for one, other in combinations([panel["gridPos"] for panel in board["panels"]], 2):
            assert (
                one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            )  # fmt: skip
        assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in board["panels"])


def test_the_projects_model_is_shown_at_first():
    [variable] = [v for v in boards()["dashboards/drift.json"]["templating"]["list"]
                  if v["name"] == "model"]  # fmt: skip
    assert variable["current"]["value"] == "houses"


def test_yaml_is_read_back_as_it_was():
    nasty = ["", "yes", "Null", "1e3", "0x1f", "12:30:45", "- a", "a: b", "a #b", "#", "a\nb\n", "a\nb",
             "  a", "é", "%a", "@a", "`a`", "{a", "[a", "*a", "&a", "!a", "|", ">", "?", "'", '"', "\\",
             "2026-11-24", "~", "=", "<<", "on", "a:", "a,", "1_000", ".5", "a\tb", "a\n\n  b", "no "]  # fmt: skip
    data = {
        "texts": nasty,
        "keys": dict.fromkeys(nasty, 1),
        "in": [{"a": [1, 2.5, True, None], "b": {}}, [], [["x"]], {"t": "a\nb"}],
    }
    assert yaml.safe_load(to_yaml(data)) == data
    for data in (*rendered().values(), *provisioning("http://127.0.0.1:9090").values()):
        assert yaml.safe_load(to_yaml(data)) == data


def test_a_file_that_was_written_is_known_and_one_that_was_changed_as_well():
    for text in (as_yaml({"a": 1}, "c"), as_json({"a": 1}, "c")):
        assert is_ours(text)
        assert not is_ours(text.replace("1", "2", 1))
        assert not is_ours(text + "\n")
    assert not is_ours("sha256:")
    assert not is_ours("")


def test_what_a_person_changed_is_kept_and_nothing_else_is_written(tmp_path):
    old = {"a.yml": as_yaml({"a": 1}, "c"), "b.yml": as_yaml({"b": 1}, "c")}
    new = {"a.yml": as_yaml({"a": 2}, "c"), "b.yml": as_yaml({"b": 2}, "c")}
    assert write(tmp_path, old, force=False) == ["a.yml", "b.yml"]
    changed = old["b.yml"].replace("1", "7")
    (tmp_path / "b.yml").write_text(changed)
    with pytest.raises(UserError, match=r"somebody has changed b\.yml"):
        write(tmp_path, new, force=False)
    assert (tmp_path / "a.yml").read_text() == old["a.yml"]
    assert (tmp_path / "b.yml").read_text() == changed
    assert write(tmp_path, new, force=True) == ["a.yml", "b.yml"]
    assert (tmp_path / "b.yml").read_text() == new["b.yml"]


def test_a_file_of_the_same_name_that_is_not_ours_is_kept(tmp_path):
    (tmp_path / "a.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError):
        write(tmp_path, {"a.yml": as_yaml({"a": 1}, "c")}, force=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text(
        '[project]\nname = "barns"\n[model]\nname = "barn-prices"\n[serving]\nport = 8123\n'
        "[monitoring]\nwindows_in_a_row = 4\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("what", ["prometheus", "grafana"])
def test_writing_twice_gives_the_same_bytes(project, capsys, what):
    assert main(["render", what, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == told["files"]
    folder = project / "monitoring" / what
    first = {name: (folder / name).read_bytes() for name in told["files"]}
    assert main(["render", what, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == []
    assert {name: (folder / name).read_bytes() for name in told["files"]} == first


def test_the_rules_are_those_of_the_project(project):
    assert main(["render", "prometheus"]) == 0
    folder = project / "monitoring" / "prometheus"
    told = yaml.safe_load((folder / "prometheus.yml").read_text())
    assert told["scrape_configs"][0]["static_configs"][0]["targets"] == ["127.0.0.1:8123"]
    assert "windows_in_a_row >= 4" in (folder / "alerts.yml").read_text()
    assert main(["render", "grafana", "--out", "boards"]) == 0
    board = json.loads((project / "boards" / "dashboards" / "service.json").read_text())
    assert board["title"] == "barns: service"
    assert board["templating"]["list"][1]["current"]["value"] == "barn-prices"


def test_a_folder_that_is_a_file_is_an_error_that_names_it(project, capsys):
    (project / "taken").write_text("")
    assert main(["render", "grafana", "--out", "taken"]) == 1
    assert "taken" in (said := capsys.readouterr().err)
    assert "--out DIR" in said


def test_a_changed_file_is_named_with_the_way_out(project, capsys):
    assert main(["render", "prometheus"]) == 0
    alerts_file = project / "monitoring" / "prometheus" / "alerts.yml"
    alerts_file.write_text(alerts_file.read_text().replace("critical", "warning"))
    assert main(["render", "prometheus", "--server", "10.0.0.7:80"]) == 1
    assert "alerts.yml" in (said := capsys.readouterr().err)
    assert "--force" in said
    assert main(["render", "prometheus", "--force"]) == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--server", "http://127.0.0.1:8000"], "is no HOST:PORT"),
        (["--server", "localhost"], "is no HOST:PORT"),
        (["--alertmanager", "http://127.0.0.1:9093"], "is no HOST:PORT"),
        (["--webhook", "127.0.0.1:9095"], "does not begin with http://"),
        (["--availability", "99,9"], "'99,9' is no number"),
        (["--latency", "fast"], "'fast' is no number"),
    ],
)
def test_what_prometheus_would_not_take_is_not_written(project, capsys, given, says):
    assert main(["render", "prometheus", *given]) == 2
    assert says in capsys.readouterr().err
    assert not (project / "monitoring").exists()
