"""What steps returned, as ordinary files in a folder, and from those files back into the blobs.

Two folders for each step. `STEP/` has the values as their codecs wrote them, and `outputs.json`
with their digests; the same values give the same bytes, so whoever hashes the folder sees that
nothing has changed. `STEP.made/` says what they were made of: keys, what was observed, and what the
step logged through MLflow. Beside them `STEP.metrics.json`, where a step returns numbers by name.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from charkha.data.blobs.local import refused
from charkha.errors import Damaged, NotFound
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.cache import Entry
from charkha.pipeline.observe import Observed

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore
    from charkha.pipeline.graph import Node
    from charkha.pipeline.reasons import Parts
    from charkha.pipeline.units import Outputs

VALUES, MADE = "outputs.json", "made.json"
_SUFFIXES = {"bytes": "bin", "pickle": "pkl"}  # of a codec, where it is not the codec's own name
_SCORES = ("metrics", "verdict")  # outputs that are numbers by name, whatever their annotation says
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a step returned, and what it was made of."""

    function: str  # module:qualname
    fan_out: bool
    entries: tuple[Entry, ...]  # one, or one for each element of a fan-out
    parts: tuple[Parts, ...]  # of each entry's key
    reusable: bool  # whether all that the step depended on is known

    def outputs(self, names: Iterable[str]) -> Outputs:
        """Return the artifacts of these outputs, as steps that take them need them."""
        if not self.fan_out:
            return dict(self.entries[0].outputs)
        return {name: [entry.outputs[name] for entry in self.entries] for name in names}


