"""What every Codec must do. A new codec passes this suite before it is reviewed."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

_ELSEWHERE = """
import importlib.util, json, sys
from hashlib import sha256
spec = importlib.util.spec_from_file_location("elsewhere", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
suite = getattr(module, sys.argv[2])
codec = suite.codec_class()
print(json.dumps([sha256(codec.encode(value)).hexdigest() for value in suite.samples()]))
"""


class CodecContract:
    """Subclass it, set `codec_class`, and give `samples` and `changes`.

    Samples are made by a function because another process makes them again: what they are must not
    depend on the time, on chance or on the order of a set.
    """

    codec_class: type[Codec]
    any_bytes_are_valid = False

    @staticmethod
    def samples() -> list[object]:
        raise NotImplementedError("give the codec's tests values that it takes")

    @staticmethod
    def changes() -> list[tuple[object, object, list[str]]]:
        raise NotImplementedError("give the codec's tests pairs of values and their difference")

    def same(self, one: object, other: object) -> bool:
        """Whether two values are equal, types included; for values whose == is not enough."""
        return type(one) is type(other) and one == other

    @pytest.fixture
    def codec(self) -> Codec:
        return self.codec_class()

    def test_a_value_comes_back_equal_in_value_and_type(self, codec: Codec) -> None:
        for value in self.samples():
            back = codec.decode(codec.encode(value), None)
            assert self.same(back, value), f"{value!r} came back as {back!r}"

    def test_a_value_made_again_has_the_same_bytes(self, codec: Codec) -> None:
        for one, other in zip(self.samples(), self.samples(), strict=True):
            assert bytes(codec.encode(one)) == bytes(codec.encode(other)), repr(one)

    def test_a_value_that_came_back_has_the_same_bytes(self, codec: Codec) -> None:
        for value in self.samples():
            data = bytes(codec.encode(value))
            assert bytes(codec.encode(codec.decode(data, None))) == data, repr(value)

    @pytest.mark.parametrize("seed", ["1", "2"])
    def test_another_process_writes_the_same_bytes(self, codec: Codec, seed: str) -> None:
        run = subprocess.run(  # noqa: S603  # our own interpreter and file
            [sys.executable, "-c", _ELSEWHERE, inspect.getfile(type(self)), type(self).__name__],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        here = [sha256(codec.encode(value)).hexdigest() for value in self.samples()]
        assert json.loads(run.stdout) == here

    def test_bytes_may_come_as_a_view(self, codec: Codec) -> None:
        for value in self.samples():
            assert self.same(codec.decode(memoryview(bytes(codec.encode(value))), None), value)

    def test_garbage_is_a_value_error(self, codec: Codec) -> None:
        if self.any_bytes_are_valid:
            assert codec.decode(b"garbage", None) == b"garbage"
            return
        whole = bytes(max((codec.encode(value) for value in self.samples()), key=len))
        for garbage in (b"", b"\x00\xff garbage", whole[: len(whole) // 2], whole[:-1]):
            with pytest.raises(ValueError):  # noqa: PT011  # in whatever words
                codec.decode(garbage, None)

    def test_a_difference_names_what_changed(self, codec: Codec) -> None:
        for old, new, expected in self.changes():
            assert codec.difference(codec.encode(old), codec.encode(new)) == expected

    def test_equal_values_do_not_differ(self, codec: Codec) -> None:
        for value in self.samples():
            data = codec.encode(value)
            assert codec.difference(data, data) == []
