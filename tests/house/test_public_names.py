import subprocess
import sys

import pytest

import charkha

PUBLIC = [name for name in charkha.__all__ if name != "__version__"]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_imported(name):
    assert callable(getattr(charkha, name))
    assert name in dir(charkha)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'stepp'"):
        charkha.stepp  # noqa: B018


DEFINE = """
@step
def one() -> int:
    return 1

@pipeline
def whole():
    one()

@pipeline(name="other")
def another():
    one()

assert (whole.name, another.name) == ("whole", "other")
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from charkha import pipeline, step",
        "from charkha import step\nfrom charkha import pipeline",
        "import charkha.pipeline.steps\nfrom charkha import pipeline, step",
        "import charkha\nstep, pipeline = charkha.step, charkha.pipeline",
        "import charkha.pipeline.steps as steps\npipeline, step = steps.pipeline, steps.step",
    ],
)
def test_pipeline_is_the_decorator_and_the_package_in_whatever_order_they_come(imports):
    done = run(imports + DEFINE)
    assert done.returncode == 0, done.stderr
