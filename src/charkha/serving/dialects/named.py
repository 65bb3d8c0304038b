"""`/predict`: a row is an object of named features, many rows are a list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from charkha.serving.dialects.port import Headers, Reading, Said, Sent

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel

_JSON: Sent = [(b"content-type", b"application/json")]


class NamedDialect:
    """The Dialect of `/predict` for one version, under the name of one variant."""

    def __init__(self, model: ServedModel, variant: str) -> None:
        self._decode = model.schema.decode
        self._encode = msgspec.json.Encoder().encode
        about = {"model": model.name, "version": model.version, "variant": variant}
        self._about = self._encode(about)[1:-1]
        self._classes = model.classes

    def read(self, body: bytes, headers: Headers) -> Reading:
        return Reading(*self._decode(body))

    def write(self, reading: Reading, said: Said) -> tuple[bytes, Sent]:
        values, shares = said.answers
        if reading.form:  # a single row
            told = b'{"id":"%b",%b,"prediction":%b' % (
                said.ids[0].encode(),
                self._about,
                self._encode(values[0]),
            )
        else:
            told = b'{"id":"%b",%b,"ids":%b,"predictions":%b' % (
                said.ids[0].encode(),
                self._about,
                self._encode(said.ids),
                self._encode(values),
            )
        if shares is not None and self._classes is not None:
            named = [dict(zip(self._classes, row, strict=True)) for row in shares]
            told += b',"probabilities":' + self._encode(named[0] if reading.form else named)
        return told + b"}", _JSON


if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect

    def _fits(model: ServedModel) -> Dialect:
        return NamedDialect(model, "champion")
