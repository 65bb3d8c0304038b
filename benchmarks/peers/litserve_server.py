"""LitServe with batching: python litserve_server.py PORT."""

import os
import sys

import joblib
import litserve as ls
import numpy as np


class Model(ls.LitAPI):
    """Requests of equally many rows, stacked."""

    def setup(self, device):
        """Load the model, in the worker."""
        self.model = joblib.load(os.environ["MODEL_FILE"])

    def decode_request(self, request):
        """Return the rows of one request."""
        return np.asarray(request["rows"], dtype=np.float64)

    def predict(self, rows):
        """Answer the rows of all requests in a batch, (requests, rows, columns)."""
        many, each, wide = rows.shape
        return self.model.predict(rows.reshape(many * each, wide)).reshape(many, each)

    def encode_response(self, output):
        """Return the answers to one request."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    api = Model(
        max_batch_size=int(os.environ["BATCH"]), batch_timeout=float(os.environ["BATCH_WAIT_S"])
    )
    server = ls.LitServer(api, accelerator="cpu")
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
