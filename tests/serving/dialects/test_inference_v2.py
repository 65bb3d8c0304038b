"""The Open Inference Protocol: tensors in JSON and in binary, as KServe's clients send them."""

import json

import numpy as np
import pytest
from tritonclient import http as triton

LENGTH = b"inference-header-content-length"
FLOOR = "1st/Floor ~ m²"
JSON_ROW = {
    "area": ("FP64", 1.5),
    "rooms": ("INT32", 3),
    "sold": ("INT64", 9007199254740993),
    FLOOR: ("FP32", 2.5),
    "district": ("BYTES", "North"),
    "garage": ("BOOL", True),
    "built": ("BYTES", "2008-06-01"),
}
SETTLED = (1.5, 3, 9007199254740993, 2.5, "North", True, "2008-06-01")


@pytest.fixture(scope="module")
def dialect(kit):
    return kit.dialect_of("inference_v2")


@pytest.fixture(scope="module")
def numbers(kit):
    return kit.dialect_of("inference_v2", kit.NUMBERS)


def tensor(name, datatype, data, shape=None, **parameters):
    made = {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": data}
    return {**made, "parameters": parameters} if parameters else made


def request(*tensors, **more):
    return json.dumps({"inputs": tensors, **more}).encode()


def columns(**given):
    """Return tensors of one value each; `area=("FP32", 2)` replaces one, None leaves it out."""
    wanted = {**JSON_ROW, **given}
    return [tensor(name, *(kind, [v])) for name, (kind, v) in wanted.items() if kind is not None]


def test_one_tensor_for_each_column_in_any_order(dialect):
    assert dialect.read(request(*columns()), {}).rows == [SETTLED]
    assert dialect.read(request(*reversed(columns())), {}).rows == [SETTLED]


def test_many_rows_as_a_vector_and_as_a_column(dialect):
    area = [3.0, 1.0, 2.0]
    for shape, data in (([3], area), ([3, 1], area), ([3, 1], [[a] for a in area])):
        body = request(tensor("area", "FP64", data, shape), tensor("rooms", "INT8", [1, 2, 3], [3]))
        rows = dialect.read(body, {}).rows
        assert [row[:2] for row in rows] == [(3.0, 1), (1.0, 2), (2.0, 3)]


def test_one_tensor_may_hold_all_columns(numbers):
    flat, nested = [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]
    for data in (flat, nested):
        for datatype in ("FP64", "FP16", "INT64", "UINT8"):
            body = request(tensor("any name", datatype, data, [2, 3]))
            assert numbers.read(body, {}).rows == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)]


def test_what_is_missing_is_null_or_nan_or_left_out(dialect, numbers):
    body = request(tensor("area", "FP64", [1.0]), tensor("rooms", "INT64", [2]))
    assert dialect.read(body, {}).rows == [(1.0, 2, None, None, None, None, None)]
    body = request(*columns(sold=("FP64", None), district=("BYTES", ""), garage=("BOOL", None)))
    assert dialect.read(body, {}).rows == [(1.5, 3, None, 2.5, None, None, "2008-06-01")]
    body = request(tensor("x", "FP64", [1, 2, float("nan")], [1, 3]))
    assert numbers.read(body, {}).rows == [(1.0, 2.0, None)]


def test_whole_numbers_may_come_as_floats_and_numbers_as_ints(dialect):
    body = request(*columns(area=("INT64", 2), rooms=("FP64", 3.0)))
    assert dialect.read(body, {}).rows[0][:2] == (2.0, 3)


