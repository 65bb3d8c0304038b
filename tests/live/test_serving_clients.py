"""Clients that others have written, against `charkha serve`: MLflow's, Triton's, generated ones."""

import contextlib
import importlib
import json
import re
import shutil
import signal
import subprocess
import sys
import uuid
import warnings
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tritonclient.http as triton
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import default_project

ROWS = pd.DataFrame(
    {"area": [3.0, 4.0, 5.0], "rooms": [1, 2, 3], "lot": [1.0, np.nan, 2.0], "district": ["North", None, "South"]}
)  # fmt: skip
PRICES = [16.0, 8.0, 10.0]  # 2 · area, and 10 in the North


def _prices():
    area = np.arange(1.0, 41.0)
    district = np.resize(np.array(["North", "South", None, "South"], dtype=object), 40)
    lot = np.where(area % 5 == 0, np.nan, area)
    rows = pd.DataFrame({"area": area, "rooms": 3, "lot": lot, "district": district})
    rows["rooms"] = rows["rooms"].astype(np.int32)
    encode = make_column_transformer(
        (OneHotEncoder(categories=[["North"]], handle_unknown="ignore"), ["district"]),
        ("drop", ["lot", "rooms"]),
        remainder="passthrough",
    )
    price = 2 * area + 10 * (rows["district"] == "North")
    return make_pipeline(encode, LinearRegression()).fit(rows, price), rows.assign(price=price)


def _sizes():
    rows = pd.DataFrame({"area": np.resize(np.arange(1.0, 9.0), 64)})
    rows["size"] = np.where(rows["area"] > 4, "large", "small")
    return LogisticRegression(C=100).fit(rows[["area"]], rows["size"]), rows


