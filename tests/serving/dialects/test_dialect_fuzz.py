"""Whatever a body holds, a dialect returns rows of the signature's types or a problem, nothing else."""

import copy
import io
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from charkha.serving.problems import Problem

LENGTH = b"inference-header-content-length"
ROW = {
    "area": 1.5,
    "rooms": 3,
    "sold": 9007199254740993,
    "1st/Floor ~ m²": 2.5,
    "district": "North",
    "garage": True,
    "built": "2008-06-01",
}
KINDS = dict(zip(ROW, ("FP64", "INT32", "INT64", "FP32", "BYTES", "BOOL", "BYTES"), strict=True))
RAW = ["NaN", "-Infinity", "1e999", "-1E+400", "1" * 400, "01", "tru", '"\\ud800"', '"\\u0000"', "\x00", '"\x01"', "[" * 3000, '{"a":' * 3000, "/*x*/1", "'x'", ""]  # fmt: skip
VALUES = [
    None,
    True,
    False,
    0,
    -1,
    3.7,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    1e308,
    -0.0,
    1e-320,
]
VALUES += [
    "",
    " ",
    "nan",
    "inf",
    "1e400",
    "3",
    "true",
    "null",
    "NaT",
    "x" * 5000,
    "٣",
    "🏠",
    "\x00",
]
VALUES += [
    "2008-06-01T25:00",
    "0000-01-01",
    "9999-12-31",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    ["x"] * 9,
]
STRANGE = [b"\x00", b"\xff", b"\xed\xa0\x80", b'"', b"\\", b",", b"\n", b"\r", b"[", b"}", b"NaN", b"\xef\xbb\xbf"]  # fmt: skip


def paths_in(node, at=()):
    yield at
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in children:
        yield from paths_in(child, (*at, key))


def mutated(document, rng):
    """Return a JSON body that differs from the document in one to three places, or in its bytes."""
    document = copy.deepcopy(document)
    marks = {}
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(paths_in(document)))
        node = document
        for key in path[:-1]:
            node = node[key]
        raw = rng.random() < 0.3
        value = f"mark-{len(marks)}" if raw else copy.deepcopy(rng.choice(VALUES))
        if raw:
            marks[json.dumps(value)] = rng.choice(RAW)
        if not path:
            document = value if rng.random() < 0.1 else document
        elif rng.random() < 0.2 and isinstance(node, dict):
            node[rng.choice(["", "new", "area ", "\ud800"])] = node.pop(path[-1])
        elif rng.random() < 0.2 and isinstance(node, list):
            node.insert(path[-1], value)
        elif rng.random() < 0.2:
            del node[path[-1]]
        else:
            node[path[-1]] = value
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    for mark, raw in marks.items():
        text = text.replace(mark, raw)
    body = text.encode(errors="surrogatepass")
    return spoilt(body, rng) if rng.random() < 0.3 else body


def spoilt(body, rng):
    """Return a body in which bytes are changed, cut off, doubled, put in."""
    body = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(6):
            case 0 if at < len(body):
                body[at] = rng.randrange(256)
            case 1 if at < len(body):
                body[at] ^= 1 << rng.randrange(8)
            case 2:
                del body[at : at + rng.randint(1, 40)]
            case 3:
                body[at:at] = rng.choice(STRANGE)
            case 4:
                body[at:at] = body[at : at + rng.randint(1, 40)]
            case 5 if rng.random() < 0.3:
                del body[at:]
    return bytes(body)


def outcome(kit, dialect, body, headers):
    """Read a body and answer it; return its status."""
    try:
        reading = dialect.read(body, headers)
    except Problem as problem:
        json.dumps(problem.as_json())
        assert 400 <= problem.status < 500, problem  # noqa: PT017  # it need not raise
        return problem.status
    assert reading.rows
    assert all(kit.fits(kit.COLUMNS, row) for row in reading.rows), reading.rows[:3]
    said = kit.said_of([1.5] * len(reading.rows))
    told, own = dialect.write(reading, said)
    own = dict(own)
    kind = own[b"content-type"]
    if LENGTH in own:
        json.loads(told[: int(own[LENGTH])])
    elif kind == b"application/json":
        json.loads(told)
    else:
        assert said.ids[0].encode() in told
    return 200


def check(kit, dialect, bodies, headers=None, floor=0.02):
    """Have all bodies read; some have to be accepted, or the bodies are of no use."""
    statuses = [outcome(kit, dialect, body, headers or {}) for body in bodies]
    assert floor < statuses.count(200) / len(statuses) < 1


