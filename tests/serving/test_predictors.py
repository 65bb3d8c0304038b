import json

import pytest

from charkha.errors import Damaged
from charkha.serving.predictors.contract import PredictorContract
from charkha.serving.predictors.native import NativePredictor
from charkha.serving.predictors.onnxruntime import OnnxPredictor


def described(folder):
    return json.loads((folder / "package.json").read_text())


class TestOnnx(PredictorContract):
    @pytest.fixture
    def load(self, package):
        def load(name):
            return OnnxPredictor(package(name), described(package(name)), allow_pickle=False)

        return load

    def test_bytes_that_are_no_model_are_damaged(self, package, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"no model")
        with pytest.raises(Damaged, match="cannot be loaded"):
            OnnxPredictor(tmp_path, described(package("prices")), allow_pickle=False)


class TestNative(PredictorContract):
    @pytest.fixture
    def load(self, package):
        def load(name):
            return NativePredictor(package(name), described(package(name)), allow_pickle=False)

        return load
