"""What SageMaker is given: the definition, held against botocore's requests; and what is refused."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from charkha.cli.main import main
from charkha.errors import ProjectError, Unavailable, UserError
from charkha.pipeline.engines.contract import PIPELINE, planned
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.engines.sagemaker_definition import pipeline_name
from charkha.pipeline.engines.sagemaker_machines import GIB, MACHINES
from charkha.pipeline.plans import tasks_of
from charkha.project import open_project

GOLDEN = Path(__file__).parent / "golden" / "sagemaker" / "sagemaker.json"
MODEL = get_session().get_service_model("sagemaker")
SETTINGS = """
[blobs]
url = "s3://bucket/blobs"
[sagemaker]
image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/parity:1"
role = "arn:aws:iam::123456789012:role/charkha"
region = "eu-central-1"
training = ["slow"]
metrics = ["rmse"]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARKHA_TEST_MARKS", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / entry(tmp_path)).write_text(PIPELINE)
    return written(tmp_path, SETTINGS)


def entry(root):
    """Return the file of the pipeline: a module is imported once."""
    return f"sagemaker_{abs(hash(root)) % 10**8}.py"


def written(root, settings):
    """Return the project with these settings."""
    head = f'[project]\nname = "parity"\n[pipeline]\nentry = "{entry(root)}"\n'
    (root / "charkha.toml").write_text(head + settings)
    return open_project(root)


def compiled(project, made=None):
    """Return the definition."""
    (text,) = open_engine(project, "sagemaker").compile(made or planned(project)).values()
    return json.loads(text)


def asking(made, step, **asked):
    """Return the plan with a step that asks for this."""
    node = made.graph.nodes[step]
    node = replace(node, options=replace(node.options, **asked))
    graph = replace(made.graph, nodes={**made.graph.nodes, step: node})
    return replace(made, graph=graph, tasks=tasks_of(graph))


def step_of(definition, name):
    return next(one for one in definition["Steps"] if one["Name"] == name)


def machine_of(definition, name):
    step = step_of(definition, name)
    if step["Type"] == "Training":
        return step["Arguments"]["ResourceConfig"]["InstanceType"]
    return step["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceType"]


def resolved(value, known):
    """Return arguments with an example of what their functions give; an unknown name is an error."""
    match value:
        case {"Get": name}:
            return known[name]
        case {"Std:Join": {"On": separator, "Values": parts}}:
            return separator.join(str(resolved(part, known)) for part in parts)
        case dict():
            return {name: resolved(inner, known) for name, inner in value.items()}
        case list():
            return [resolved(inner, known) for inner in value]
    return value


def check(definition):
    """Hold a definition against what AWS's documentation and botocore say of one."""
    assert set(definition) == {"Version", "Metadata", "Parameters", "Steps"}
    assert definition["Version"] == "2020-12-01"
    assert all(re.fullmatch(r"[\w-]{1,128}", name) for name in definition["Metadata"])
    kinds = {"String": str, "Integer": int, "Float": float, "Boolean": bool}
    known = {"Execution.PipelineExecutionId": "abcdefghijkl"}
    for one in definition["Parameters"]:
        assert type(one["DefaultValue"]) is kinds[one["Type"]]
        known[f"Parameters.{one['Name']}"] = one["DefaultValue"]
    seen = set()
    for step in definition["Steps"]:
        assert re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}", step["Name"])
        assert step["Name"] not in seen
        assert set(step.get("DependsOn", [])) <= seen
        seen.add(step["Name"])
        kind = f"{step['Type']}Job"
        shape = MODEL.operation_model(f"Create{kind}").input_shape
        request = {f"{kind}Name": "a-job", **resolved(step["Arguments"], known)}
        errors = ParamValidator().validate(request, shape)
        assert not errors.has_errors(), errors.generate_report()
        words = request.get("AppSpecification") or request["AlgorithmSpecification"]
        words = words["ContainerEntrypoint"] + words["ContainerArguments"]
        assert all(0 < len(word) <= 256 for word in words)
        assert len(words) <= 101
        for policy in step["RetryPolicies"]:
            assert not policy.keys() >= {"MaxAttempts", "ExpireAfterMin"}  # AWS takes one of them


