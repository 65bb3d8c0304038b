"""Backends by name: shipped ones from a table, others through entry points, imported when asked."""

from __future__ import annotations

import sys
from importlib import import_module

from charkha.errors import MissingExtra, UserError

# kind -> name -> (where it is, the extra that brings its library). The shipped ones stand here and
# not in our own entry points, because reading all entry points of an environment costs 30 ms.
SHIPPED: dict[str, dict[str, tuple[str, str | None]]] = {
    "blobs": {
        "folder": ("charkha.data.blobs.local:LocalBlobs", None),
        "memory": ("charkha.data.blobs.memory:MemoryBlobs", None),
        "nearby": ("charkha.data.blobs.nearby:NearbyBlobs", None),
        "s3": ("charkha.data.blobs.s3:S3Blobs", "s3"),
    },
    "codecs": {
        "json": ("charkha.pipeline.codecs.json:JsonCodec", None),
        "bytes": ("charkha.pipeline.codecs.bytes:BytesCodec", None),
        "npy": ("charkha.pipeline.codecs.npy:NpyCodec", "tables"),
        "parquet": ("charkha.pipeline.codecs.parquet:ParquetCodec", "tables"),
        "skops": ("charkha.pipeline.codecs.skops:SkopsCodec", "sklearn"),
        "pickle": ("charkha.pipeline.codecs.pickle:PickleCodec", None),
    },
    "engines": {
        "airflow": ("charkha.pipeline.engines.airflow:AirflowEngine", None),
        "dvc": ("charkha.pipeline.engines.dvc:DvcEngine", "dvc"),
        "kubeflow": ("charkha.pipeline.engines.kubeflow:KubeflowEngine", "kubeflow"),
        "mlflow": ("charkha.pipeline.engines.mlflow:MlflowEngine", "mlflow"),
        "ray": ("charkha.pipeline.engines.ray:RayEngine", "ray"),
        "sagemaker": ("charkha.pipeline.engines.sagemaker:SagemakerEngine", None),
        "shell": ("charkha.pipeline.engines.shell:ShellEngine", None),
    },
    "flavours": {
        "sklearn": ("charkha.models.flavours.sklearn:SklearnFlavour", "sklearn"),
        "lightgbm": ("charkha.models.flavours.lightgbm:LightgbmFlavour", "lightgbm"),
        "xgboost": ("charkha.models.flavours.xgboost:XgboostFlavour", "xgboost"),
        "pyfunc": ("charkha.models.flavours.pyfunc:PyfuncFlavour", "tables"),
    },
}


_CALLED = {"blobs": "kind of blobs", "codecs": "codec", "engines": "engine", "flavours": "flavour"}


def find(kind: str, name: str) -> type:
    """Return the class of the backend `name` of this kind (`blobs`, `codecs`, …).

    Raises:
        UserError: nobody offers that name.
        MissingExtra: it is ours, and the library that it needs is not installed.
    """
    shipped = SHIPPED.get(kind, {})
    if name in shipped:
        path, extra = shipped[name]
        return _load(path, name, extra)
    offered = {point.name: point for point in _entry_points(kind)}
    if name in offered:
        found: type = offered[name].load()
        return found
    meant = import_module("charkha.definition").nearest(name, {*shipped, *offered})
    near = f"did you mean {meant!r}? " if meant else ""
    known = ", ".join(sorted({*shipped, *offered}))
    what = _CALLED.get(kind, f"{kind} backend")
    raise UserError(f"there is no {what} {name!r}", fix=f"{near}there are: {known}")


def names(kind: str) -> list[str]:
    """Return every name that `find(kind, name)` knows, sorted."""
    return sorted({*SHIPPED.get(kind, {}), *(point.name for point in _entry_points(kind))})


def _load(path: str, name: str, extra: str | None) -> type:
    module, _, attribute = path.partition(":")
    try:
        loaded: type = getattr(import_module(module), attribute)
    except ModuleNotFoundError as e:
        if extra is None or (e.name or "").startswith("charkha"):
            raise
        raise MissingExtra(name, extra) from e
    return loaded


def _entry_points(kind: str):  # type: ignore[no-untyped-def]  # its type would import the module
    metadata = sys.modules.get("importlib.metadata") or import_module("importlib.metadata")
    return metadata.entry_points(group=f"charkha.{kind}")
