"""100,000 bodies that nobody would send on purpose: each gets an answer, and none of them a 500."""

import json
import random
import socket
import struct
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from load import load, post

SEED = 20261124
PATHS = (
    "/predict",
    "/invocations",
    "/v2/models/times/infer",
    "/v2/models/times/versions/1/infer",
    "/feedback",
)
TYPES = (
    *(
        "application/json",
        "application/json; charset=utf-8",
        "text/csv",
        "text/plain",
        "",
        "nonsense",
    ),
    *(
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
        "multipart/form-data",
    ),
    *("application/octet-stream", "application/x-www-form-urlencoded", "application/problem+json"),
)
GOOD = (
    {"area": 3},
    [{"area": 3}, {"area": 4.5}],
    {"dataframe_split": {"columns": ["area"], "data": [[3], [4]]}},
    {"dataframe_records": [{"area": 3}]},
    {"instances": [{"area": 3}]},
    {"inputs": {"area": [3, 4]}},
    {"inputs": [{"name": "area", "shape": [2], "datatype": "FP64", "data": [3, 4]}]},
    {"id": "01a20df3-3233-7000-b6f5-045bc393e06e", "ground_truth": 3.5},
)
ODD = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e-999", b"1" * 400, b"0x10", b"00", b"-0"),
    *(b"null", b"true", b'""', b'"\\ud800"', b'"\\u0000"', b'"\xff\xfe"', b'"\xc3"', b"[]", b"{}"),
    *(
        b"9223372036854775808",
        b"1.5e308",
        b'"12"',
        b'"2008-06-01"',
        b"[[[[[[]]]]]]",
        b'{"a":{"a":{}}}',
    ),
    *(b'"' + b"a" * 3000 + b'"', b"1" + b"0" * 5000, b"[" * 3000, b'{"area":' * 1000),
)


def bodies(random_):
    """Yield bodies without end: good ones, with something exchanged, cut, doubled or broken."""
    good = [json.dumps(document).encode() for document in GOOD]
    while True:
        body = random_.choice(good)
        for _ in range(random_.choice((0, 1, 1, 1, 2, 4))):
            body = random_.choice(MUTATIONS)(random_, body)
        yield body


def with_odd_value(random_, body):
    places = [i for i, byte in enumerate(body) if byte in b":[,"]
    if not places:
        return random_.choice(ODD)
    at = random_.choice(places) + 1
    end = next(
        (i for i in range(at, len(body)) if body[i : i + 1] in (b",", b"]", b"}")), len(body)
    )
    return body[:at] + random_.choice(ODD) + body[end:]


def cut(random_, body):
    return body[: random_.randrange(len(body) + 1)]


def doubled_key(random_, body):
    return body.replace(b'"area": 3', b'"area": 3, "area": "x"')


def flipped(random_, body):
    if not body:
        return b"\x00"
    at = random_.randrange(len(body))
    return body[:at] + bytes([random_.randrange(256)]) + body[at + 1 :]


def renamed(random_, body):
    return body.replace(
        b"area", random_.choice((b"", b"are\xc3\xa4", b"AREA", b"area area", b"\x00"))
    )


def noise(random_, body):
    return random_.randbytes(random_.randrange(200))


def table(random_, body):
    return random_.choice(
        (b"area\n3\n4\n", b"area,b\n3\n", b"area\nx\n", b'"area\n3', b"\n\n\n", b"area\n" * 50)
    )


def repeated(random_, body):
    return b"[" + b",".join([body] * random_.randrange(1, 20)) + b"]"


MUTATIONS = (
    with_odd_value,
    with_odd_value,
    cut,
    doubled_key,
    flipped,
    renamed,
    noise,
    table,
    repeated,
)


@pytest.fixture
def server(registered, serve):
    registered.move("champion", 1)
    return serve(registered.root, "times", "--port", "0", "--variant", "champion=100")


def test_of_100000_odd_bodies_none_breaks_the_server(server):
    random_ = random.Random(SEED)
    made, statuses, broken = bodies(random_), Counter(), []
    for _ in range(10):
        requests = [
            post(
                random_.choice(PATHS),
                next(made),
                random_.choice(TYPES),
                random_.choice(
                    ("", "", "", "charkha-key: \xe4\r\n", "charkha-entity: a\r\n", "accept: x\r\n")
                ),
            )
            for _ in range(10_000)
        ]

        def check(number, status, body, requests=requests):
            statuses[status] += 1
            if not (200 <= status < 300 or 400 <= status < 500):
                broken.append((status, requests[number], body))
                return False
            return True

        outcome = load(server.address, requests, check, count=len(requests), connections=16)
        assert outcome.errors == 0, requests
    assert broken == []
    assert sum(statuses.values()) >= 100_000
    assert statuses[200] > 1000  # some of it was good, after all
    assert statuses[422] > 1000
    code, err = server.end()
    assert code == 0
    assert "Traceback" not in err


def test_callers_who_are_slow_rude_or_gone_cost_the_others_nothing(server):
    whole = post("/predict", b'{"area": 3}')
    rude = []
    for at in range(0, len(whole), 7):
        connection = socket.create_connection(server.address, timeout=10)
        connection.sendall(whole[:at])
        if at % 3 == 0:
            connection.shutdown(socket.SHUT_WR)  # half closed
        elif at % 3 == 1:  # gone, with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        rude.append(connection)
    outcome = load(server.address, [whole], lambda n, status, body: status == 200, count=2000)
    assert (outcome.errors, outcome.wrong) == (0, 0)
    for connection in rude:
        connection.close()


def test_one_malformed_request_in_16_fails_alone(server):
    requests = [
        post("/predict", b'{"area": "%d"}' % n if n % 16 == 0 else b'{"area": %d}' % n)
        for n in range(160)
    ]

    def check(number, status, body):
        if number % 16 == 0:
            return status == 422
        return status == 200 and abs(json.loads(body)["prediction"] - number) < 1e-3

    outcome = load(server.address, requests, check, count=5000, connections=32)
    assert (outcome.errors, outcome.wrong) == (0, 0)
