"""A model package: a folder with all that a model version is, read back and asked.

    package.json         what everything else is: Description
    model.skops          the model (model.txt: LightGBM, model.ubj: XGBoost, model.pkl: pickle)
    model.onnx           its twin, where one agrees with it
    input_example.json   three rows, as a request would carry them
    examples.json        at most 32 rows, and what the model answered; since format 2
    profile.bin          every column summed up; since format 3
    held_out.parquet     at most 4,000 held-out rows with the answers; not in the first of format 3
    reference.parquet    at most 1,000 training rows with the target
    card.md, plots/      for people

Equal models packaged from equal rows are equal bytes, file by file: there is no time, no run, no
commit in here. Those are what the run that made it knows, and stand on the version in MLflow.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import Damaged, UserError
from charkha.models.flavours.choice import flavour
from charkha.models.onnxruntime import OnnxModel
from charkha.models.signature import Signature, conform

if TYPE_CHECKING:
    import pandas as pd

    from charkha.models.metrics import Task
    from charkha.models.predictions import Predictions, Values

FORMAT = 3
_READ = (1, 2, 3)  # formats; 1 has no recorded examples, 1 and 2 have no profile
DESCRIPTION = "package.json"


@dataclass(frozen=True, kw_only=True)
class OnnxTwin:
    """What package.json says of the twin."""

    file: str | None
    why: str | None  # there is none
    rows: int  # compared
    largest_difference: float | None
    tolerance: float | None
    null_text: str


@dataclass(frozen=True, kw_only=True)
class Description:
    """What package.json says."""

    name: str
    flavour: str
    task: Task
    target: str
    classes: tuple[object, ...] | None
    signature: Signature
    requirements: tuple[str, ...]  # "scikit-learn==1.9.1", sorted
    python: str  # "3.11"
    model_file: str
    model_class: str  # "sklearn.pipeline.Pipeline"
    onnx: OnnxTwin
    metrics: dict[str, dict[str, float]]  # "train" | "test" -> metric -> score
    own_scores: dict[str, float]  # that the project measured itself
    data: dict[str, dict[str, object]]  # "train" | "test" -> {"rows": 2344, "sha256": …}
    input_example: str
    reference: str
    examples: str | None = None  # in format 1
    profile: str | None = None  # in formats 1 and 2
    held_out: str | None = None  # in formats 1 and 2, and in the first packages of 3


class ModelPackage:
    """A package that was read; the model itself is loaded when it is first asked."""

    def __init__(self, folder: Path, about: Description, *, allow_pickle: bool) -> None:
        self.folder, self.about = folder, about
        self.notices: list[str] = []  # of the last rows
        self._allow_pickle = allow_pickle

    @cached_property
    def model(self) -> object:
        """The model in its own library's form."""
        file = self.folder / self.about.model_file
        return flavour(self.about.flavour).load(file, allow_pickle=self._allow_pickle)

    def predict(self, rows: pd.DataFrame) -> Values:
        """Return a number or a label for each row.

        Raises:
            DataError: a column is missing or a value is of a wrong type; says which and where.
        """
        return self.answer(rows).values

    def predict_onnx(self, rows: pd.DataFrame) -> Values:
        """Return what the ONNX twin says of each row.

        Raises:
            UserError: this package has no twin; says why.
            DataError: as `predict`.
        """
        return self.answer_onnx(rows).values

    def answer(self, rows: pd.DataFrame) -> Predictions:
        """Return predictions with probabilities, where the model has them."""
        return flavour(self.about.flavour).predict(
            self.model, self._conform(rows), self.about.classes
        )

    def answer_onnx(self, rows: pd.DataFrame) -> Predictions:
        """Return the twin's predictions with probabilities, where it has them."""
        return self._twin.predict(self._conform(rows), self.about.classes)

    @cached_property
    def _twin(self) -> OnnxModel:
        twin = self.about.onnx
        if twin.file is None:
            raise UserError(
                f"model {self.about.name!r} has no ONNX twin: {twin.why}", fix="leave --onnx out"
            )
        return OnnxModel((self.folder / twin.file).read_bytes(), null_text=twin.null_text)

    def _conform(self, rows: pd.DataFrame) -> pd.DataFrame:
        conformed = conform(rows, self.about.signature.inputs)
        self.notices = conformed.notices
        return conformed.rows

    def __repr__(self) -> str:
        return f"<package of {self.about.name!r}, {self.about.flavour}, in {self.folder}>"


def read_package(folder: str | Path, *, allow_pickle: bool = False) -> ModelPackage:
    """Read a package folder; the model is loaded later, when it is asked.

    Raises:
        UserError: this is no package, or one of a later format.
        Damaged: its description cannot be read.
    """
    file = Path(folder) / DESCRIPTION
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UserError(
            f"{folder} is no model package: it has no {DESCRIPTION}",
            fix="name a registered model, or the folder that register() made",
        ) from e
    except ValueError as e:
        raise Damaged(f"{file} is no JSON: {e}", key=str(file)) from e
    if described.get("format") not in _READ:
        raise UserError(
            f"{file} has format {described.get('format')!r}, and this Charkha reads up to {FORMAT}",
            fix="pip install --upgrade charkha",
        )
    about = _description(described, str(file))
    return ModelPackage(Path(folder), about, allow_pickle=allow_pickle)


def describe(about: Description) -> str:
    """Return the text of package.json."""
    form = {"format": FORMAT, **vars(about)}
    form["onnx"] = vars(about.onnx)
    form["signature"] = about.signature.as_json()
    return json.dumps(form, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _description(described: dict[str, object], where: str) -> Description:
    fields = {name: value for name, value in described.items() if name != "format"}
    try:
        classes = fields["classes"]
        fields["classes"] = tuple(classes) if isinstance(classes, list) else None
        fields["requirements"] = tuple(fields["requirements"])  # type: ignore[arg-type]
        fields["signature"] = Signature.from_json(fields["signature"])  # type: ignore[arg-type]
        fields["onnx"] = OnnxTwin(**fields["onnx"])  # type: ignore[arg-type]
        return Description(**fields)  # type: ignore[arg-type]
    except (KeyError, TypeError) as e:
        raise Damaged(f"{where} is not what a package says: {e}", key=where) from e
