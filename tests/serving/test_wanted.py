"""What a server should hold: the rules about it, and the file in which it stands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from charkha.errors import Damaged, UserError
from charkha.models.registries.port import ModelVersion
from charkha.serving.changes import (
    MOST,
    Impossible,
    check,
    wanted_variant,
    with_shares,
    with_variant,
    with_versions,
    without,
)
from charkha.serving.wanted import (
    Asked,
    Files,
    Report,
    Wanted,
    WantedVariant,
    lanes,
    read,
    read_asked,
    write,
)


def variant(name, version=2, share=1.0, **how):
    return WantedVariant(name=name, version=version, package="a" * 64, share=share, **how)


TWO = (variant("champion", share=90.0, follows="champion"), variant("challenger", 3, 10.0))


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("champion", Asked(name="champion", which="champion")),
        ("champion=90", Asked(name="champion", which="champion", share=90.0)),
        ("3=10", Asked(name="v3", which="3", share=10.0)),
        ("canary:4=2.5", Asked(name="canary", which="4", share=2.5)),
        ("canary : challenger = 0", Asked(name="canary", which="challenger", share=0.0)),
    ],
)
def test_a_variant_of_the_command_line_is_read(text, asked):
    assert read_asked(text) == asked


def test_a_shadow_of_the_command_line_has_no_share():
    assert read_asked("next:4", shadow=True) == Asked(
        name="next", which="4", share=0.0, shadow=True
    )
    with pytest.raises(UserError, match="a shadow has no share") as refused:
        read_asked("next:4=5", shadow=True)
    assert refused.value.fix == "--shadow next:4"


@pytest.mark.parametrize(
    "text", ["", "=5", "a=b", "a=-1", "a=nan", "a=inf", "a b", ":3", "a:b:c", "é"]
)
def test_what_is_no_variant_is_refused_with_an_example(text):
    with pytest.raises(UserError) as refused:
        read_asked(text)
    assert refused.value.fix.startswith("write ")


def test_what_is_written_is_read(tmp_path):
    files = Files(tmp_path / "serving", "prices")
    wanted = Wanted(
        model="prices",
        server="s1",
        generation=7,
        variants=TWO,
        coming=(*TWO, variant("next", shadow=True, share=0.0)),
        asked=(read_asked("champion=90"),),
    )
    assert read(files.wanted, Wanted) is None
    write(files.wanted, wanted)
    assert read(files.wanted, Wanted) == wanted
    assert json.loads(files.wanted.read_text())["variants"][1]["share"] == 10


@pytest.mark.parametrize("text", ["", "{", '{"generation": 1}', '{"generation": "x"}', "\xff"])
def test_what_was_not_written_is_damaged(tmp_path, text):
    path = tmp_path / "prices.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Damaged, match=r"prices\.json cannot be read"):
        read(path, Wanted)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    files = Files(tmp_path, "prices")
    wanted = Wanted(model="prices", server="s", generation=1, variants=TWO)
    write(files.wanted, wanted)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(files.wanted, Wanted(model="prices", server="s", generation=2, variants=TWO))
    assert read(files.wanted, Wanted) == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["prices.json"]


def test_a_writer_that_is_killed_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    code = """
import sys
from pathlib import Path
from charkha.serving.wanted import Files, Wanted, WantedVariant, write
files = Files(Path(sys.argv[1]), "prices")
print("begun", flush=True)
for n in range(10**6):
    variants = tuple(WantedVariant(name=f"v{i}", version=n, package="a" * 64) for i in range(9))
    write(files.wanted, Wanted(model="prices", server="s", generation=n, variants=variants))
