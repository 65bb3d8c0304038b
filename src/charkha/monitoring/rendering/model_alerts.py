"""Alerts on models: their versions, inputs, verdicts and releases."""

from __future__ import annotations

from charkha.monitoring.rendering.alert import Alert

_JOB = 'job="charkha"'
_MODEL = 'model="houses"'
_VERSION = f'{_MODEL},version="3"'
_VARIANT = f'{_VERSION},variant="champion"'
# Verdicts of versions that answer; those of others are history.
_ANSWERS = 'and on (job, model, version) (charkha_model_info{role="live"} == 1)'
_HELD = f'charkha_model_info{{{_JOB},{_VARIANT},role="live",form="onnx"}}'


def versions() -> tuple[Alert, ...]:
    """Return the alerts on versions, the registry and the ledger."""
    registry, ledger = "charkha_registry_reachable", "charkha_ledger_reachable"
    failed, swaps = "charkha_swap_failures_total", "charkha_swaps_total"
    return (
        Alert(
            name="CharkhaSwapFailed",
            about="versions",
            severity="critical",
            expression=f"increase({failed}[15m]) > 0",
            summary="A new version of {{ $labels.model }} cannot be put in place",
            description="It could not be loaded, or failed its check; the version before goes on "
            "answering.",
            action="The server's log has the reason (not-swapped). `charkha models show {{ $labels.model }}`, "
            "`charkha why {{ $labels.model }}@VERSION`, `charkha models rollback {{ $labels.model }}`.",
            fires={f"{failed}{{{_JOB},{_MODEL}}}": "0x65 1x10"},
            rests={f"{failed}{{{_JOB},{_MODEL}}}": "3x75"},
        ),
        Alert(
            name="CharkhaVersionSwapped",
            about="versions",
            severity="info",
            expression=f"sum by (job, instance, model) (increase({swaps}[10m])) > 0",
            summary="Another version of {{ $labels.model }} answers",
            description="A worker has put another version in place. That is news, and no trouble.",
            action="`charkha models list {{ $labels.model }}`, `charkha release history {{ $labels.model }}`.",
            fires={f"{swaps}{{{_JOB},{_MODEL}}}": "0x65 2x10"},
            rests={f"{swaps}{{{_JOB},{_MODEL}}}": "2x75"},
        ),
        Alert(
            name="CharkhaRegistryUnreachable",
            about="versions",
            severity="warning",
            expression=f"{registry} == 0",
            lasting="10m",
            summary="The registry does not answer the model server",
            description="What is served stays as it is; a promotion or a rollback will not arrive.",
            action="See that the address of `[tracking] uri` answers: `charkha doctor`.",
            fires={f"{registry}{{{_JOB},{_MODEL}}}": "0x70"},
            rests={f"{registry}{{{_JOB},{_MODEL}}}": "1x70"},
        ),
        Alert(
            name="CharkhaLedgerUnreachable",
            about="versions",
            severity="warning",
            expression=f"{ledger} == 0",
            lasting="10m",
            summary="The ledger does not answer the model server",
            description="Drift, performance and releases on the boards are those that were read last.",
            action="See that the ledger's database answers: `charkha doctor`.",
            fires={f"{ledger}{{{_JOB},{_MODEL}}}": "0x70"},
            rests={f"{ledger}{{{_JOB},{_MODEL}}}": "1x70"},
        ),
    )


