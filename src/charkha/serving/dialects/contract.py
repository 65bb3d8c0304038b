"""What every Dialect must do, whatever its bodies look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from charkha.serving.dialects.port import Said
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect, Headers

    Write = Callable[[Sequence[float]], bytes]
    Read = Callable[[bytes], list[float]]


class DialectContract:
    """Of a model that takes one number, `area`, which is required, and predicts a number."""

    @pytest.fixture
    def dialect(self) -> Dialect:
        raise NotImplementedError("give the adapter's tests a `dialect` fixture")

    @pytest.fixture
    def headers(self) -> Headers:
        raise NotImplementedError("give the adapter's tests a `headers` fixture: of `body`")

    @pytest.fixture
    def body(self) -> Write:
        raise NotImplementedError("give the adapter's tests a `body` fixture: areas -> a request")

    @pytest.fixture
    def predictions(self) -> Read:
        raise NotImplementedError(
            "give the adapter's tests a `predictions` fixture: an answer -> its predictions"
        )

    @pytest.mark.parametrize("areas", [[3.0], [1.5, -2.0, 1e300], [0.0] * 1000])
    def test_rows_are_tuples_of_the_signatures_types_in_order(
        self, dialect: Dialect, headers: Headers, body: Write, areas: list[float]
    ) -> None:
        rows = dialect.read(body(areas), headers).rows
        assert list(rows) == [(area,) for area in areas]
        assert {type(row[0]) for row in rows} == {float}

    def test_each_row_gets_its_answer_in_order(
        self, dialect: Dialect, headers: Headers, body: Write, predictions: Read
    ) -> None:
        reading = dialect.read(body([1.0, 2.0, 3.0]), headers)
        ids = [f"01a20df3-3233-7000-b6f5-045bc393e0{n:02}" for n in range(3)]
        told, sent = dialect.write(reading, Said(ids, Answers([10.5, -1.0, 1e-9])))
        assert predictions(told) == [10.5, -1.0, 1e-9]
        assert [name for name, _ in sent if name == b"content-type"] == [b"content-type"]
        assert b"content-length" not in dict(sent)

    @pytest.mark.parametrize("broken", [b"", b"\x00", b"{", b"\xff\xfe" * 50])
    def test_what_cannot_be_read_is_the_callers_problem(
        self, dialect: Dialect, headers: Headers, broken: bytes
    ) -> None:
        with pytest.raises(Problem) as caught:
            dialect.read(broken, headers)
        assert 400 <= caught.value.status < 500

    def test_no_rows_are_a_problem(self, dialect: Dialect, headers: Headers, body: Write) -> None:
        with pytest.raises(Problem) as caught:
            dialect.read(body([]), headers)
        assert 400 <= caught.value.status < 500