def test_the_definition_is_the_golden_one_and_each_job_is_a_request_that_botocore_takes(project):
    """Renew it with CHARKHA_RENEW_GOLDEN=1."""
    (text,) = open_engine(project, "sagemaker").compile(planned(project)).values()
    if os.environ.get("CHARKHA_RENEW_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    check(json.loads(text))


def test_five_hundred_steps_are_compiled_in_one_pass_and_fit_into_a_request(tmp_path, project):
    (tmp_path / entry(tmp_path)).write_text(
        "from charkha import pipeline, step\n\n\n"
        "@step\ndef more(number: int) -> int:\n    return number + 1\n\n\n"
        "@pipeline\ndef chain(count: int = 0) -> None:\n"
        "    made = more(count)\n    for _ in range(499):\n        made = more(made)\n"
    )
    definition = compiled(written(tmp_path, SETTINGS.replace('"slow"', '"*"')))
    assert len(definition["Steps"]) == 500
    assert len(json.dumps(definition, separators=(",", ":"))) < 1_048_576
    check(definition)


def test_the_first_jobs_begin_the_run_and_the_last_one_ends_it(project):
    definition = compiled(project)
    words = {
        one["Name"]: json.dumps(one["Arguments"])
        for one in definition["Steps"]
    }  # fmt: skip
    assert [name for name in words if '"--begin"' in words[name]] == ["numbers"]
    assert [name for name in words if '"always"' in words[name]] == ["slow"]
    assert "finish" not in words


def test_where_no_task_is_the_last_a_job_of_its_own_ends_the_run(project):
    made = planned(project)
    node = made.graph.nodes["numbers"]
    graph = replace(made.graph, nodes={"numbers": node, "slow": replace(node, name="slow")})
    definition = compiled(project, replace(made, graph=graph, tasks=tasks_of(graph)))
    assert step_of(definition, "finish")["DependsOn"] == ["numbers", "slow"]


def test_a_task_of_training_is_a_training_job_and_shows_its_metrics(project):
    arguments = step_of(compiled(project), "slow")["Arguments"]
    [metric] = arguments["AlgorithmSpecification"]["MetricDefinitions"]
    assert re.findall(metric["Regex"], "metric rmse=-2.5e-07\n") == ["-2.5e-07"]
    assert arguments["OutputDataConfig"]["S3OutputPath"] == "s3://bucket/blobs/sagemaker"
    assert {one["Type"] for one in compiled(project)["Steps"]} == {"Processing", "Training"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("spot = true\nspot_wait_s = 600", {"MaxWaitTimeInSeconds": 87_000}),
        ("warm_pool_s = 900", {"KeepAlivePeriodInSeconds": 900}),
        ('subnets = ["subnet-1"]\nsecurity_groups = ["sg-1"]', {"Subnets": ["subnet-1"]}),
        ('[sagemaker.variables]\nOMP_NUM_THREADS = "4"', {"OMP_NUM_THREADS": "4"}),
        ('[sagemaker.tags]\nteam = "houses"', {"Key": "team", "Value": "houses"}),
        ('[sagemaker.instances]\nslow = "ml.p4d.24xlarge"', {"InstanceType": "ml.p4d.24xlarge"}),
    ],
)
def test_a_setting_is_where_sagemaker_reads_it(project, line, found):
    definition = compiled(written(project.root, f"{SETTINGS}{line}\n"))
    check(definition)
    text = json.dumps(step_of(definition, "slow")["Arguments"])
    assert json.dumps(found)[1:-1] in text


@pytest.mark.parametrize(
    ("asked", "machine"),
    [
        ({}, "ml.m5.xlarge"),
        ({"cpu": 2.0}, "ml.m5.large"),
        ({"cpu": 8.0, "memory": "12GB"}, "ml.c5.2xlarge"),
        ({"memory": "60GB"}, "ml.r5.2xlarge"),
        ({"gpu": 1.0}, "ml.g4dn.xlarge"),
        ({"gpu": 4.0, "memory": "300GB"}, "ml.g5.24xlarge"),
        ({"gpu": 8.0}, "ml.g5.48xlarge"),
    ],
)
def test_a_task_gets_the_smallest_machine_that_has_what_it_asks_for(project, asked, machine):
    definition = compiled(project, asking(planned(project), "shaky", **asked))
    assert machine_of(definition, "shaky") == machine


