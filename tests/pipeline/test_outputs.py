"""What steps returned becomes files and artifacts again, the same bytes for the same values."""

import io
import json

import numpy as np
import pytest

from charkha.data.blobs.memory import MemoryBlobs
from charkha.errors import Damaged
from charkha.pipeline.artifacts import Artifacts
from charkha.pipeline.cache import Entry
from charkha.pipeline.graph import Node
from charkha.pipeline.outputs import Made, OutputFolder, folder_name, numbered, numbers
from charkha.pipeline.values import Dir, File


@pytest.fixture
def places(tmp_path):
    """Return blobs, and a folder of outputs, on one machine and on another one."""
    return [(blobs := MemoryBlobs(), OutputFolder(tmp_path / "outputs", blobs)) for _ in range(2)]


def kept(blobs, folder, /, **values):
    artifacts = Artifacts(blobs, folder)
    return {name: artifacts.save(value) for name, value in values.items()}


def made(*outputs, fan_out=False, captured=None):
    entries = tuple(
        Entry(
            key="k", step=f"s[{i}]" if fan_out else "s", run="", outputs=o, captured=captured or {}
        )
        for i, o in enumerate(outputs)
    )
    parts = tuple({"parameters": {"by": "2"}} for _ in outputs)
    return Made(function="m:s", fan_out=fan_out, entries=entries, parts=parts, reusable=True)


def test_every_kind_of_value_is_found_again_where_the_blobs_have_nothing(places, tmp_path):
    (here, folder), (there, other) = places
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "deep" / "a.txt").write_text("a")
    values = {
        "table": {"rows": [1, 2.5], "names": ("a", None)},
        "array": np.arange(3),
        "tree": {"arrays": [np.arange(2), (np.arange(4), "x")]},
        "file": File(str(tmp_path / "plots" / "deep" / "a.txt")),
        "folder": Dir(str(tmp_path / "plots")),
        "raw": b"\x00\x01",
        "outputs": 1,
        "with a space/": 2,
    }
    outputs = kept(here, tmp_path / "files", **values)
    assert folder.write("s", made(outputs, captured={"mlflow": outputs["folder"]}))

    other.bring_in("s", captured=True)
    found = other.read("s")
    assert found.outputs(values) == outputs
    assert found.entries[0].captured == {"mlflow": outputs["folder"]}
    artifacts = Artifacts(there, tmp_path / "others")
    loaded = {name: artifacts.load(artifact) for name, artifact in found.outputs(values).items()}
    assert loaded["table"] == values["table"]
    assert loaded["array"].tolist() == [0, 1, 2]
    assert loaded["tree"]["arrays"][1][0].tolist() == [0, 1, 2, 3]
    assert loaded["file"].read_text() == "a"
    assert (loaded["folder"].path / "deep" / "a.txt").read_text() == "a"
    assert (loaded["raw"], loaded["outputs"], loaded["with a space/"]) == (b"\x00\x01", 1, 2)
    assert json.loads((folder.values("s") / "table.json").read_text())["rows"] == [1, 2.5]


def test_the_elements_of_a_fan_out_have_folders_and_an_empty_one_has_none(places, tmp_path):
    (here, folder), (_, other) = places
    one, two = (kept(here, tmp_path, result=n) for n in (1, 2))
    folder.write("s", made(one, two, fan_out=True))
    assert (folder.values("s") / "1" / "result.json").read_text() == "2"
    assert other.read("s").outputs(["result"]) == {"result": [one["result"], two["result"]]}
    folder.write("none", made(fan_out=True))
    assert other.read("none").outputs(["result"]) == {"result": []}


def test_the_same_again_is_no_news_and_anything_else_replaces_all_that_was_there(places, tmp_path):
    (here, folder), _ = places
    first = made(kept(here, tmp_path, low=1, high=2))
    assert folder.write("s", first)
    assert not folder.write("s", first)
    assert folder.write("s", made(kept(here, tmp_path, result=3)))
    assert {path.name for path in folder.values("s").iterdir()} == {"outputs.json", "result.json"}
    (folder.values("s") / "result.json").write_text("4")
    assert folder.write("s", made(kept(here, tmp_path, result=3)))
    assert (folder.values("s") / "result.json").read_text() == "3"


def test_bytes_that_are_not_those_that_were_returned_are_refused(places, tmp_path):
    (here, folder), (there, other) = places
    outputs = kept(here, tmp_path, result=3)
    folder.write("s", made(outputs))
    (folder.values("s") / "result.json").write_text("4")
    with pytest.raises(Damaged, match="other bytes"):
        other.bring_in("s")
    assert there.size(outputs["result"].digest) is None
    (folder.values("s") / "result.json").unlink()
    with pytest.raises(Damaged, match="not there"):
        other.bring_in("s")


def test_other_bytes_that_are_somebodys_blob_stay_in_the_store(places, tmp_path):
    (here, folder), (there, other) = places
    folder.write("s", made(kept(here, tmp_path, result=3)))
    (folder.values("s") / "result.json").write_text("4")
    neighbour = there.put(io.BytesIO(b"4"))
    with pytest.raises(Damaged, match="other bytes"):
        other.bring_in("s")
    assert there.size(neighbour) == 1


def test_a_torn_or_foreign_folder_counts_as_nothing(places, tmp_path):
    (here, folder), _ = places
    folder.write("s", made(kept(here, tmp_path, result=3)))
    file = folder.made("s") / "made.json"
    for text in ("", "[]", "{}", '{"steps": [1]}', file.read_text()[:-20]):
        file.write_text(text)
        assert folder.read("s") is None


def test_names_that_dvc_or_a_file_system_would_refuse_are_made_fit_and_stay_apart():
    assert folder_name("fit-2") == "fit-2"
    made = {folder_name(name) for name in ("a b", "a/b", "a.b", "../..")}
    assert len(made) == 4
    assert all(name.replace("-", "").isalnum() for name in made)


def test_numbers_by_name_are_told_by_the_annotation_or_the_outputs_name():
    def scores(n) -> dict[str, float]: ...
    def either(n) -> dict[str, int | float]: ...
    def words(n) -> dict[str, str]: ...
    def pair(n) -> tuple[dict[str, float], str]: ...
    def bare(n): ...

    def of(function, *outputs):
        node = Node(name="s", function="m:s", arguments={}, outputs=outputs or ("result",))
        return numbered(node, function)

    assert (of(scores), of(either), of(words), of(bare)) == (("result",), ("result",), (), ())
    assert of(pair, "low", "text") == ("low",)
    assert of(bare, "metrics", "other") == ("metrics",)
    assert numbers({"a": 1, "b": {"c": 0.5, "d": "x"}, "e": float("nan"), "f": True, "g": {}}) == {
        "a": 1,
        "b": {"c": 0.5},
    }
