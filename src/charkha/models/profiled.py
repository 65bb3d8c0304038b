"""The profile in a package: what the model was trained on and what it said, column by column.

Columns are called as in records: `input.NAME`, `prediction`, `ground_truth`. Predictions are those of
the held-out rows: a model knows its training rows too well, and spreads wider there than on any
later row, which would look like drift from the first day on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from charkha.data.profiles.building import build_profile
from charkha.data.profiles.storing import read_profile, write_profile
from charkha.errors import UserError

if TYPE_CHECKING:
    from charkha.data.profiles.profile import Profile
    from charkha.models.asked import Asked

FILE = "profile.bin"
INPUT, PREDICTION, TRUTH = "input.", "prediction", "ground_truth"


def profiled(asked: Asked) -> bytes:
    """Return the bytes of the file.

    Inputs and target are those of the training rows, where there are such.
    """
    rows, said = asked.rows[asked.sample], asked.said["test"]
    columns = {f"{INPUT}{name}": rows.inputs[name] for name in rows.inputs.columns}
    columns[PREDICTION] = pd.Series(said.values)
    columns[TRUTH] = pd.Series(rows.truth)
    if asked.classes is not None:  # labels, also where they are numbers
        columns |= {name: columns[name].astype("category") for name in (PREDICTION, TRUTH)}
    return write_profile(build_profile(columns))


def profile_of(folder: Path, version: str) -> Profile:
    """Return the profile in a package's folder; `version` is whose, for a message.

    Raises:
        UserError: the package is of a format that had none yet.
        Damaged: it cannot be read.
    """
    described = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    file = described.get("profile")
    if file is None:
        raise UserError(
            f"{version} has no profile: its package is of format {described.get('format')}, "
            "and profiles came with 3",
            fix="make it again, or a later version: charkha run",
        )
    return read_profile((folder / file).read_bytes(), f"{file} of {version}")