def test_every_machine_is_one_that_both_kinds_of_jobs_can_have():
    for kind in ("ProcessingInstanceType", "TrainingInstanceType"):
        assert {one.name for one in MACHINES} <= set(MODEL.shape_for(kind).enum)
    assert all(one.memory_gib * GIB > 0 for one in MACHINES)


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"gpu": 0.5}, "asks for gpu=0.5"), ({"memory": "9TB"}, "more than a machine")],
)
def test_what_no_machine_has_is_refused_with_a_way_round(project, asked, says):
    with pytest.raises(ProjectError, match=f"task 'shaky': .*{says}") as refused:
        compiled(project, asking(planned(project), "shaky", **asked))
    assert refused.value.fix


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("image =", "# image =", "which image"),
        ("role =", "# role =", "which role"),
        ("s3://bucket/blobs", "blobs", "have to be in a bucket"),
        ('["slow"]', '["slwo"]', "no task 'slwo'"),
        ("metrics", 'pipeline = "my_pipeline"\nmetrics', "can be called 'my_pipeline'"),
        ("arn:aws:iam", "arn:iam", "no ARN of a role"),
        ("metrics", "spot = true\nwarm_pool_s = 9\nmetrics", "none of spot"),
        ('training = ["slow"]', "spot = true", "no task is one"),
        ("metrics", 'subnets = ["subnet-1"]\nmetrics', "needs both"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_before_with_a_fix(project, was, now, says):
    with pytest.raises(ProjectError, match=says) as refused:
        compiled(written(project.root, SETTINGS.replace(was, now)))
    assert refused.value.fix


def test_a_model_is_not_registered_in_a_file_that_is_lost_with_the_jobs_machine(project):
    made = planned(project)
    node = replace(made.graph.nodes["slow"], function="charkha.models.register:judge")
    graph = replace(made.graph, nodes={**made.graph.nodes, "slow": node})
    made = replace(made, graph=graph)
    with pytest.raises(ProjectError, match="step 'slow': registers a model in sqlite") as refused:
        compiled(project, made)
    assert "[tracking] uri" in str(refused.value.fix)
    tracking = '[tracking]\nuri = "http://127.0.0.1:9"\n'
    assert compiled(written(project.root, tracking + SETTINGS), made)["Steps"]


def test_a_value_that_no_job_can_be_told_is_refused(project):
    made = planned(project)
    long = replace(made.parameters[0], type="str", value="x" * 300)
    with pytest.raises(ProjectError, match="longer than 256"):
        compiled(project, replace(made, parameters=(long, *made.parameters[1:])))


def test_another_graph_is_another_pipeline(project):
    made = planned(project)
    assert pipeline_name(made, project) == "parity-parity"
    assert (
        pipeline_name(replace(made, usual_shape="other"), project) == f"parity-parity-{made.shape}"
    )


def test_what_is_rendered_needs_neither_boto3_nor_a_network(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    assert main(["render", "sagemaker"]) == 0
    text = (project.root / "sagemaker.json").read_text()
    assert re.search("leaves it alone once somebody has changed it. sha256:[0-9a-f]{64}", text)
    assert main(["render", "sagemaker"]) == 0
    assert "as it was" in capsys.readouterr().out
    (project.root / "sagemaker.json").write_text(text.replace("86400", "86401"))
    assert main(["render", "sagemaker"]) != 0


def test_without_a_region_or_credentials_it_says_what_to_set(project, monkeypatch):
    engine = open_engine(project, "sagemaker")
    with pytest.raises(UserError, match="does not know who asks") as refused:
        engine.submit(planned(project), "run-1")
    assert "aws configure" in str(refused.value.fix)
    project = written(project.root, SETTINGS.replace("region", "# region"))
    with pytest.raises(UserError, match="region is not known") as refused:
        open_engine(project, "sagemaker").submit(planned(project), "run-1")
    assert "[sagemaker] region" in str(refused.value.fix)


def test_an_address_at_which_nobody_answers_is_said_to_be_that(project, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "charkha")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    project = written(project.root, f'{SETTINGS}endpoint_url = "http://127.0.0.1:9"\n')
    with pytest.raises(Unavailable, match="127.0.0.1:9 does not answer"):
        open_engine(project, "sagemaker").submit(planned(project), "run-1")
