"""Who answers a request: shares, keys that stay, and processes that agree."""

import json
import math
import subprocess
import sys
import uuid
from collections import Counter
from types import SimpleNamespace

import pytest

from charkha.serving.variants import Rendezvous, Routes

KEYS = [f"customer-{n}".encode() for n in range(20_000)]


def found(shares, keys=KEYS):
    names = list(shares)
    rendezvous = Rendezvous(names, list(shares.values()))
    return [names[rendezvous.find(key)] for key in keys]


@pytest.mark.parametrize(
    "shares",
    [
        {"champion": 90, "challenger": 10},
        {"champion": 1, "challenger": 1},
        {"a": 70, "b": 20, "c": 9, "d": 1},
        {"champion": 0.999, "challenger": 0.001},
    ],
)
@pytest.mark.parametrize(
    "keys", [KEYS, [str(uuid.UUID(int=n << 66)).encode() for n in range(20_000)]]
)
def test_shares_come_out_as_asked_within_sampling_error(shares, keys):
    counted, total = Counter(found(shares, keys)), sum(shares.values())
    for name, share in shares.items():
        part = share / total
        error = math.sqrt(part * (1 - part) / len(keys))
        assert abs(counted[name] / len(keys) - part) <= 4.5 * error


def test_a_key_finds_the_same_variant_each_time():
    shares = {"champion": 60, "challenger": 40}
    assert found(shares) == found(shares)


def test_the_scale_and_the_order_of_the_shares_do_not_matter():
    shares = {"champion": 90, "challenger": 10}
    assert found(shares) == found({"challenger": 0.1, "champion": 0.9})


def test_only_as_many_keys_move_as_a_share_has_grown():
    before, after = (
        found({"champion": 90, "challenger": 10}),
        found({"champion": 70, "challenger": 30}),
    )
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert set(moved) == {("champion", "challenger")}
    assert len(moved) / len(KEYS) == pytest.approx(0.2, abs=0.012)


def test_a_new_variant_takes_keys_from_the_others_and_moves_none_between_them():
    before = found({"a": 50, "b": 50})
    after = found({"a": 50, "b": 50, "c": 25})
    moved = [b for a, b in zip(before, after, strict=True) if a != b]
    assert set(moved) == {"c"}
    assert len(moved) / len(KEYS) == pytest.approx(0.2, abs=0.012)


def test_a_variant_without_a_share_gets_nothing():
    assert set(found({"a": 0, "b": 1, "c": 0})) == {"b"}


def test_processes_agree():
    code = """
import json, sys
from charkha.serving.variants import Rendezvous
found = Rendezvous(["champion", "challenger"], [60.0, 40.0])
print(json.dumps([found.find(f"customer-{n}".encode()) for n in range(2000)]))
"""
    told = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                check=True,
                env={"PYTHONHASHSEED": seed},
            ).stdout
        )
        for seed in ("1", "2")
    ]
    here = found({"champion": 60, "challenger": 40}, KEYS[:2000])
    assert told[0] == told[1] == [["champion", "challenger"].index(name) for name in here]


def test_any_bytes_are_a_key():
    for key in (b"", b"\x00" * 10_000, "schlüssel".encode(), bytes(range(256))):
        assert found({"a": 1, "b": 1}, [key])[0] in "ab"


def variant(name, version):
    return SimpleNamespace(name=name, model=SimpleNamespace(version=version))


def test_routes_find_a_version_among_those_that_answer():
    first, second, shadow = variant("champion", 3), variant("again", 3), variant("next", 4)
    routes = Routes(live=(first, second), shares=(1.0, 1.0), shadows=(shadow,))
    assert routes.of_version("3") is first
    assert routes.of_version("4") is None
    assert routes.of_version("03") is None
    assert {routes.choose(key).name for key in KEYS[:100]} == {"champion", "again"}


def test_a_single_variant_answers_all():
    only = variant("champion", 3)
    assert Routes(live=(only,), shares=(5.0,)).choose(b"any") is only