def test_what_mlservers_codecs_send_is_understood(dialect, numbers):
    """As MLServer 1.7.1 encodes a DataFrame, an array, and a column of mixed values."""
    body = (
        b'{"parameters":{"content_type":"pd"},"inputs":['
        b'{"name":"area","shape":[2,1],"datatype":"FP64","data":[3.0,1.0]},'
        b'{"name":"rooms","shape":[2,1],"datatype":"INT64","data":[1,2]},'
        b'{"name":"sold","shape":[2,1],"datatype":"FP64","data":[3.0,null]},'
        b'{"name":"district","shape":[2,1],"datatype":"BYTES",'
        b'"parameters":{"content_type":"str"},"data":["North","South"]}]}'
    )
    assert [row[:3] + row[4:5] for row in dialect.read(body, {}).rows] == [
        (3.0, 1, 3, "North"),
        (1.0, 2, None, "South"),
    ]
    body = (
        b'{"parameters":{"content_type":"np"},"inputs":[{"name":"input-1","shape":[2,3],'
        b'"datatype":"FP64","parameters":{"content_type":"np"},"data":[1.0,2.0,3.0,4,5,null]}]}'
    )
    assert numbers.read(body, {}).rows == [(1.0, 2.0, 3.0), (4.0, 5.0, None)]
    mixed = tensor("district", "BYTES", ['"North"', "null"], [2, 1], content_type="pd_json")
    body = request(tensor("area", "FP64", [1, 2]), tensor("rooms", "INT64", [1, 2]), mixed)
    assert [row[4] for row in dialect.read(body, {}).rows] == ["North", None]


