"""The card's plots as PNG: the same bytes for the same numbers, wherever the fonts are the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from charkha.models.diagnostics import chosen
from charkha.models.verdict import show

if TYPE_CHECKING:
    from charkha.models.diagnostics import Importance, LearningCurve
    from charkha.models.predictions import Floats
    from charkha.models.scores import Truth

_INK, _ACCENT = "#33415c", "#c1121f"
_SHOWN = 15  # columns in the importance plot
# A user's own style would change the bytes; the backend is left out, for touching it brings pyplot.
_STYLE: Any = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}


def residuals(truth: Floats, predicted: Floats, target: str) -> bytes:
    """Draw predicted minus true against predicted; rows (n,)."""

    def draw(axes: Any) -> None:
        axes.axhline(0, color=_ACCENT, linewidth=1)
        axes.scatter(predicted, predicted - truth, s=9, alpha=0.5, color=_INK, linewidths=0)
        axes.set_xlabel(f"predicted {target}")
        axes.set_ylabel("predicted − true")
        axes.set_title(f"Residuals of {len(truth):,} held-out rows")

    return _draw(draw)


def confusion(truth: Truth, predicted: Truth, labels: list[object]) -> bytes:
    """Draw how often each true class was predicted as each; rows (n,)."""
    counts = np.array([[((truth == a) & (predicted == p)).sum() for p in labels] for a in labels])

    def draw(axes: Any) -> None:
        axes.imshow(counts, cmap="Blues")
        axes.set_xticks(range(len(labels)), [str(label) for label in labels])
        axes.set_yticks(range(len(labels)), [str(label) for label in labels])
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts.max() / 2
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", color="white" if dark else _INK
            )
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(f"Confusion of {len(truth):,} held-out rows")

    return _draw(draw)


def importances(measured: Importance) -> bytes:
    """Draw the columns that matter most."""
    bars = chosen(measured, _SHOWN)[::-1]

    def draw(axes: Any) -> None:
        axes.barh([name for name, _ in bars], [cost for _, cost in bars], color=_INK)
        axes.set_xlabel(f"how much worse {measured.metric} gets when the column is shuffled")
        axes.set_title("What the model looks at")

    return _draw(draw)


def curve(measured: LearningCurve) -> bytes:
    """Draw the learning curve."""
    rows = [point[0] for point in measured.points]

    def draw(axes: Any) -> None:
        axes.plot(rows, [p[2] for p in measured.points], "o-", color=_INK, label="held-out rows")
        axes.plot(
            rows, [p[1] for p in measured.points], "o--", color=_ACCENT, label="training rows"
        )
        axes.set_xlabel("training rows")
        axes.set_ylabel(measured.metric)
        axes.set_ylim(bottom=0)
        axes.legend()
        axes.set_title(f"Learning curve, {show(measured.points[-1][2])} at the end")

    return _draw(draw)


def _draw(draw: Callable[[Any], None]) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4.2), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        ConstrainedLayoutEngine().execute(figure)
        file = io.BytesIO()
        # savefig would draw it twice
        canvas.print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return file.getvalue()
