#!/bin/sh
# Pipeline parity of parity, a task after another.
# Written by `charkha render shell`, which leaves it alone once somebody has changed it. sha256:
# usage: sh parity.sh [RUN [--param NAME=VALUE]...], in the project's folder
run=${1:-$(date -u +%Y%m%d-%H%M%S)-$$}
[ $# -gt 0 ] && shift
charkha step start --run "$run" --engine shell --shape 822d478eafaa "$@" || exit
charkha step run --run "$run" --step numbers &&
charkha step run --run "$run" --step squared &&
charkha step run --run "$run" --step shaky &&
charkha step run --run "$run" --step halved --step bounds &&
charkha step run --run "$run" --step slow
charkha step finish --run "$run"  # its exit code is the run's
