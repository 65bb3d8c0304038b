"""scikit-learn models, and LightGBM's and XGBoost's estimators, in skops' format without pickle.

skops numbers objects by their address, names files at random and dates them, so two equal fits are
two files. Here its file is written again in a canonical form that skops reads like any other: an
array is named after its content, an object numbered by its place in the schema, sets are sorted, dates
and skops' version left out. What the format means is told by the
sources of skops.io (protocol 2); a later protocol that adds loaders needs another look at `_SHARED`.

Reading follows names in the file to classes and functions, so a file must not name what it likes:
see `_is_trusted`.
"""

from __future__ import annotations

import io
import json
import warnings
from hashlib import sha256
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from skops.io import dumps, get_untrusted_types, loads
from skops.io.exceptions import UntrustedTypesFoundException

from charkha.errors import UserError
from charkha.pipeline.codecs.npy import without_gaps
from charkha.pipeline.codecs.skops_schema import FILE, Schema, named_types, nodes_of, schema_of

_SHOWN = 8  # differences
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file knows
# Loaders of what can be changed, where it matters whether two are one. All others make values, and
# whether CPython keeps two equal ones apart (small numbers, texts, types) is chance.
_SHARED = {
    "DictNode",
    "DefaultDictNode",
    "ListNode",
    "SetNode",
    "NdArrayNode",
    "MaskedArrayNode",
    "SparseMatrixNode",
    "BytearrayNode",
    "RandomStateNode",
    "RandomGeneratorNode",
    "ObjectNode",
    "TreeNode",
    "LossNode",
}
# Attributes that tell of the machine and not of the model, and what is written for them: where in
# memory the stop words lay that were checked (they are checked again), and how many threads there
# were for binning (as many as there are).
_OF_A_MACHINE = {
    "CountVectorizer": {"_stop_words_id": "0"},
    "TfidfVectorizer": {"_stop_words_id": "0"},
    "_BinMapper": {"n_threads": "null"},
}


class SkopsCodec:
    """A Codec for fitted and unfitted estimators."""

    name = "skops"

    def encode(self, value: object) -> bytes:
        try:
            schema, data = _canonical(dumps(value))
            refused = _refused(data) if _may_be_refused(schema) else []
        except (TypeError, ValueError, AttributeError, RecursionError) as e:
            raise UserError(
                f"skops cannot keep this {type(value).__qualname__}: {e}",
                fix="set allow_pickle = true under [project] in charkha.toml",
            ) from e
        if refused:
            raise _untrusted(refused)
        return data

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        data = bytes(data)
        try:
            names = named_types(nodes_of(schema_of(io.BytesIO(data))))
            return loads(data, trusted=[name for name in names if _is_trusted(name)])
        except UntrustedTypesFoundException as e:
            raise _untrusted(_refused(data)) from e
        except (BadZipFile, LookupError, TypeError, RecursionError) as e:
            raise ValueError("not a model that skops wrote") from e

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        one, other = (schema_of(io.BytesIO(data)) for data in (old, new))
        if one["__class__"] != other["__class__"]:
            return [f"{one['__class__']} → {other['__class__']}"]
        before, after = _leaves(one), _leaves(other)
        found: dict[str, None] = {}  # a set that keeps its order
        for path in [*before, *(path for path in after if path not in before)]:
            if before.get(path) != after.get(path):
                found[_told(path, before.get(path), after.get(path))] = None
        more = len(found) - _SHOWN
        return list(found) if more <= 0 else [*list(found)[:_SHOWN], f"and {more} more"]


def _canonical(data: bytes) -> tuple[Schema, bytes]:
    """Return the canonical form of a file that skops wrote, and the schema in it."""
    schema, files = _opened(data)
    names = {}
    kept = {}
    for name, content in files.items():
        suffix = name.rpartition(".")[2]
        content = _CONTENT.get(suffix, bytes)(content)
        names[name] = f"{sha256(content).hexdigest()[:32]}.{suffix}"
        kept[names[name]] = content
    schema = _plain(schema, names)
    del schema["_skops_version"]
    _number(schema)
    text = json.dumps(schema, separators=(",", ":")).encode()
    return schema, _zipped({FILE: text, **dict(sorted(kept.items()))})


def _plain(node: Any, names: dict[str, str]) -> Any:
    """Return a node of the schema with files named anew, sets sorted, ids where they matter."""
    if isinstance(node, list):
        return [_plain(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _plain(item, names) for key, item in node.items()}
    loader = node.get("__loader__")
    if not isinstance(loader, str):
        return plain
    if loader not in _SHARED or (loader == "NdArrayNode" and node["__class__"] != "ndarray"):
        plain.pop("__id__", None)
    if loader == "SetNode":
        plain["content"].sort(key=json.dumps)
    if loader == "ObjectNode":
        for attribute, content in _OF_A_MACHINE.get(node["__class__"], {}).items():
            if attribute in (attributes := plain["content"]["content"]):
                attributes[attribute]["content"] = content
    if isinstance(file := node.get("file"), str):
        plain["file"] = names[file]
    return plain


def _number(schema: Schema) -> None:
    """Number the objects 1, 2, … in the order in which the schema meets them first."""
    numbers: dict[int, int] = {}
    for node in nodes_of(schema):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)


