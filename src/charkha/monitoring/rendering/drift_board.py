"""The board of drift: what a model is asked, against training, as judged and as it passes."""

from __future__ import annotations

from charkha.monitoring.rendering.panels import Panel, Row, ask

_M = 'model="$model"'
_LIVE = f'{_M},role="live"'
_RATE = "[$__rate_interval]"
_YES_IS_BAD = ((0.0, "no", "green"), (1.0, "yes", "red"))


def drift(smallest_share: float) -> tuple[Row, ...]:
    """Return the rows; such a part of a window matters."""
    by = "variant, column"
    rows = f"sum by (variant) (rate(charkha_rows_examined_total{{{_LIVE}}}[1h]))"
    matters = (("transparent", None), ("red", smallest_share))

    def share(what: str) -> str:
        return (
            f'sum by ({by}) (rate(charkha_input_values_total{{{_M},is="{what}"}}[1h])) '
            f"/ on (variant) group_left () {rows}"
        )

    def reference(what: str) -> str:
        return f'max by ({by}) (charkha_input_reference_share{{{_M},is="{what}"}})'

    def live(title: str, description: str, what: str) -> Panel:
        excess = f"topk(10, {share(what)} - on ({by}) {reference(what)})"
        return Panel(title=title, description=description, asked=(ask(excess, "{{column}} {{variant}}"),),
                     unit="percentunit", thresholds=matters)  # fmt: skip

    about = f"{{{_M}}}"
    return (
        Row(
            title="As judged: `charkha monitor check`",
            panels=(
                Panel(
                    title="Drifted",
                    description="Whether the newest window that was judged has drifted, version by version.",
                    asked=(ask(f"max by (version) (charkha_drift{about})", "{{version}}"),),
                    unit="none", shape="state-timeline", words=_YES_IS_BAD,
                ),
                Panel(
                    title="Columns that drifted",
                    description="In the newest window, and in how many windows in a row one of them did.",
                    asked=(ask(f"max by (version) (charkha_drift_columns{about})", "columns, {{version}}"),
                           ask(f"max by (version) (charkha_drift_windows_in_a_row{about})",
                               "windows in a row, {{version}}")),
                    unit="short",
                ),
                Panel(
                    title="Windows",
                    description="Rows of the newest window, and how long ago it ended: a verdict is as old "
                    "as that.",
                    asked=(ask(f"max by (version) (charkha_drift_window_rows{about})", "rows, {{version}}"),
                           ask("max by (version) (time() - charkha_drift_window_end_timestamp_seconds"
                               f"{about})", "seconds ago, {{version}}")),
                    unit="short",
                ),
                Panel(
                    title="Columns",
                    description="1: the column drifted. PSI: above 0.1 a change that is seen, above 0.25 a "
                    "large one. Shift: standard deviations of training.",
                    asked=(ask(f"max by (version, column) (charkha_drift_column{about})"),
                           ask(f"max by (version, column) (charkha_drift_column_psi{about})"),
                           ask(f"max by (version, column) (charkha_drift_column_shift{about})")),
                    unit="none", shape="table", width=12,
                ),
                Panel(
                    title="PSI, the ten largest",
                    description="Population stability index of the newest window against training.",
                    asked=(ask(f"topk(10, max by (version, column) (charkha_drift_column_psi{about}))",
                               "{{column}} {{version}}"),),
                    unit="none", shape="bargauge", width=12,
                    thresholds=(("green", None), ("orange", 0.1), ("red", 0.25)),
                ),
            ),
        ),
        Row(
            title="Live: rows as they pass, in the last hour, against training; no tests",
            panels=(
                live("More missing", "Part of the rows in which a column is missing, less that of training.",
                     "missing"),
                live("Out of range", "Part of the rows below the least or above the greatest of training.",
                     "out_of_range"),
                live("New categories", "Part of the rows with a label that training did not have.",
                     "new_category"),
                Panel(
                    title="Moved up or down",
                    description="Part of the rows above the median of training, less what it was there: "
                    "0.5 would be all of them above, -0.5 all below. The ten that moved most.",
                    asked=(ask(f'topk(10, abs({share("above_median")} - on ({by}) '
                               f'{reference("above_median")}))', "{{column}} {{variant}}"),),
                    unit="percentunit", width=12,
                    thresholds=(("transparent", None), ("orange", 0.1), ("red", 0.2)),
                ),
                Panel(
                    title="Rows looked at",
                    description="Up to 256 a second of each variant and worker; beyond that a part of them.",
                    asked=(ask(f"sum by (variant, role) (rate(charkha_rows_examined_total{{{_M}}}"
                               f"{_RATE}))", "{{variant}} {{role}}"),),
                    unit="rowsps", width=12,
                ),
            ),
        ),
    )  # fmt: skip