"""
    files = Files(tmp_path, "prices")
    for pause in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
        )
        writer.stdout.readline()
        while pause and not files.wanted.exists():
            pass
        for _ in range(60 * pause):
            found = read(files.wanted, Wanted)
            assert found is None or {v.version for v in found.variants} == {found.generation}
        writer.kill()
        writer.wait()
        writer.stdout.close()
        found = read(files.wanted, Wanted)
        assert found is None or {v.version for v in found.variants} == {found.generation}
    files.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["prices.json"]


def test_files_of_models_with_similar_names_do_not_meet():
    names = ["a", "a.workers", "a.lock", "a.json", "[a]*"]
    paths = [
        path
        for name in names
        for files in [Files(Path("/state"), name)]
        for path in (files.wanted, files.lock, files.report("s", 0))
    ]
    assert len(set(paths)) == len(paths)


def test_a_report_is_read_too(tmp_path):
    report = Report(worker=0, pid=1, generation=2, failed=None, variants=(), leaving=0, at=1.5)
    write(tmp_path / "0.json", report)
    assert read(tmp_path / "0.json", Report) == report


def test_shares_are_set_for_all_that_answer():
    changed = with_shares(
        (*TWO, variant("next", shadow=True, share=0.0)), {"champion": 1, "challenger": 0}
    )
    assert [v.share for v in changed] == [1, 0, 0]
    assert lanes(changed[:2]) == lanes(TWO)


@pytest.mark.parametrize(
    ("shares", "field", "says"),
    [
        ({"champion": 1, "other": 1}, "other", "no variant is called 'other'"),
        ({"champion": 1}, "challenger", "'challenger' has no share"),
        ({"champion": 1, "challenger": 1, "next": 1}, "next", "'next' is a shadow"),
        ({"champion": -1, "challenger": 1}, "share", "cannot have the share -1"),
        ({"champion": float("nan"), "challenger": 1}, "share", "cannot have the share nan"),
        ({"champion": 0, "challenger": 0}, None, "none would have a share"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares, field, says):
    variants = (*TWO, variant("next", shadow=True, share=0.0))
    with pytest.raises(Impossible, match=says) as refused:
        with_shares(variants, shares)
    assert refused.value.field == field


def test_a_variant_comes_and_goes():
    more = with_variant(TWO, variant("next", 4))
    assert [v.name for v in more] == ["champion", "challenger", "next"]
    assert without(more, "next") == TWO


def test_a_name_is_taken_once():
    with pytest.raises(Impossible, match="there is a variant 'champion' already") as refused:
        with_variant(TWO, variant("champion", 4))
    assert refused.value.kind == "conflict"


def test_somebody_has_to_answer():
    with pytest.raises(Impossible, match="no variant would answer"):
        without(TWO[:1], "champion")
    with pytest.raises(Impossible, match="no variant would answer"):
        check((variant("a", shadow=True, share=0.0),))
    with pytest.raises(Impossible, match="no variant is called 'other'") as refused:
        without(TWO, "other")
    assert refused.value.kind == "unknown"


def test_there_are_not_too_many():
    full = tuple(variant(f"v{n}") for n in range(MOST))
    with pytest.raises(Impossible, match="at most 16"):
        with_variant(full, variant("more"))


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-a", "a" * 64, "é", "a\n"])
def test_a_name_is_a_name(name):
    with pytest.raises(Impossible, match="cannot be called"):
        check((variant(name),))


def registered(version, *aliases, package="b" * 64):
    return ModelVersion("prices", version, package, aliases, {}, "", 0.0)


def test_a_variant_of_an_alias_follows_it_and_one_of_a_number_does_not():
    assert wanted_variant(read_asked("champion"), registered(5)).follows == "champion"
    assert wanted_variant(read_asked("5"), registered(5)).follows is None


def test_a_version_without_a_package_cannot_be_held():
    with pytest.raises(Impossible, match="registered without Charkha") as refused:
        wanted_variant(read_asked("5"), registered(5, package=None))
    assert refused.value.field == "version"


def test_a_variant_that_moves_keeps_its_name_and_its_share():
    moved = with_versions(TWO, {"champion": registered(9)})
    assert moved[0] == WantedVariant(
        name="champion", version=9, package="b" * 64, share=90.0, follows="champion"
    )
    assert moved[1] == TWO[1]
