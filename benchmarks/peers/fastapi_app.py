"""FastAPI as its tutorials serve a model: a typed item, a joblib file, a DataFrame per request."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import create_model

model = joblib.load(os.environ["MODEL_FILE"])
columns = list(model.feature_names_in_)
Item = create_model("Item", **dict.fromkeys(columns, (float, ...)))
app = FastAPI()


@app.post("/predict")
def predict(item: Item):
    """Answer one row."""
    rows = pd.DataFrame([item.model_dump()])
    return {"prediction": float(model.predict(rows)[0])}


@app.post("/predict-many")
def predict_many(items: list[Item]):
    """Answer several rows."""
    rows = pd.DataFrame([item.model_dump() for item in items])
    return {"predictions": model.predict(rows).tolist()}
