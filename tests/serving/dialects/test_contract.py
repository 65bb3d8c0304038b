"""Each dialect against what every dialect must do."""

import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from charkha.serving.dialects.contract import DialectContract

from .conftest import dialect_of

COLUMNS = [{"name": "area", "type": "double", "required": True}]


class OneNumber(DialectContract):
    name = ""
    kind = b"application/json"

    @pytest.fixture
    def dialect(self):
        return dialect_of(self.name, COLUMNS)

    @pytest.fixture
    def headers(self):
        return {b"content-type": self.kind}


class TestNamed(OneNumber):
    name = "named"

    @pytest.fixture
    def body(self):
        return lambda areas: json.dumps([{"area": area} for area in areas]).encode()

    @pytest.fixture
    def predictions(self):
        return lambda told: json.loads(told)["predictions"]


class TestInvocations(OneNumber):
    name = "invocations"

    @pytest.fixture
    def body(self):
        return lambda areas: json.dumps(
            {"dataframe_split": {"columns": ["area"], "data": [[area] for area in areas]}}
        ).encode()

    @pytest.fixture
    def predictions(self):
        return lambda told: json.loads(told)["predictions"]


class TestInferenceV2(OneNumber):
    name = "inference_v2"

    @pytest.fixture
    def body(self):
        def body(areas):
            tensor = {"name": "area", "shape": [len(areas)], "datatype": "FP64", "data": areas}
            return json.dumps({"inputs": [tensor]}).encode()

        return body

    @pytest.fixture
    def predictions(self):
        return lambda told: json.loads(told)["outputs"][0]["data"]


class TestCsv(OneNumber):
    name, kind = "csv", b"text/csv"

    @pytest.fixture
    def body(self):
        return lambda areas: "".join(f"{line}\n" for line in ("area", *areas)).encode()

    @pytest.fixture
    def predictions(self):
        def predictions(told):
            head, *lines = told.decode().split()
            at = head.split(",").index("prediction")
            return [float(line.split(",")[at]) for line in lines]

        return predictions


def table(areas):
    return pa.table({"area": pa.array(areas, pa.float64())})


class TestArrow(OneNumber):
    name, kind = "arrow", b"application/vnd.apache.arrow.stream"

    @pytest.fixture
    def body(self):
        def body(areas):
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, table(areas).schema) as stream:
                stream.write_table(table(areas))
            return sink.getvalue()

        return body

    @pytest.fixture
    def predictions(self):
        return lambda told: pa.ipc.open_stream(told).read_all()["prediction"].to_pylist()


class TestParquet(OneNumber):
    name, kind = "parquet", b"application/vnd.apache.parquet"

    @pytest.fixture
    def body(self):
        def body(areas):
            sink = io.BytesIO()
            parquet.write_table(table(areas), sink)
            return sink.getvalue()

        return body

    @pytest.fixture
    def predictions(self):
        return lambda told: parquet.read_table(io.BytesIO(told))["prediction"].to_pylist()