def inputs(smallest_share: float, least_rows: int) -> tuple[Alert, ...]:
    """Return the alerts on what comes in and goes out, looked at as it passes."""
    excess = "column:charkha_input_values:excess_1h"
    enough = (
        "and on (job, model, variant) sum by (job, model, variant) "
        f'(increase(charkha_rows_examined_total{{role="live"}}[1h])) >= {least_rows}'
    )
    rows = f'charkha_rows_examined_total{{{_JOB},{_MODEL},variant="champion",role="live"}}'
    values = "charkha_input_values_total"
    reference = "charkha_input_reference_share"

    def column(what: str) -> str:
        return f'{{{_JOB},{_MODEL},variant="champion",column="area",is="{what}"}}'

    median = "variant:charkha_prediction_value:median_1h"
    told = "charkha_prediction_reference"
    bucket = f'charkha_prediction_value_bucket{{{_JOB},{_VARIANT},role="live",le='
    outside = " or ".join(
        f"{median} {sign} on (job, model, version) group_left () "
        f'max by (job, model, version) ({told}{{share="{share}"}})'
        for sign, share in (("<", "0.05"), (">", "0.95"))
    )
    bounds = {f'{told}{{{_JOB},{_VERSION},share="{q}"}}': v for q, v in
              (("0.05", "10x70"), ("0.95", "100x70"))}  # fmt: skip
    check = (
        "`charkha monitor check {{ $labels.model }} --since 6h` says which columns, and how far."
    )
    return (
        Alert(
            name="CharkhaInputsBroken",
            about="inputs",
            severity="warning",
            expression=f'{excess}{{is=~"missing|out_of_range|new_category"}} > '
            f"{smallest_share:g}\n{enough}",
            lasting="10m",
            summary="{{ $labels.column }} of {{ $labels.model }} is often {{ $labels.is }}",
            description="{{ $value | humanizePercentage }} more of the rows than in training, in the "
            "last hour.",
            action=f"Ask who sends the column. {check}",
            fires={
                rows: "0+60x70",
                f"{values}{column('missing')}": "0+30x70",
                f"{reference}{column('missing')}": "0.01x70",
            },
            rests={
                rows: "0+60x70",
                f"{values}{column('missing')}": "0+30x70",
                f"{reference}{column('missing')}": "0.5x70",
            },
        ),
        Alert(
            name="CharkhaInputsShifted",
            about="inputs",
            severity="info",
            expression=f'abs({excess}{{is="above_median"}}) > 0.2\n{enough}',
            lasting="30m",
            summary="{{ $labels.column }} of {{ $labels.model }} has moved",
            description="The part of the rows above the median of training has changed by "
            "{{ $value | humanizePercentage }} of the rows, in the last hour. No test: a look as they pass.",
            action=check,
            fires={
                rows: "0+60x100",
                f"{values}{column('above_median')}": "0+55x100",
                f"{reference}{column('above_median')}": "0.5x100",
            },
            rests={
                rows: "0+60x100",
                f"{values}{column('above_median')}": "0+33x100",
                f"{reference}{column('above_median')}": "0.5x100",
            },
            after="95m",
        ),
        Alert(
            name="CharkhaPredictionsShifted",
            about="inputs",
            severity="warning",
            expression=f"({outside})\n{enough}",
            lasting="15m",
            summary="{{ $labels.model }}@{{ $labels.version }} predicts other values than it did",
            description="The median of the last hour's predictions, {{ $value | humanize }}, lies where "
            "only one in twenty of the held-out ones did.",
            action=f"{check} `charkha why PREDICTION_ID` tells the story of one.",
            fires={rows: "0+60x70", **bounds, f'{bucket}"10.0"}}': "0x70",
                   f'{bucket}"200.0"}}': "0x70", f'{bucket}"300.0"}}': "0+60x70",
                   f'{bucket}"+Inf"}}': "0+60x70"},
            rests={rows: "0+60x70", **bounds, f'{bucket}"10.0"}}': "0x70",
                   f'{bucket}"100.0"}}': "0+60x70", f'{bucket}"+Inf"}}': "0+60x70"},
        ),
    )  # fmt: skip