@pytest.mark.parametrize(
    ("tensors", "pointer", "said"),
    [
        ([], "#/inputs", "at least one"),
        (columns(area=("FP64", "big")), "#/inputs/0/data/0", "float"),
        (columns(area=("BYTES", "1")), "#/inputs/0/datatype", "BYTES cannot be 'area'"),
        (columns(area=("FP128", 1)), "#/inputs/0/datatype", "FP128"),
        (columns(area=("FP64", None)), "#/inputs/0/data/0", "null"),
        (columns(rooms=("FP64", 3.5)), "#/inputs/1/data/0", "int"),
        (columns(rooms=("INT64", 2**31)), "#/inputs/1/data/0", "2147483647"),
        (columns(built=("BYTES", "soon")), "#/inputs/6/data/0", "ISO 8601"),
        (columns(garage=("UINT8", 2)), "#/inputs/5/data/0", "bool"),
        (columns(aera=("FP64", 1)), "#/inputs/7/name", "no column 'aera'"),
        (columns(area=(None, 1)), "#", "no column 'area'"),
        ([*columns(), tensor("area", "FP64", [1])], "#", "two columns 'area'"),
        ([tensor("area", "FP64", [1, 2], [3])], "#", "rooms"),
        ([*columns(sold=("INT64", 1))[:2], tensor("sold", "INT64", [1, 2])], "#/inputs/2/shape", "[1]"),
        ([tensor("area", "FP64", [1, 2], [1]), tensor("rooms", "INT8", [1])], "#/inputs/0/data", "1 values"),
        ([tensor("area", "FP64", [[1], 2], [2]), tensor("rooms", "INT8", [1, 1])], "#/inputs/0/data", "each"),
        ([tensor("area", "FP64", [1], [1, 1, 1]), tensor("rooms", "INT8", [1])], "#/inputs/0/shape", "[1, 1]"),
        ([{"name": "area", "shape": [1], "datatype": "FP64"}, *columns()[1:]], "#/inputs/0", "no data"),
        ([tensor("area", "FP64", [1], [-1])], "#/inputs/0/shape/0", ">= 0"),
        ([{"name": "area"}], "#/inputs/0", "shape"),
        ([tensor(name, kind, [], [0]) for name, (kind, _) in JSON_ROW.items()], None, "at least one row"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place(kit, dialect, tensors, pointer, said):
    found = kit.problem(dialect, request(*tensors))
    assert found.status == 422
    assert kit.place(found) == pointer
    assert said in found.as_json()["error"]


def test_a_value_in_a_matrix_is_named_with_its_place(kit, numbers):
    for data, pointer in (([1, 2, 3, "x", 5, 6], "3"), ([[1, 2, 3], ["x", 5, 6]], "1/0")):
        found = kit.problem(numbers, request(tensor("x", "FP64", data, [2, 3])))
        assert kit.place(found) == f"#/inputs/0/data/{pointer}"
    found = kit.problem(numbers, request(tensor("x", "BOOL", [True] * 3, [1, 3])))
    assert kit.place(found) == "#/inputs/0/datatype"


def test_more_rows_than_the_limit_are_refused(kit):
    dialect = kit.dialect_of("inference_v2", kit.NUMBERS, most_rows=2)
    for shape in ([3, 3], [3], [3, 1]):
        tensors = [
            tensor(name, "FP64", [1] * 9, shape) for name in "abc"[: 1 + 2 * (shape != [3, 3])]
        ]
        assert kit.problem(dialect, request(*tensors)).status == 413


def test_what_is_no_json_is_a_bad_request(kit, dialect):
    for body in (b"", b"{", b"\xff", b'{"inputs": [{"name": "\xff"}]}', b"[" * 99_999):
        assert kit.problem(dialect, body).status == 400


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"1e3", b"99999", b"1" * 30])
def test_a_header_length_that_is_none_is_a_bad_request(kit, dialect, length):
    assert kit.problem(dialect, request(*columns()), {LENGTH: length}).status == 400


def packed(inputs, **more):
    """Return a request's body and headers as tritonclient makes them, binary where it can be."""
    made = []
    for name, datatype, array in inputs:
        made.append(triton.InferInput(name, list(array.shape), datatype))
        made[-1].set_data_from_numpy(array)
    body, length = triton.InferenceServerClient.generate_request_body(made, **more)
    return body, {} if length is None else {LENGTH: str(length).encode()}


BINARY_ROW = [
    ("area", "FP64", np.array([1.5, 2.5])),
    ("rooms", "INT8", np.array([3, -4], np.int8)),
    ("sold", "UINT64", np.array([9007199254740993, 0], np.uint64)),
    (FLOOR, "FP16", np.array([2.5, np.inf], np.float16)),
    ("district", "BYTES", np.array(["Nörth", ""], object)),
    ("garage", "BOOL", np.array([True, False])),
    ("built", "BYTES", np.array([b"2008-06-01", b""], object)),
]


def test_binary_tensors_as_tritonclient_sends_them(dialect):
    for shape in ([2], [2, 1]):
        body, headers = packed([(n, kind, a.reshape(shape)) for n, kind, a in BINARY_ROW])
        assert dialect.read(body, headers).rows == [
            (1.5, 3, 9007199254740993, 2.5, "Nörth", True, "2008-06-01"),
            (2.5, -4, 0, None, None, False, None),
        ]


def test_a_binary_matrix_of_every_datatype(numbers):
    for kind, dtype in (
        ("FP16", "f2"),
        ("FP32", "f4"),
        ("FP64", "f8"),
        ("INT16", "i2"),
        ("UINT32", "u4"),
    ):
        body, headers = packed([("x", kind, np.arange(6).reshape(2, 3).astype(dtype))])
        assert numbers.read(body, headers).rows == [(0.0, 1.0, 2.0), (3.0, 4.0, 5.0)]


def test_a_binary_nan_is_no_value_and_only_where_there_may_be_none(kit, numbers):
    body, headers = packed([("x", "FP64", np.array([[1, 2, np.nan]]))])
    assert numbers.read(body, headers).rows == [(1.0, 2.0, None)]
    body, headers = packed([("x", "FP64", np.array([[1, np.nan, 3]]))])
    assert kit.place(kit.problem(numbers, body, headers)) == "#/inputs/0/data/1"


@pytest.mark.parametrize(
    ("spoil", "pointer"),
    [
        (lambda head, tail: (head, tail[:-1]), "#/inputs/6/parameters/binary_data_size"),
        (lambda head, tail: (head, tail + b"x"), None),
        (lambda head, tail: (head.replace(b'"shape":[2]', b'"shape":[3]'), tail), "#/inputs/0/parameters/binary_data_size"),
        (lambda head, tail: (head, tail.replace(b"N\xc3\xb6", b"N\xff\xff")), "#/inputs/4/data/0"),
        (lambda head, tail: (head, tail.replace(b"\x06\0\0\0", b"\xff\xff\xff\xff")), "#/inputs/4/parameters/binary_data_size"),
        (lambda head, tail: (head, tail.replace(b"\x06\0\0\0", b"\x01\0\0\0")), "#/inputs/4/parameters/binary_data_size"),
        (lambda head, tail: (head.replace(b'"binary_data_size":16', b'"binary_data_size":-1'), tail), "#/inputs/0/parameters/binary_data_size"),
    ],
)  # fmt: skip
def test_binary_data_that_is_not_what_is_said_is_refused(kit, dialect, spoil, pointer):
    body, headers = packed(BINARY_ROW)
    head, tail = spoil(body[: int(headers[LENGTH])], body[int(headers[LENGTH]) :])
    found = kit.problem(dialect, head + tail, {LENGTH: str(len(head)).encode()})
    assert found.status in (400, 422)
    assert kit.place(found) == pointer


def answer(dialect, body, headers, values, shares, kit):
    said = kit.said_of(values, shares)
    told, own = dialect.write(dialect.read(body, headers), said)
    own = dict(own)
    length = own.get(LENGTH)
    result = triton.InferenceServerClient.parse_response_body(
        told, header_length=None if length is None else int(length)
    )
    return said, result, own


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("classes", "values", "datatype"),
    [
        (None, [1.5, 2], "FP64"),
        ([False, True], [True, False], "BOOL"),
        ([1, 2], [2, 1], "INT64"),
        (["a", "ö"], ["ö", "a"], "BYTES"),
        ([0.5, 1.5], [1.5, 0.5], "FP64"),
        (["a", 1], [1, "a"], "BYTES"),
    ],
)
def test_answers_are_tensors_of_the_labels_type(kit, binary, classes, values, datatype):
    dialect = kit.dialect_of("inference_v2", kit.NUMBERS, classes)
    shares = None if classes is None else [[0.25, 0.75], [0.75, 0.25]]
    body, headers = packed(
        [("x", "FP64", np.ones((2, 3)))],
        request_id="mine",
        outputs=None if binary else [triton.InferRequestedOutput(name, binary_data=False) for name in
                                     ("prediction", "probabilities", "id")[:: 1 if classes else 2]],
    )  # fmt: skip
    said, result, own = answer(dialect, body, headers, values, shares, kit)
    assert (LENGTH in own) == binary
    told = result.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == ("prices", "7", "mine")
    assert told["parameters"] == {"variant": "blue"}
    assert result.get_output("prediction")["datatype"] == datatype
    got = result.as_numpy("prediction").tolist()
    texts = [v.decode() if isinstance(v, bytes) else v for v in got]
    assert texts == ([str(v) for v in values] if datatype == "BYTES" else values)
    ids = [v.decode() if isinstance(v, bytes) else v for v in result.as_numpy("id").tolist()]
    assert ids == list(said.ids)
    if classes is not None:
        assert result.as_numpy("probabilities").tolist() == shares


def test_without_an_id_the_answer_has_that_of_its_first_row(kit, numbers):
    said, result, _ = answer(
        numbers, request(tensor("x", "FP64", [1, 2, 3], [1, 3])), {}, [1.5], None, kit
    )
    assert result.get_response()["id"] == said.ids[0]


def test_only_the_outputs_that_are_asked_for_are_told_also_by_mlservers_names(kit):
    dialect = kit.dialect_of("inference_v2", kit.NUMBERS, [0, 1])
    body = request(
        tensor("x", "FP64", [1, 2, 3], [1, 3]),
        outputs=[
            {"name": "predict_proba"},
            {"name": "predict", "parameters": {"binary_data": True}},
        ],
    )
    _, result, _ = answer(dialect, body, {}, [1], [[0.25, 0.75]], kit)
    assert [output["name"] for output in result.get_response()["outputs"]] == [
        "predict_proba",
        "predict",
    ]
    assert result.as_numpy("predict").tolist() == [1]
    found = kit.problem(
        dialect, request(tensor("x", "FP64", [1, 2, 3], [1, 3]), outputs=[{"name": "class"}])
    )
    assert kit.place(found) == "#/outputs/0/name"
