"""What a step returned, as an artifact: typed, encoded by a codec, kept under its content.

Which codec a value gets is decided by the names of its type, so that no library has to be imported
to find out that a value is none of its own. Containers whose leaves are no JSON are kept as a tree:
JSON whose leaves are artifacts themselves.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from charkha import plugins
from charkha.data.blobs.port import BlobStore
from charkha.errors import Damaged, NotFound, UserError
from charkha.pipeline.codecs.json import is_json, unsupported
from charkha.pipeline.values import Dir, File

if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

_CODECS = {  # top-level package and class of a type, or of one that it inherits from
    "pandas.DataFrame": "parquet",
    "pandas.Series": "parquet",
    "polars.DataFrame": "parquet",
    "pyarrow.Table": "parquet",
    "numpy.ndarray": "npy",
    "sklearn.BaseEstimator": "skops",
    "builtins.bytes": "bytes",
}
_own_codecs: dict[str, Codec] = {}
_own_types: dict[type, str] = {}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A stored value: where its bytes are and how they are read."""

    digest: str  # sha-256 of the bytes
    codec: str
    size: int  # bytes
    type: str  # module:qualname
    name: str | None = None  # of a file or folder

    @property
    def identity(self) -> str:
        """What a step that takes it depends on: the same bytes read otherwise are another value."""
        named = f":{self.name}" if self.name else ""
        return f"{self.codec}:{self.digest}{named}"

    def as_json(self) -> dict[str, object]:
        return dict(vars(self))

    @staticmethod
    def from_json(kept: dict[str, object]) -> Artifact:
        return Artifact(**kept)  # type: ignore[arg-type]

    @staticmethod
    def from_identity(identity: str) -> Artifact:
        """Return enough of an artifact to read its bytes again."""
        codec, digest, *named = identity.split(":", 2)
        return Artifact(digest, codec, 0, "", named[0] if named else None)


def register_codec(kind: type, codec: Codec) -> None:
    """Store values of this type, and of types that inherit from it, by a codec of your own.

    To be called at the top of the project's file, so that every worker process does it too.
    """
    _own_types[kind] = codec.name
    _own_codecs[codec.name] = codec