def verdicts(windows_in_a_row: int) -> tuple[Alert, ...]:
    """Return the alerts on drift, performance and the loop."""
    windows, worse = "charkha_drift_windows_in_a_row", "charkha_performance_worse"
    measured = "charkha_performance_windows_in_a_row"
    end = "charkha_drift_window_end_timestamp_seconds"
    turns = "charkha_loop_turns"
    about = "{{ $labels.model }}@{{ $labels.version }}"
    return (
        Alert(
            name="CharkhaDrift",
            about="verdicts",
            severity="warning",
            expression=f"({windows} >= {windows_in_a_row})\n{_ANSWERS}",
            lasting="1m",
            summary=f"What {about} is asked has drifted",
            description="A column differs from training in {{ $value }} windows in a row, by more than "
            "chance and by enough to matter.",
            action=f"`charkha monitor check {about}` says which columns, how far and since when; "
            f"`charkha monitor report {about}` draws it. If the world has changed, train again: "
            "`charkha run`. If the data is wrong, ask who sends it.",
            fires={f"{windows}{{{_JOB},{_VERSION}}}": f"{windows_in_a_row}x70", _HELD: "1x70"},
            rests={f"{windows}{{{_JOB},{_VERSION}}}": f"{windows_in_a_row}x70"},
        ),
        Alert(
            name="CharkhaPerformanceWorse",
            about="verdicts",
            severity="critical",
            expression=f"({worse} == 1)\n"
            f"and on (job, model, version) ({measured} >= {windows_in_a_row})\n{_ANSWERS}",
            lasting="1m",
            summary=f"{about} is worse than when it was made: {{{{ $labels.metric }}}}",
            description="Measured on ground truth, it is worse than on the held-out rows by more than chance, "
            f"in {windows_in_a_row} windows in a row.",
            action=f"`charkha monitor report {about}` shows since when and where; `charkha why {about}` "
            "what it was made from. Train again: `charkha run`; go back: "
            "`charkha models rollback {{ $labels.model }}`.",
            fires={
                f'{worse}{{{_JOB},{_VERSION},metric="rmse"}}': "1x70",
                f"{measured}{{{_JOB},{_VERSION}}}": f"{windows_in_a_row}x70",
                _HELD: "1x70",
            },
            rests={
                f'{worse}{{{_JOB},{_VERSION},metric="rmse"}}': "1x70",
                f"{measured}{{{_JOB},{_VERSION}}}": f"{windows_in_a_row - 1}x70",
                _HELD: "1x70",
            },
        ),
        Alert(
            name="CharkhaDriftNotChecked",
            about="verdicts",
            severity="warning",
            expression=f"(time() - {end} > 172800)\n{_ANSWERS}",
            lasting="1h",
            summary=f"Nobody looks whether {about} has drifted",
            description="The newest window that was checked ended {{ $value | humanizeDuration }} ago.",
            action=f"`charkha monitor check {about}`; have it run by itself: `charkha monitor watch "
            "{{ $labels.model }}`.",
            fires={f"{end}{{{_JOB},{_VERSION}}}": "-180000+0x90", _HELD: "1x90"},
            rests={f"{end}{{{_JOB},{_VERSION}}}": "-160000+0x90", _HELD: "1x90"},
            after="85m",
        ),
        Alert(
            name="CharkhaLoopFailed",
            about="verdicts",
            severity="warning",
            expression=f'increase({turns}{{outcome=~"failed.*|error.*"}}[1h]) > 0',
            summary="A turn of the loop of {{ $labels.model }} has failed",
            description="It was started by {{ $labels.trigger }} and ended with {{ $labels.outcome }}.",
            action="`charkha why {{ $labels.model }}`, `charkha runs` show where; `charkha loop "
            "{{ $labels.model }}` tries again.",
            fires={f'{turns}{{{_JOB},{_MODEL},trigger="drift",outcome="failed"}}': "1x30 2x45"},
            rests={f'{turns}{{{_JOB},{_MODEL},trigger="drift",outcome="failed"}}': "2x75"},
        ),
    )


def releases() -> tuple[Alert, ...]:
    """Return the alerts on releases."""
    active, overdue = "charkha_release_active", "charkha_release_overdue"
    looked, phase = "charkha_release_looked_timestamp_seconds", "charkha_release_phase"
    changed = "charkha_release_changed_timestamp_seconds"
    version = f"{{{_JOB},{_VERSION}}}"
    rolled = f'{phase}{{{_JOB},{_VERSION},phase="rolled back"}}'
    about = "{{ $labels.model }}@{{ $labels.version }}"
    same = "on (job, instance, model, version)"
    return (
        Alert(
            name="CharkhaReleaseStuck",
            about="releases",
            severity="warning",
            expression=f"({overdue} == 1)\nor\n"
            f"((time() - {looked} > 900) and {same} ({active} == 1))",
            lasting="1m",
            summary=f"The release of {about} does not go on",
            description="Its time is over and a person has to decide, or no controller has looked at it "
            "for 15 minutes. Traffic stays as it is.",
            action="`charkha release status {{ $labels.model }}` says where it is, and with --watch goes "
            "on with it; `charkha release promote {{ $labels.model }}` or `abort` decides.",
            fires={f"{looked}{version}": "0x70", f"{active}{version}": "1x70"},
            rests={f"{looked}{version}": "0x70", f"{active}{version}": "0x70"},
        ),
        Alert(
            name="CharkhaReleaseRolledBack",
            about="releases",
            severity="warning",
            expression=f'({phase}{{phase="rolled back"}} == 1)\n'
            f"and {same} (time() - {changed} < 3600)",
            summary=f"{about} was rolled back",
            description="The judge found it worse than the version before, which answers again.",
            action="`charkha release history {{ $labels.model }}` and "
            f"`charkha why {about}` have the reason and its numbers.",
            fires={rolled: "1x70", f"{changed}{version}": "3000x70"},
            rests={rolled: "1x70", f"{changed}{version}": "0x70"},
        ),
    )
