"""The board of a model's quality: on ground truth and before it comes; releases; the loop."""

from __future__ import annotations

from charkha.monitoring.rendering.panels import Panel, Row, ask, stat

_M = 'model="$model"'
_RATE = "[$__rate_interval]"
_YES_IS_BAD = ((0.0, "no", "green"), (1.0, "yes", "red"))
_NAMED = "{{version}} {{variant}}"
_BY = "version, variant"


def quality() -> tuple[Row, ...]:
    """Return the rows."""
    metric = "version, metric"
    delay = f"charkha_feedback_delay_seconds_bucket{_RATE}"
    said = f"rate(charkha_prediction_value_bucket{{{_M}}}[1h])"

    def value(name: str) -> str:
        return f"max by ({metric}) ({name}{{{_M}}})"

    return (
        Row(
            title="On ground truth",
            panels=(
                Panel(
                    title="Performance",
                    description="A metric on the newest window whose ground truth is known, with its "
                    "confidence interval, beside the figure on the held-out rows when the version was made, and the "
                    "estimate of the newest window, whose truth is not known yet.",
                    asked=(ask(value("charkha_performance"), "{{metric}} of {{version}}"),
                           ask(value("charkha_performance_low"), "{{metric}} of {{version}}, low"),
                           ask(value("charkha_performance_high"), "{{metric}} of {{version}}, high"),
                           ask(value("charkha_performance_held_out"), "{{metric}} of {{version}}, held out"),
                           ask(value("charkha_performance_estimate"), "{{metric}} of {{version}}, estimated")),
                    unit="short", width=12,
                ),
                Panel(
                    title="Worse than held out",
                    description="Yes where it was judged to be worse than the held-out figure by more than chance.",
                    asked=(ask(value("charkha_performance_worse"), "{{metric}} of {{version}}"),),
                    unit="none", shape="state-timeline", width=12, words=_YES_IS_BAD,
                ),
                Panel(
                    title="Ground truths",
                    description="As they come, repeated ones too, and those of the newest window that was "
                    "measured.",
                    asked=(ask(f"sum(rate(charkha_feedback_total{_RATE}))", "a second"),
                           ask(f"max by (version) (charkha_performance_windows_in_a_row{{{_M}}})", "windows in a row that were worse, {{version}}"),
                           ask(f"max by (version) (charkha_performance_labelled{{{_M}}})",
                               "known in the window of {{version}}")),
                    unit="short",
                ),
                Panel(
                    title="How late truth comes",
                    description="From a prediction to its ground truth: what was measured today is about "
                    "predictions as old as this.",
                    asked=tuple(
                        ask(f"histogram_quantile({share}, sum by (le) (rate({delay})))", name)
                        for name, share in (("half", 0.5), ("95 %", 0.95))
                    ),
                    unit="s",
                ),
                Panel(
                    title="Alerts open",
                    description="Alerts of Charkha that are open, by severity. `charkha why ALERT` tells "
                    "the story of one.",
                    asked=(ask(f"max by (severity) (charkha_alerts_open{{{_M}}})", "{{severity}}"),),
                    unit="short", thresholds=(("transparent", None), ("red", 1.0)),
                ),
            ),
        ),
        Row(
            title="Before truth comes: what it predicts",
            panels=(
                Panel(
                    title="Predictions",
                    description="Median and the middle 90 % of the last hour's predictions, beside those of "
                    "the held-out rows (dotted in the legend as «then»). Empty for models that predict labels.",
                    asked=(
                        *(ask(f"histogram_quantile({q}, sum by ({_BY}, le) ({said}))", f"{q:g} {_NAMED}")
                          for q in (0.05, 0.5, 0.95)),
                        ask(f"max by (version, share) (charkha_prediction_reference{{{_M}}})",
                            "then, {{share}} of {{version}}"),
                    ),
                    unit="short", width=12,
                ),
                Panel(
                    title="Labels",
                    description="Which labels are predicted, as parts of all, beside those of the held-out "
                    "rows. Empty for models that predict numbers.",
                    asked=(
                        ask(f"sum by ({_BY}, label) (rate(charkha_predicted_labels_total{{{_M}}}[1h])) "
                            f"/ on ({_BY}) group_left () sum by ({_BY}) "
                            f"(rate(charkha_predicted_labels_total{{{_M}}}[1h]))", "{{label}} " + _NAMED),
                        ask(f"max by (version, label) (charkha_predicted_label_reference_share{{{_M}}})",
                            "then, {{label}} of {{version}}"),
                    ),
                    unit="percentunit", width=12,
                ),
            ),
        ),
        *_moves(),
    )  # fmt: skip


def _moves() -> tuple[Row, ...]:
    return (
        Row(
            title="Releases and the loop",
            panels=(
                Panel(
                    title="Release",
                    description="The phase of the newest release. `charkha release status` draws how the "
                    "intervals close in on their margins.",
                    asked=(ask(f"max by (version, phase) (charkha_release_phase{{{_M}}})",
                               "{{version}} {{phase}}"),),
                    unit="none", shape="state-timeline", width=12,
                    words=((0.0, "no", "transparent"), (1.0, "yes", "blue")),
                ),
                Panel(
                    title="Share of the new version",
                    description="What the plan of the release gives it in its stage.",
                    asked=(ask(f"max by (version) (charkha_release_share{{{_M}}})", "{{version}}"),
                           ask(f"max by (version) (charkha_release_stage{{{_M}}})", "{{version}}, stage")),
                    unit="none", width=6,
                ),
                Panel(
                    title="Release waits",
                    description="Since when no controller has looked at a release that goes on.",
                    asked=(ask(f"max by (version) ((time() - charkha_release_looked_timestamp_seconds{{{_M}}})"
                               f" * charkha_release_active{{{_M}}})", "{{version}}"),),
                    unit="s", width=6, thresholds=(("transparent", None), ("red", 900.0)),
                ),
                Panel(
                    title="Turns of the loop",
                    description="What started them, and how they ended.",
                    asked=(ask(f"max by (trigger, outcome) (charkha_loop_turns{{{_M}}})"),),
                    unit="none", shape="table", width=12,
                ),
                Panel(
                    title="The loop",
                    description="Where the newest turn is, and since when.",
                    asked=(ask(f"max by (phase) (charkha_loop_phase{{{_M}}})", "{{phase}}"),),
                    unit="none", shape="state-timeline", width=8,
                    words=((1.0, "here", "blue"),),
                ),
                stat("Last move", "When the newest turn of the loop last moved.",
                      f"max(charkha_loop_turn_timestamp_seconds{{{_M}}}) * 1000",
                      unit="dateTimeFromNow"),
            ),
        ),
    )  # fmt: skip
