"""One S3 endpoint holds everything: DVC's remote, the blobs and their entries, MLflow's artifacts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOML = """
[data]
remote = "s3://{bucket}/dvc"
endpoint_url = "{endpoint}"

[blobs]
url = "s3://{bucket}/blobs"
endpoint_url = "{endpoint}"
access_key = "env:AWS_ACCESS_KEY_ID"
secret_key = "env:AWS_SECRET_ACCESS_KEY"

[tracking]
artifacts = "s3://{bucket}/mlflow"
endpoint_url = "{endpoint}"
"""


@pytest.fixture
def charkha(tmp_path, s3):
    """Run the command line as a person with S3 keys in the environment; return what --json said."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("CHARKHA_", "MLFLOW_"))},
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc-site"),
    }

    def charkha(*words, folder):
        done = subprocess.run(
            [Path(sys.executable).with_name("charkha"), *words, "--json"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    return charkha


def test_a_machine_that_lost_everything_pulls_and_finds_every_step_done(charkha, s3, tmp_path):
    bucket = s3.make_bucket()
    charkha("init", "houses", "--template", "house-prices", folder=tmp_path)
    houses = tmp_path / "houses"
    with (houses / "charkha.toml").open("a") as file:
        file.write(TOML.format(bucket=bucket, endpoint=s3.endpoint_url))
    charkha("data", "push", folder=houses)
    first = charkha("run", folder=houses)
    assert {step["how"] for step in first["steps"]} == {"ran"}
    assert first["mlflow"]["state"] == "done"

    found = s3.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert {item["Key"].split("/")[0] for item in found} == {"dvc", "blobs", "mlflow"}

    for lost in (".charkha", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(houses / lost, ignore_errors=True)
    (houses / "data/ames.parquet").unlink()

    charkha("data", "pull", folder=houses)
    again = charkha("run", folder=houses)
    assert {step["how"] for step in again["steps"]} == {"reused"}
    assert [step["outputs"] for step in again["steps"]] == [
        step["outputs"] for step in first["steps"]
    ]