def _leaves(schema: Schema) -> dict[str, Any]:
    """Return the values of a model, and the nodes of its arrays, by path: `steps[1][1].alpha`."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, list):
            waiting += [(f"{path}[{i}]", item) for i, item in reversed([*enumerate(node)])]
        elif not isinstance(node, dict) or "file" in node:
            found[path] = node
        elif node.get("__loader__") == "DictNode":
            pairs = reversed(node["content"].items())
            waiting += [(f"{path}.{key}".lstrip("."), item) for key, item in pairs]
        else:
            inner = {key: node[key] for key in ("__reduce__", "content", "args") if key in node}
            if not inner:
                found[path] = node.get("__class__")
            waiting += [(path, item) for item in inner.values()]
    return found


def _told(path: str, old: Any, new: Any) -> str:
    """Say that something changed: a parameter with its values, deeper things by the attribute."""
    attribute = path.partition(".")[0].partition("[")[0]
    if attribute == path and isinstance(old, str) and isinstance(new, str):
        return f"{path}: {old} → {new}"
    return attribute or "the model"


def _array_content(content: bytes) -> bytes:
    if _OF_RECORDS not in content[: npy.MAGIC_LEN + 4 + len(_OF_RECORDS)]:
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    buffer = io.BytesIO()
    npy.write_array(buffer, without_gaps(array), allow_pickle=False)
    return buffer.getvalue()


def _sparse_content(content: bytes) -> bytes:
    with ZipFile(io.BytesIO(content)) as file:
        return _zipped({name: file.read(name) for name in sorted(file.namelist())})


_OF_RECORDS = b"{'descr': ["  # how the header begins: the type of records is a list, others a text
_CONTENT = {"npy": _array_content, "npz": _sparse_content}


def _opened(data: bytes) -> tuple[Schema, dict[str, bytes]]:
    """Return the schema and the other files of a file that skops wrote right now."""
    with ZipFile(io.BytesIO(data)) as file:
        files = {name: file.read(name) for name in file.namelist()}
    return json.loads(files.pop(FILE)), files


def _zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip file of these. Not compressed: zlib's output depends on who built it."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED) as file:
        for name, content in files.items():
            entry = ZipInfo(name, _OLDEST)
            entry.create_system, entry.external_attr = 3, 0o600 << 16  # as on Unix, everywhere
            file.writestr(entry, content)
    return buffer.getvalue()


# --- what a file may name -------------------------------------------------------------------------
# What every model is made of; skops trusts it itself where it may stand.
_PLAIN = {
    f"builtins.{name}" for name in ("bool", "int", "float", "str", "list", "tuple", "set", "slice")
}
# Loaders that follow another name than their class's: a method's, a bit generator's.
_SAY_MORE = {"MethodNode", "RandomGeneratorNode"}
_HARMLESS = {
    "collections.OrderedDict",
    "functools.partial",  # what it calls is looked at as well
    "builtins.dict",
    "builtins.frozenset",
    "builtins.bytes",
    "builtins.object",
    "builtins.NoneType",
}
_CLASSES = {  # modules whose classes do nothing but hold and compute when they are made
    "sklearn": ("",),
    "lightgbm": ("sklearn", "basic"),
    "xgboost": ("sklearn", "core"),
    "scipy": ("sparse", "stats", "interpolate", "spatial"),
}
_FUNCTIONS = ("sklearn.metrics.", "sklearn.feature_selection.", "sklearn.preprocessing.")
_NUMPY_CLASSES = (
    np.generic,
    np.ndarray,
    np.dtype,
    np.random.RandomState,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.SeedSequence,
)
_NOT_LOOKED_INTO = ("test", "_test", "conftest", "__", "externals", "datasets")


def _is_trusted(name: str) -> bool:
    """Say whether a file may name this class or function, beside those that skops trusts itself.

    A name alone proves nothing: `numpy` and `scipy` have functions that run text or write files, and
    a crafted file can have any function called. So it has to be a class of the libraries that hold
    models, numpy's own values, or one of scikit-learn's functions of arrays (metrics, scores).
    """
    if name in _HARMLESS:
        return True
    module, _, attribute = name.rpartition(".")
    root, *inner = module.split(".")
    if root not in {*_CLASSES, "numpy"} or any(p.startswith(_NOT_LOOKED_INTO) for p in inner):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old places from which numpy still exports
            found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        return False
    if root == "numpy":
        if isinstance(found, type):
            return issubclass(found, _NUMPY_CLASSES) and not issubclass(found, np.memmap)
        return _is_array_function(found, module, attribute)
    if isinstance(found, type):
        return f"{'.'.join(inner)}.".startswith(_CLASSES[root])
    return isinstance(found, FunctionType) and name.startswith(_FUNCTIONS)


def _is_array_function(found: object, module: str, attribute: str) -> bool:
    """Whether it is one of numpy's functions of arrays (`numpy.nan_to_num`), and writes no file."""
    dispatched = type(found).__name__ == "_ArrayFunctionDispatcher"
    return dispatched and module == "numpy" and not attribute.startswith("save")


def _may_be_refused(schema: Schema) -> bool:
    """Whether skops has to be asked what it trusts, which parses the file once more."""
    nodes = nodes_of(schema)
    if any(node["__loader__"] in _SAY_MORE for node in nodes):
        return True
    return not all(_is_trusted(name) for name in named_types(nodes) - _PLAIN)


def _refused(data: bytes) -> list[str]:
    """Return what a file names and neither skops nor we trust."""
    return [name for name in get_untrusted_types(data=data) if not _is_trusted(name)]


def _untrusted(names: list[str]) -> UserError:
    return UserError(
        f"the model holds {', '.join(names)}, which is not of a library whose models are read back",
        fix="compute with it in a step of its own before the model, use a numpy function such as "
        "numpy.log1p, or set allow_pickle = true under [project] in charkha.toml",
    )


if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

    _: Codec = SkopsCodec()