@pytest.fixture(scope="module")
def root(tmp_path_factory, with_tables):
    """A project in whose registry `prices` and `sizes` have champions."""
    root = tmp_path_factory.mktemp("served")
    (root / "charkha.toml").write_text('[project]\nname = "prices"\n')
    project = with_tables(default_project(root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of matplotlib, MLflow, SQLAlchemy
        client = MlflowRegistry(project.tracking.uri)._client
        for name, target, (model, rows) in (
            ("prices", "price", _prices()),
            ("sizes", "size", _sizes()),
        ):
            (folder := root / name).mkdir()
            build_package(
                model, test=rows, train=rows, wish=Wish(name=name, target=target), folder=folder
            )
            digest = open_artifacts(project).save(Dir(folder)).digest
            client.create_registered_model(name)
            client.create_model_version(name, "file:///x", tags={"charkha.package": digest})
            client.set_registered_model_alias(name, "champion", "1")
    return root


@contextlib.contextmanager
def served(root, model):
    """Serve a model; give its address."""
    command = [sys.executable, "-m", "charkha", "serve", model, "--port", "0", "--json"]
    with (root / f"{model}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            told = process.stdout.readline()
            assert told, (root / f"{model}.log").read_text()
            yield json.loads(told)["url"]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def prices(root):
    with served(root, "prices") as url:
        yield url


@pytest.fixture(scope="module")
def sizes(root):
    with served(root, "sizes") as url:
        yield url


def place(url):
    return url.removeprefix("http://")


# --- MLflow's


@pytest.fixture(scope="module")
def mlflow():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own affairs
        importlib.import_module("mlflow.pyfunc.scoring_server.client")
        return importlib.import_module("mlflow")


def test_mlflows_scoring_client(mlflow, prices):
    host, port = place(prices).split(":")
    client = mlflow.pyfunc.scoring_server.client.ScoringServerClient(host, port)
    client.wait_server_ready(timeout=5)
    assert client.get_version()
    answer = client.invoke(ROWS)
    told = answer.get_predictions()
    assert told[0].tolist() == pytest.approx(PRICES, abs=1e-3)
    assert answer.get_predictions("ndarray").shape == (3,)
    assert [uuid.UUID(each).version for each in answer["ids"]] == [7, 7, 7]
    params = client.invoke(ROWS, params={"temperature": 1})
    assert params["predictions"] == answer["predictions"]
    with pytest.raises(Exception, match=r"error code 400.*error_code.*dataframe_split/data/0/0"):
        client.invoke(ROWS.assign(area="big"))
    with pytest.raises(Exception, match=r"no column 'area'"):
        client.invoke(ROWS.drop(columns="area"))


def test_payloads_of_mlflow(mlflow, prices, sizes):
    convert = importlib.import_module("mlflow.models").convert_input_example_to_serving_input
    records = ROWS.astype(object).where(ROWS.notna(), None).to_dict("records")
    for example in (ROWS, records[0], records):
        payload = convert(example)
        answer = httpx.post(
            f"{prices}/invocations", content=payload, headers={"content-type": "application/json"}
        )
        told = mlflow.deployments.PredictionsResponse.from_json(answer.text)
        wanted = PRICES[: len(told["predictions"])]
        assert told["predictions"] == pytest.approx(wanted, abs=1e-3), payload
    payload = convert(np.array([[8.0], [1.0]]))
    answer = httpx.post(
        f"{sizes}/invocations", content=payload, headers={"content-type": "application/json"}
    )
    assert answer.json()["predictions"] == ["large", "small"]
    answer = httpx.post(
        f"{prices}/invocations", content=ROWS.to_csv(), headers={"content-type": "text/csv"}
    )
    assert answer.json()["predictions"] == pytest.approx(PRICES, abs=1e-3)


# --- Triton's


@pytest.fixture
def ask(prices):
    with triton.InferenceServerClient(place(prices)) as client:
        yield client


def test_tritonclient_finds_the_server_and_the_model(ask):
    assert ask.is_server_live()
    assert ask.is_server_ready()
    assert ask.is_model_ready("prices")
    assert ask.is_model_ready("prices", "1")
    assert not ask.is_model_ready("other")
    assert ask.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    about = ask.get_model_metadata("prices")
    assert [(t["name"], t["datatype"]) for t in about["inputs"]] == [
        ("area", "FP64"),
        ("rooms", "INT32"),
        ("lot", "FP64"),
        ("district", "BYTES"),
    ]
    with pytest.raises(InferenceServerException, match="does not hold that"):
        ask.get_model_metadata("other")


def tensors(rows, binary):
    given = {
        "area": rows["area"].to_numpy(np.float32),
        "rooms": rows["rooms"].to_numpy(np.int64),
        "lot": rows["lot"].to_numpy(),
        "district": rows["district"].fillna("").to_numpy(object),
    }
    made = []
    for name, array in given.items():
        made.append(triton.InferInput(name, [len(array)], np_to_triton_dtype(array.dtype)))
        made[-1].set_data_from_numpy(array, binary_data=binary)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_predicts(ask, binary):
    outputs = None if binary else [triton.InferRequestedOutput("prediction", binary_data=False)]
    told = ask.infer("prices", tensors(ROWS, binary), outputs=outputs, request_id="mine")
    assert told.as_numpy("prediction").tolist() == pytest.approx(PRICES, abs=1e-3)
    assert told.get_response()["id"] == "mine"
    again = ask.infer("prices", tensors(ROWS, binary), model_version="1")
    assert len({*again.as_numpy("id").tolist()}) == 3


def test_tritonclient_hears_what_is_wrong(ask):
    with pytest.raises(InferenceServerException, match=r"there is no column 'rooms'") as caught:
        ask.infer("prices", tensors(ROWS, True)[:1])
    assert caught.value.status() == "422"
    with pytest.raises(InferenceServerException, match="does not hold that version"):
        ask.infer("prices", tensors(ROWS, True), model_version="9")
    assert ask.infer("prices", tensors(ROWS, True)).as_numpy("prediction").shape == (3,)


def test_tritonclient_reads_labels_and_probabilities(sizes):
    with triton.InferenceServerClient(place(sizes)) as client:
        area = triton.InferInput("anything", [2, 1], "FP64")
        area.set_data_from_numpy(np.array([[8.0], [1.0]]))
        told = client.infer("sizes", [area])
        assert told.as_numpy("prediction").tolist() == [b"large", b"small"]
        shares = told.as_numpy("probabilities")
        about = client.get_model_metadata("sizes")["outputs"][1]
    assert shares.shape == (2, 2)
    assert shares[0][about["parameters"]["classes"].index("large")] > 0.9


# --- tables


def test_a_table_is_answered_with_a_table(prices):
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(ROWS)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    kind = "application/vnd.apache.arrow.stream"
    answer = httpx.post(
        f"{prices}/predict", content=bytes(sink.getvalue()), headers={"content-type": kind}
    )
    told = pa.ipc.open_stream(answer.content).read_all()
    assert told.column("prediction").to_pylist() == pytest.approx(PRICES, abs=1e-3)
    assert told.column("id")[0].as_py() == answer.headers["charkha-id"]
    kind = "application/vnd.apache.parquet"
    answer = httpx.post(
        f"{prices}/predict", content=ROWS.to_parquet(), headers={"content-type": kind}
    )
    assert pd.read_parquet(pa.BufferReader(answer.content))["prediction"].tolist() == pytest.approx(
        PRICES, abs=1e-3
    )


# --- generated from the OpenAPI document


@pytest.fixture
def generated(prices, tmp_path, monkeypatch):
    """Return a client that openapi-python-client has made; of bodies it knows JSON alone."""
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--url",
        f"{prices}/openapi.json",
    ]
    command += ["--meta", "none", "--output-path", str(tmp_path / "prices_client")]
    command += ["--config", str(tmp_path / "config.yaml")]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = importlib.import_module("prices_client")
        for part in ("models", "api.predict.predict", "api.predict.infer", "api.feedback.feedback"):
            importlib.import_module(f"prices_client.{part}")
    yield client
    for name in [name for name in sys.modules if name.startswith("prices_client")]:
        del sys.modules[name]


def test_a_generated_client(generated, prices):
    models, api = generated.models, generated.api
    with generated.Client(base_url=prices) as client:
        row = models.Row(area=3.0, rooms=1, lot=None, district="North")
        one = api.predict.predict.sync(client=client, body=row, charkha_entity="customer=7")
        assert isinstance(one, models.Answer)
        assert one.prediction == pytest.approx(16, abs=1e-3)
        many = api.predict.predict.sync(client=client, body=[row, models.Row(area=4.0, rooms=2)])
        assert isinstance(many, models.Answers)
        assert many.predictions == pytest.approx([16, 8], abs=1e-3)
        wrong = api.predict.predict.sync(client=client, body=models.Row(area=3.0, rooms=2**31))
        assert isinstance(wrong, models.Problem)
        assert wrong.errors[0].pointer == "#/rooms"
        truth = models.Feedback(id=one.id, ground_truth=17.5)
        assert api.feedback.feedback.sync(client=client, body=truth).taken == 1
        tensors = [
            models.Tensor("area", [1], models.TensorDatatype.FP64, data=[3.0]),
            models.Tensor("rooms", [1], models.TensorDatatype.INT32, data=[1]),
        ]
        name = next(iter(models.InferName))
        told = api.predict.infer.sync(
            name, client=client, body=models.InferenceRequest(inputs=tensors)
        )
        assert told.outputs[0].data == pytest.approx([6], abs=1e-3)


# --- schemathesis


def schemathesis(*arguments):
    command = [sys.executable, "-m", "schemathesis.cli", "run", "--seed", "1", "--no-color"]
    told = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
    return told.stdout


@pytest.mark.parametrize("model", ["prices", "sizes"])
def test_schemathesis_finds_no_500_and_every_answer_as_described(
    request, tmp_path, monkeypatch, model
):
    url = request.getfixturevalue(model)
    monkeypatch.chdir(tmp_path)  # it keeps what it found
    told = schemathesis(
        *(f"{url}/openapi.json", "--checks", "all", "--max-examples", "60"),
        # A schema cannot say that a header or a table names the model's columns
        *("--exclude-checks", "positive_data_acceptance"),
        *("--phases", "examples,coverage,fuzzing"),
    )
    assert "Tested: 17" in told


def test_every_row_that_the_schema_allows_is_answered(prices, tmp_path, monkeypatch):
    document = httpx.get(f"{prices}/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    predict["parameters"] = []
    area = document["components"]["schemas"]["Row"]["properties"]["area"]
    area |= {"minimum": -1e9, "maximum": 1e9}  # of 1e308 the model makes an infinity: a 422
    content = predict["requestBody"]["content"]
    predict["requestBody"]["content"] = {"application/json": content["application/json"]}
    document["paths"] = {"/predict": {"post": predict}}
    (tmp_path / "rows.json").write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    how = ("--mode", "positive", "--checks", "all", "--max-examples", "200")
    schemathesis("rows.json", "--url", prices, *how)


# --- curl


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"
)
def test_curl_needs_no_header_to_send_a_row(prices):
    command = [
        "curl",
        "--silent",
        "--fail",
        f"{prices}/predict",
        "--data",
        '{"area": 3, "rooms": 1}',
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["prediction"] == pytest.approx(6, abs=1e-3)


# --- what the how-tos show

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.mark.parametrize("page", ["moving-from-mlserver.md", "moving-from-mlflow-models-serve.md"])
def test_what_the_how_tos_show_works(prices, page):
    blocks = re.findall(r"^```python\n(.*?)^```", (HOW_TO / page).read_text(), re.S | re.M)
    assert len(blocks) == 2
    port = place(prices).partition(":")[2]
    for block in blocks:
        code = block.replace("127.0.0.1:8000", place(prices)).replace('", 8000', f'", {port}')
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True
        )