class OutputFolder:
    """A folder with what the steps of one pipeline returned."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self.root, self._blobs = root, blobs

    def values(self, step: str) -> Path:
        """Return the folder of a step's values."""
        return self.root / folder_name(step)

    def made(self, step: str) -> Path:
        """Return the folder of what they were made of."""
        return self.root / f"{folder_name(step)}.made"

    def metrics(self, step: str) -> Path:
        """Return the file of a step's numbers."""
        return self.root / f"{folder_name(step)}.metrics.json"

    def write(self, step: str, made: Made) -> bool:
        """Lay the step's outputs out as files; say whether any of it is new.

        Raises:
            Damaged: a blob's bytes are not those that were stored.
            Unavailable: the files could not be written.
        """
        values = dict(self._files("outputs", made))
        captured = dict(self._files("captured", made))
        told = {
            "outputs": [_as_json(entry.outputs) for entry in made.entries],
            "fan_out": made.fan_out,
            "files": values,
        }
        made_of = {
            "function": made.function,
            "reusable": made.reusable,
            "steps": [
                {
                    "step": entry.step,
                    "key": entry.key,
                    "parts": parts,
                    "captured": _as_json(entry.captured),
                    "observed": entry.observed.as_json(),
                }
                for entry, parts in zip(made.entries, made.parts, strict=True)
            ],
            "files": captured,
        }
        changed = [
            self._lay(self.values(step), values, VALUES, told),
            self._lay(self.made(step), captured, MADE, made_of),
        ]
        return any(changed)

    def read(self, step: str) -> Made | None:
        """Return what lies there of a step; None where it is not there, or not whole."""
        try:
            told = json.loads((self.values(step) / VALUES).read_bytes())
            made_of = json.loads((self.made(step) / MADE).read_bytes())
            entries = [
                Entry(
                    key=kept["key"],
                    step=kept["step"],
                    run="",
                    outputs=_from_json(outputs),
                    captured=_from_json(kept["captured"]),
                    observed=Observed.from_json(kept["observed"]),
                )
                for outputs, kept in zip(told["outputs"], made_of["steps"], strict=True)
            ]
            parts = tuple(kept["parts"] for kept in made_of["steps"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Made(
            function=made_of["function"],
            fan_out=bool(told["fan_out"]),
            entries=tuple(entries),
            parts=parts,
            reusable=bool(made_of["reusable"]),
        )

    def bring_in(self, step: str, *, captured: bool = False) -> None:
        """Put a step's bytes into the blobs where those lack them, each held against its digest.

        Args:
            step: its name.
            captured: what it logged through MLflow as well.

        Raises:
            Damaged: a file is gone, or holds other bytes than the step returned.
        """
        self._take(self.values(step), VALUES)
        if captured:
            self._take(self.made(step), MADE)

    def write_metrics(self, step: str, numbers: Mapping[str, object]) -> None:
        """Write a step's numbers for `dvc metrics`."""
        file = self.metrics(step)
        text = json.dumps(numbers, indent=2) + "\n"
        with suppress(FileNotFoundError):
            if file.read_text() == text:
                return
        try:
            partial = file.with_name(f".{file.name}.partial")
            partial.write_text(text)
            partial.replace(file)
        except OSError as e:
            raise refused(e, str(file)) from e

    def _files(self, group: str, made: Made) -> Iterator[tuple[str, str]]:
        """Yield path and digest of every file of the outputs, or of what was captured."""
        for i, entry in enumerate(made.entries):
            above = f"{i}/" if made.fan_out else ""
            for j, (name, artifact) in enumerate(sorted(getattr(entry, group).items())):
                fit = name if not _UNFIT.search(name) and name != "outputs" else f"output-{j}"
                yield from self._files_of(artifact, f"{above}{fit}")

    def _files_of(self, artifact: Artifact, place: str) -> Iterator[tuple[str, str]]:
        match artifact.codec:
            case "file":
                yield f"{place}/{artifact.name or 'file'}", artifact.digest
            case "dir":
                yield f"{place}.dir.json", artifact.digest
                for name, kept in self._json(artifact.digest)["files"].items():
                    yield f"{place}/{name}", kept["digest"]
            case "tree":
                yield f"{place}.tree.json", artifact.digest
                for i, leaf in enumerate(_leaves(self._json(artifact.digest))):
                    yield from self._files_of(leaf, f"{place}/{i}")
            case codec:
                yield f"{place}.{_SUFFIXES.get(codec, codec)}", artifact.digest

    def _lay(self, folder: Path, files: Mapping[str, str], name: str, told: object) -> bool:
        """Make the folder what these files and this text say; False where it is that already."""
        text = json.dumps(told, indent=1, sort_keys=True) + "\n"
        if _is_as(folder, files, name, text):
            return False
        partial = folder.with_name(f".{folder.name}.partial")  # DVC lets one stage at it at a time
        shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
        try:
            for path, digest in files.items():
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                self._copy(digest, partial / path)
            partial.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        except OSError as e:
            raise refused(e, str(folder)) from e
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return True

    def _copy(self, digest: str, path: Path) -> None:
        found = sha256()
        try:
            with self._blobs.open(digest) as blob, path.open("wb") as copy:
                while chunk := blob.read(_CHUNK):
                    found.update(chunk)
                    copy.write(chunk)
        except NotFound as e:
            raise Damaged(f"the blob {digest[:12]}… is gone", key=digest) from e
        if found.hexdigest() != digest:
            raise Damaged(f"the blob {digest[:12]}… holds other bytes than stored", key=digest)

    def _take(self, folder: Path, name: str) -> None:
        try:
            files = json.loads((folder / name).read_bytes())["files"]
        except (OSError, ValueError, KeyError) as e:
            raise _missing(folder / name) from e
        for path, digest in files.items():
            if self._blobs.size(digest) is not None:
                continue
            try:
                found = _sha256(folder / path)  # first: other bytes may be a blob of another step
            except FileNotFoundError as e:
                raise _missing(folder / path) from e
            if found != digest:
                raise Damaged(
                    f"{folder.name}/{path} holds other bytes than the step returned",
                    key=digest,
                    fix=f"dvc checkout --force {folder}",
                )
            with (folder / path).open("rb") as file:
                self._blobs.put(file)

    def _json(self, digest: str) -> Any:
        try:
            with self._blobs.open(digest) as blob:
                return json.load(blob)
        except NotFound as e:
            raise Damaged(f"the blob {digest[:12]}… is gone", key=digest) from e


def folder_name(step: str) -> str:
    """Return a step's name as a file system and DVC take it."""
    if not _UNFIT.search(step):
        return step
    return f"{_UNFIT.sub('-', step).strip('-')}-{sha256(step.encode()).hexdigest()[:6]}"


def numbered(node: Node, function: Callable[..., object] | None) -> tuple[str, ...]:
    """Return the outputs of a step that are numbers by name: `-> dict[str, float]`, or `metrics`."""
    try:
        declared = get_type_hints(function).get("return") if function else None
    except (NameError, TypeError, AttributeError):  # an annotation for the type checker alone
        declared = None
    kinds = [declared] if len(node.outputs) == 1 else list(get_args(declared))
    if len(kinds) != len(node.outputs):
        kinds = [None] * len(node.outputs)
    return tuple(
        name
        for name, kind in zip(node.outputs, kinds, strict=True)
        if name in _SCORES or _is_numbers(kind)
    )


def numbers(value: object) -> dict[str, Any]:
    """Return the finite numbers of a dict, and of the dicts in it."""
    found: dict[str, Any] = {}
    for name, inner in value.items() if isinstance(value, Mapping) else ():
        if isinstance(inner, Mapping):
            if below := numbers(inner):
                found[str(name)] = below
        elif type(inner) in (int, float) and math.isfinite(inner):
            found[str(name)] = inner
    return found


def _is_numbers(kind: object) -> bool:
    if get_origin(kind) is not dict:
        return False
    name, inner = get_args(kind)
    return name is str and {inner, *get_args(inner)} & {int, float} != set()


def _leaves(node: dict[str, Any]) -> Iterator[Artifact]:
    """Yield the artifacts in a tree, as `charkha.pipeline.artifacts` writes it."""
    if "artifact" in node:
        yield Artifact.from_json(node["artifact"])
    for inner in node.get("dict", {}).values():
        yield from _leaves(inner)
    for inner in (*node.get("list", ()), *node.get("tuple", ())):
        yield from _leaves(inner)


def _is_as(folder: Path, files: Mapping[str, str], name: str, text: str) -> bool:
    try:
        if (folder / name).read_text() != text:
            return False
        found = {path.relative_to(folder).as_posix() for path in _below(folder)}
        return found == {*files, name} and all(
            _sha256(folder / path) == digest for path, digest in files.items()
        )
    except OSError:
        return False


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _missing(path: Path) -> Damaged:
    return Damaged(f"{path} is not there, or torn", key=path.name, fix="dvc pull, or dvc repro")


def _as_json(artifacts: Mapping[str, Artifact]) -> dict[str, object]:
    return {name: artifact.as_json() for name, artifact in artifacts.items()}


def _from_json(kept: Mapping[str, Any]) -> dict[str, Artifact]:
    return {name: Artifact.from_json(artifact) for name, artifact in kept.items()}
