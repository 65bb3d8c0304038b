"""HTML and SVG as text: elements whose text is escaped, and whose tags are closed."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is markup already: everything else is escaped."""

    __slots__ = ()


Part = str | None  # a str that is no Markup is escaped; None is nothing


def tag(name: str, /, *parts: Part, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        parts: its content.
        attributes: `class_` is class, `font_size` is font-size; None is left out, numbers are
            rounded to a tenth, which is less than a pixel.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*parts)}</{name}>")


def joined(*parts: Part) -> Markup:
    """Return parts one after another, escaped where they are no markup."""
    return Markup("".join(_safe(part) for part in parts if part is not None))


def number(value: float) -> str:
    """Return a coordinate: 12.5, 12."""
    return f"{value:.1f}".removesuffix(".0")


def _safe(part: str) -> str:
    return part if isinstance(part, Markup) else escape(part)


def _value(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(float(value))
    return escape(str(value))