class Artifacts:
    """Saves values to a BlobStore and loads them; files come back as links under `folder`."""

    def __init__(self, blobs: BlobStore, folder: Path, *, allow_pickle: bool = False) -> None:
        self._blobs, self._folder, self._allow_pickle = blobs, folder, allow_pickle
        self._codecs: dict[str, Codec] = {}

    def save(self, value: object) -> Artifact:
        """Keep a value.

        Raises:
            UserError: its type has no codec here, or the value no faithful form.
        """
        if isinstance(value, File):
            return self._save_file(value)
        if isinstance(value, Dir):
            return self._save_dir(value)
        codec = self._codec_of(value)
        if codec == "tree":
            data: bytes | memoryview = _json_bytes(self._tree(value))
        else:
            data = self._codec(codec).encode(value)
        key = self._blobs.put(io.BytesIO(data))
        return Artifact(key, codec, len(data), _type_name(value))

    def load(self, artifact: Artifact, wanted: type | None = None) -> object:
        """Return the value, as a `wanted` where its codec has a choice.

        Raises:
            Damaged: the bytes are gone, or are not those that were stored.
        """
        if artifact.codec == "file":
            path = self._materialised(artifact.digest, artifact.name or "file")
            return path if wanted is not None and issubclass(wanted, Path) else File(path)
        if artifact.codec == "dir":
            folder = self._materialised_dir(artifact)
            return folder if wanted is not None and issubclass(wanted, Path) else Dir(folder)
        data = self._bytes(artifact.digest)
        if artifact.codec == "tree":
            return self._grown(json.loads(data))
        return self._codec(artifact.codec).decode(data, wanted)

    def plain(self, text: str) -> object:
        """Return a literal of the graph: the JSON codec's text of it."""
        return self._codec("json").decode(_data(text), None)

    def holds(self, artifact: Artifact) -> bool:
        """Whether the bytes are there in their full length (what they are is seen at loading)."""
        return self._blobs.size(artifact.digest) == artifact.size

    def elements(self, artifact: Artifact) -> list[Artifact | str]:
        """Return the items of a stored list: artifacts, or JSON texts where they are plain.

        Raises:
            UserError: it is no list.
        """
        if artifact.codec == "tree":
            grown = json.loads(self._bytes(artifact.digest))
            items = grown.get("list", grown.get("tuple"))
            if items is not None:
                return [_element(item) for item in items]
        elif artifact.codec == "json":
            return [*self.plain_elements(_text(self._bytes(artifact.digest)))]
        raise UserError(
            f"a fan-out needs a list, this is a {artifact.type}", fix="return a list from the step"
        )

    def plain_elements(self, text: str) -> list[str]:
        """Return the items of a literal list, each as a literal.

        Raises:
            UserError: it is no list.
        """
        value = self.plain(text)
        if not isinstance(value, list | tuple):
            raise UserError(
                f"a fan-out needs a list, this is a {type(value).__name__}", fix="give it a list"
            )
        return [_text(self._codec("json").encode(item)) for item in value]

    def difference(self, old: Artifact, new: Artifact) -> list[str]:
        """Name what differs between two stored values; [] where nothing can be said."""
        if old.codec != new.codec:
            return [f"{old.codec} before, {new.codec} now"]
        try:
            before, now = self._bytes(old.digest), self._bytes(new.digest)
        except Damaged:
            return []
        if old.codec == "dir":
            return _differing_files(json.loads(before)["files"], json.loads(now)["files"])
        if old.codec in ("tree", "file"):
            return []
        return self._codec(old.codec).difference(before, now)

    def forget(self, digest: str) -> None:
        """Remove bytes that are damaged, so that they can be stored again."""
        self._blobs.remove(digest)

    def _codec_of(self, value: object) -> str:
        kind = type(value)
        for parent, name in _own_types.items():
            if issubclass(kind, parent):
                return name
        for parent in kind.__mro__:
            name = f"{parent.__module__.partition('.')[0]}.{parent.__name__}"
            if name in _CODECS:
                return _CODECS[name]
        if is_json(value):
            return "json"
        if kind in (list, tuple, dict):
            return "tree"
        if self._allow_pickle:
            return "pickle"
        error = unsupported(value)
        pickled = "or set allow_pickle = true under [project] in charkha.toml"
        raise UserError(error.what, fix=f"{error.fix}; {pickled}")

    def _codec(self, name: str) -> Codec:
        if name not in self._codecs:
            own = _own_codecs.get(name)
            self._codecs[name] = own or cast("Codec", plugins.find("codecs", name)())
        return self._codecs[name]

    def _bytes(self, key: str) -> bytes:
        try:
            with self._blobs.open(key) as blob:
                data = blob.read()
        except NotFound as e:
            raise Damaged(f"the blob {key[:12]}… is gone", key=key) from e
        if sha256(data).hexdigest() != key:
            raise Damaged(f"the blob {key[:12]}… holds other bytes than were stored", key=key)
        return data

    def _tree(self, value: object) -> dict[str, object]:
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self._tree(item) for key, item in value.items()}}
        if isinstance(value, list | tuple):
            return {type(value).__name__: [self._tree(item) for item in value]}
        if is_json(value):
            return {"value": _text(self._codec("json").encode(value))}
        return {"artifact": self.save(value).as_json()}

    def _grown(self, node: dict[str, object]) -> object:
        match node:
            case {"dict": dict() as items}:
                return {key: self._grown(item) for key, item in items.items()}
            case {"list": list() as items}:
                return [self._grown(item) for item in items]
            case {"tuple": list() as items}:
                return tuple(self._grown(item) for item in items)
            case {"value": str() as text}:
                return self._codec("json").decode(_data(text), None)
            case {"artifact": dict() as kept}:
                return self.load(Artifact.from_json(kept))
        raise ValueError("not a tree of artifacts")

    def _save_file(self, file: File) -> Artifact:
        file.load(None)  # complains where there is none
        with open(file, "rb") as content:
            key = self._blobs.put(content)
        return Artifact(key, "file", os.stat(file).st_size, _type_name(file), file.path.name)

    def _save_dir(self, folder: Dir) -> Artifact:
        folder.load(None)
        files: dict[str, dict[str, object]] = {}
        for path in _files_below(folder.path):
            with open(path, "rb") as content:
                key = self._blobs.put(content)
            mode = path.stat().st_mode
            files[path.relative_to(folder.path).as_posix()] = {
                "digest": key,
                "size": path.stat().st_size,
                "executable": bool(mode & stat.S_IXUSR),
            }
        data = _json_bytes({"files": files})
        key = self._blobs.put(io.BytesIO(data))
        return Artifact(key, "dir", len(data), _type_name(folder), folder.path.resolve().name)

    def _materialised(self, digest: str, name: str, executable: bool = False) -> Path:
        path = self._folder / digest[:2] / digest[2:] / name
        self._copy(digest, path, executable)
        return path

    def _materialised_dir(self, artifact: Artifact) -> Path:
        folder = self._folder / artifact.digest[:2] / artifact.digest[2:] / (artifact.name or "dir")
        folder.mkdir(parents=True, exist_ok=True)
        for relative, kept in json.loads(self._bytes(artifact.digest))["files"].items():
            self._copy(kept["digest"], folder / relative, bool(kept["executable"]))
        return folder

    def _copy(self, digest: str, path: Path, executable: bool) -> None:
        """Lay the blob at `path`, read-only, and verified also when it lies there already."""
        if path.exists() and _sha256(path) == digest:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with self._blobs.open(digest) as blob, partial.open("wb") as copy:
                found = _streamed(blob, copy)
        except NotFound as e:
            raise Damaged(f"the blob {digest[:12]}… is gone", key=digest) from e
        if found != digest:
            partial.unlink()
            raise Damaged(f"the blob {digest[:12]}… holds other bytes than stored", key=digest)
        partial.chmod(0o555 if executable else 0o444)
        partial.replace(path)


def _element(node: dict[str, object]) -> Artifact | str:
    if "artifact" in node:
        return Artifact.from_json(cast("dict[str, object]", node["artifact"]))
    if "value" in node:
        return str(node["value"])
    raise UserError("a fan-out over nested lists", fix="return a flat list from the step")


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _differing_files(old: dict[str, object], new: dict[str, object]) -> list[str]:
    return [f"file {name}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def _sha256(path: Path) -> str | None:
    digest = sha256()
    with suppress(OSError), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()
    return None


def _streamed(source: BinaryIO, target: BinaryIO) -> str:
    digest = sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _type_name(value: object) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _text(data: bytes | memoryview) -> str:
    return bytes(data).decode("utf-8", "surrogatepass")


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
