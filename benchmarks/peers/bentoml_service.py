"""BentoML with adaptive batching, as its documentation has it."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Model:
    """One worker with one model."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL_FILE"])

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["BATCH"]))
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Answer the rows of all requests in a batch."""
        return self.model.predict(rows)
