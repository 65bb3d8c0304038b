"""Problem details for HTTP, as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import Sequence


class Problem(Exception):
    """An answer that is an error; never shows a value of a row to anybody but its sender."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        errors: Sequence[dict[str, str]] = (),
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail = status, kind, title, detail
        self.headers = list(headers)  # to be sent beside
        self.errors = list(errors)  # {"detail": …, "pointer": JSON pointer into the body}

    def as_json(self) -> dict[str, object]:
        """Return the document that is sent as application/problem+json."""
        told: dict[str, object] = {
            "type": f"urn:charkha:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            told["errors"] = self.errors
        return told


SCHEMA: dict[str, object] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"detail": {"type": "string"}, "pointer": {"type": "string"}},
            },
        },
    },
}
