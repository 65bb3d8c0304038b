"""A parameter reaches the steps that it is given to, or all where its way cannot be told."""

import pytest

from charkha import pipeline, step
from charkha.pipeline.reach import reached
from charkha.project import default_project


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def scaled(number: int, by: float = 1.0) -> float:
    return number * by


@step
def total(values: list, least: float = 0.0) -> float:
    return sum(values) + least


def other(value):
    return value


@pipeline
def direct(count: int = 2, by: float = 2.0, least: float = 0.5, unused: int = 0) -> None:
    values = scaled.each(number=numbers(count + 1))(by=by)
    total(values, least={"x": least}["x"])


@pipeline
def decided(count: int = 2, by: float = 2.0, least: float = 0.5) -> None:
    made = numbers(count)
    if by > 1:
        total(made, least=other(least))


@pipeline
def assigned(count: int = 2, by: float = 2.0, least: float = 0.5) -> None:
    many = count
    total(numbers(many), least=(least := least + 1))
    other(by)


@pipeline
def renamed(count: int = 2, least: float = 0.5) -> None:
    total = other
    total(least)
    numbers(count)


ALL = ("by", "count", "least")


@pytest.mark.parametrize(
    ("made", "reaches"),
    [
        (direct, {"numbers": ("count",), "scaled": ("by",), "total": ("least",)}),
        (decided, {"numbers": ("by", "count"), "total": ("by", "least")}),
        (assigned, {"numbers": ALL, "total": ALL}),
        (renamed, {"numbers": ("count", "least")}),
    ],
)
def test_a_parameter_reaches_what_the_code_says(made, reaches, tmp_path):
    given = {name: p.default for name, p in made.signature.parameters.items()}
    assert reached(made, made.trace(given, default_project(tmp_path))) == reaches