def as_split(rows):
    return {"dataframe_split": {"columns": list(ROW), "data": [list(row.values()) for row in rows]}}


def as_columns(rows):
    return {"inputs": {name: [row[name] for row in rows] for name in ROW}}


def as_tensors(rows, **more):
    inputs = [
        {"name": name, "shape": [len(rows)], "datatype": kind, "data": [row[name] for row in rows]}
        for name, kind in KINDS.items()
    ]
    return {"inputs": inputs, **more}


DOCUMENTS = {
    "named": [ROW, [ROW, ROW]],
    "invocations": [
        as_split([ROW, ROW]),
        as_columns([ROW, ROW]),
        {"dataframe_records": [ROW, ROW]},
        {"instances": [ROW]},
        {"inputs": [list(ROW.values())]},
        {"inputs": ROW, "params": {}},
    ],
    "inference_v2": [
        as_tensors([ROW, ROW], id="x"),
        as_tensors([ROW], outputs=[{"name": "prediction", "parameters": {"binary_data": True}}]),
        as_tensors([ROW], parameters={"binary_data_output": True, "content_type": "pd"}),
    ],
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json(kit, name):
    rng = random.Random(f"json {name}")
    dialect = kit.dialect_of(name)
    documents = DOCUMENTS[name]
    assert all(outcome(kit, dialect, json.dumps(d).encode(), {}) == 200 for d in documents)
    check(kit, dialect, (mutated(rng.choice(documents), rng) for _ in range(6000)))


def test_binary_tensors(kit):
    rng = random.Random("binary")
    dialect = kit.dialect_of("inference_v2")
    tensors = [
        ("area", "FP64", np.array([1.5, np.nan]).tobytes()),
        ("rooms", "INT16", np.array([3, 4], "<i2").tobytes()),
        ("1st/Floor ~ m²", "FP16", np.array([1, 2], "<f2").tobytes()),
        ("district", "BYTES", b"\x05\0\0\0North\0\0\0\0"),
        ("garage", "BOOL", b"\x01\x00"),
    ]
    inputs = [
        {"name": n, "shape": [2], "datatype": k, "parameters": {"binary_data_size": len(data)}}
        for n, k, data in tensors
    ]
    tail = b"".join(data for _, _, data in tensors).replace(np.float64("nan").tobytes(), b"\0" * 8)
    statuses = []
    for _ in range(4000):
        head = json.dumps({"inputs": inputs}).encode()
        if rng.random() < 0.5:
            head = mutated({"inputs": inputs}, rng)
        body = head + (spoilt(tail, rng) if rng.random() < 0.5 else tail)
        length = len(head) if rng.random() < 0.9 else rng.randint(-5, len(body) + 5)
        statuses.append(outcome(kit, dialect, body, {LENGTH: str(length).encode()}))
    assert 0.02 < statuses.count(200) / len(statuses) < 1


def test_csv(kit):
    rng = random.Random("csv")
    cells = ["1", "2.5", "", "NaN", "inf", "x", '"a,b"', '"', "1e999", "-0", "2008-06-01", "true", "9" * 30, "\x00", "é"]  # fmt: skip

    def body():
        names = list(ROW)
        if rng.random() < 0.3:
            rng.shuffle(names)
        lines = [",".join(names)]
        for _ in range(rng.randint(1, 3)):
            values = [str(ROW[name]) for name in names]
            for _ in range(rng.randint(0, 2)):
                values[rng.randrange(len(values))] = rng.choice(cells)
            lines.append(",".join(values))
        made = rng.choice(["\n", "\r\n", "\r"]).join(lines).encode()
        return spoilt(made, rng) if rng.random() < 0.4 else made

    check(kit, kit.dialect_of("csv"), (body() for _ in range(4000)))
    rng = random.Random("csv on invocations")
    headers = {b"content-type": b"text/csv"}
    check(kit, kit.dialect_of("invocations"), (body() for _ in range(2000)), headers)


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_tables(kit, form, compression):
    rng = random.Random(f"{form} {compression}")
    table = pa.Table.from_pylist([ROW, {**ROW, "district": None}, ROW])
    table = table.set_column(4, "district", table.column("district").dictionary_encode())
    whole = io.BytesIO()
    if form == "arrow":
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(whole, table.schema, options=options) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, whole, compression=compression or "none")
    bodies = (spoilt(whole.getvalue(), rng) for _ in range(2000))
    check(kit, kit.dialect_of(form), bodies, floor=-1)
