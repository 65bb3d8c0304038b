"""Pictures as SVG: figures with a title, scales, ticks, and steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from charkha.models.verdict import show
from charkha.monitoring.reporting.markup import Markup, Part, number, tag

_STEPS_S = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000, 157_680_000),
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values between `low` and `high` onto pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        width = self.high - self.low
        part = (value - self.low) / width if width else 0.5
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)


def figure(title: str, told: str, width: float, height: float, *parts: Part) -> Markup:
    """Return a picture that says in words what it shows, for who does not see it."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", told),
        *parts,
        role="img",
        viewBox=f"0 0 {number(width)} {number(height)}",
        preserveAspectRatio="xMidYMid meet",
    )


def label(x: float, y: float, text: str, *, of: str = "soft", anchor: str | None = None) -> Markup:
    """Return a text; `anchor` is start, middle or end."""
    return tag("text", text, x=x, y=y, class_=of, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, of: str) -> Markup:
    """Return a line."""
    return tag("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=of)


def box(
    x: float, y: float, width: float, height: float, of: str, title: str | None = None
) -> Markup:
    """Return a rectangle, with a title that shows when one points at it."""
    inner = tag("title", title) if title else None
    return tag(
        "rect", inner, x=x, y=y, width=max(width, 0), height=max(height, 0), class_=of, rx=1.5
    )


def steps(xs: Sequence[float], ys: Sequence[float], floor: float, of: str) -> Markup:
    """Return a histogram's outline: len(xs) is len(ys) + 1, `floor` its foot."""
    path = [f"M{number(xs[0])} {number(floor)}"]
    for x, y in zip(xs[1:], ys, strict=True):
        path.append(f"V{number(y)}H{number(x)}")
    path.append(f"V{number(floor)}")
    return tag("path", d="".join(path), class_=of)


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return round values from `low` to `high`."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * f for f in (1, 2, 2.5, 5, 10) if size * f >= rough * 0.999)
    if high - low < 2 * step:
        step /= 2  # one tick alone tells no distance
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def moments(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Return round moments from `low` to `high`, in unix seconds, and how they are written, in UTC."""
    step = next((s for s in _STEPS_S if (high - low) / s <= most), _STEPS_S[-1])
    form = "%Y-%m-%d" if step >= 86_400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    days = datetime.fromtimestamp(low, UTC).date() != datetime.fromtimestamp(high, UTC).date()
    if days and step < 86_400:
        form = f"%m-%d {form}"
    first = math.ceil(low / step)
    at = [n * step for n in range(first, math.floor(high / step) + 1)]
    return [(float(t), datetime.fromtimestamp(t, UTC).strftime(form)) for t in at]


def written(value: float, *, as_moment: bool = False) -> str:
    """Return a value of a column as people write it."""
    if as_moment:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    return show(0.0 if value == 0 else value)
