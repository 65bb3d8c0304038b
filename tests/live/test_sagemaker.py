"""The contract of engines on an emulated SageMaker whose jobs are really run; see sagemaker_server.py."""

import shutil
from urllib.parse import urlsplit

import boto3
import pytest

from charkha.errors import BackendError, UserError
from charkha.events import RunFinished
from charkha.pipeline.boards import open_board
from charkha.pipeline.engines.contract import EngineContract, planned
from charkha.pipeline.engines.port import open_engine
from charkha.project import open_project

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/parity"
ROLE = "arn:aws:iam::123456789012:role/charkha"


MEASURED = """

@step(outputs=("metrics",))
def measured(squares: list) -> dict[str, float]:
    return {"sum": sum(squares), "most": max(squares)}
"""


class TestSagemaker(EngineContract):
    name = "sagemaker"

    @pytest.fixture
    def tables(self, tables):
        return tables

    @pytest.fixture
    def settings(self, tmp_path, s3, sagemaker, tables, monkeypatch):
        image = f"{IMAGE}:{abs(hash(tmp_path)) % 10**8}"
        sagemaker.images[image] = tmp_path / "parity"
        for name, value in {
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": s3.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        shutil.copyfile(tables, tmp_path / "mlflow.db")
        return (
            f'[tracking]\nuri = "sqlite:///{tmp_path}/mlflow.db"\n'
            f'[blobs]\nurl = "s3://{s3.make_bucket()}/blobs"\nendpoint_url = "{s3.endpoint_url}"\n'
            f'[sagemaker]\nimage = "{image}"\nrole = "{ROLE}"\nendpoint_url = "{sagemaker.url}"\n'
        )

    def test_a_run_that_sagemaker_begins_by_itself_has_its_id_and_a_training_job_its_metrics(
        self, project, s3, sagemaker
    ):
        entry = project.root / project.pipeline.entry
        called = entry.read_text().replace("    slow(", "    measured(squares)\n    slow(")
        entry.write_text(called + MEASURED)
        with (project.root / "charkha.toml").open("a") as file:
            file.write('training = ["measured"]\nmetrics = ["sum", "most"]\n')
        project = open_project(project.root)
        (text,) = open_engine(project, "sagemaker").compile(planned(project)).values()
        client = boto3.client("sagemaker", endpoint_url=sagemaker.url)
        name = f"by-itself-{s3.make_bucket()}"
        client.create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=ROLE)
        asked = [{"Name": "count", "Value": "4"}, {"Name": "fails", "Value": "0"}]
        arn = client.start_pipeline_execution(PipelineName=name, PipelineParameters=asked)
        execution = sagemaker.executions[arn["PipelineExecutionArn"]]
        execution.thread.join(self.patience_s)
        assert execution.status == "Succeeded"
        lines = open_board(project, execution.id).lines()
        assert isinstance(lines[-1].event, RunFinished)
        assert lines[-1].event.status == "finished"
        assert lines[0].event.params["count"] == 4
        job = execution.jobs["measured"]
        told = client.describe_training_job(TrainingJobName=job.name)
        found = {one["MetricName"]: one["Value"] for one in told["FinalMetricDataList"]}
        assert found == {"sum": 16.0, "most": 9.5}
        place = urlsplit(told["ModelArtifacts"]["S3ModelArtifacts"])
        assert s3.client.head_object(Bucket=place.netloc, Key=place.path[1:])
        log = open_engine(project, "sagemaker").log({"arn": execution.arn}, "measured")
        assert "metric most=9.5" in log
        assert "shaky" not in log

    def test_what_aws_refuses_is_told_with_what_to_do(self, project, sagemaker, monkeypatch):
        engine = open_engine(project, "sagemaker")
        for kind, error, fix in (
            ("AccessDeniedException", UserError, "pass them the role"),
            ("UnrecognizedClientException", UserError, "aws configure"),
            ("ResourceLimitExceeded", BackendError, "quota"),
            ("ValidationException", BackendError, "None"),
        ):
            monkeypatch.setattr(sagemaker, "refuses", (400, kind, "said so"))
            with pytest.raises(error, match="said so") as refused:
                engine.submit(planned(project), "run-1")
            assert fix in str(refused.value.fix)
