#!/usr/bin/env bash
# Makes or reuses the environment, then runs the test suite.
if [ -z "${BASH_VERSION:-}" ]; then
    echo 'Run this with bash: bash tools/run_tests.sh' >&2
    exit 2
fi
set -euo pipefail
unset CDPATH
script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null || printf '%s' "${BASH_SOURCE[0]}")
root=$(cd -P -- "$(dirname -- "$script")/.." && pwd)
# shellcheck source=tools/_environment.sh
. "$root/tools/_environment.sh"

# What has to pass with the other family: what stands between it and mmlk, and a demo of every host.
family_tests='tests/compat tests/tools/test_segmentation_demo.py tests/tools/test_detection_demo.py
tests/tools/test_classification_demo.py'

usage() {
    cat <<EOF
Usage: bash tools/run_tests.sh [--family upstream|onedl] [PYTEST ARGUMENTS]

Makes or reuses the environment .venv (the first time about 3 minutes and 5.3 GB, later a second) and runs the test
suite in it. Works from any folder; paths among the arguments are relative to the repository.

Options:
  --family onedl   a second environment, .venv-onedl (as large as the first), with the maintained fork of OpenMMLab's
                   packages from requirements/lock-onedl.txt instead of the upstream ones; unless paths are given,
                   runs the compatibility tests and the demo of a few iterations of mmseg, mmdet and mmpretrain in it
  --family upstream   the packages of .venv; everything, as without this option

Examples:
  bash tools/run_tests.sh                          # everything
  bash tools/run_tests.sh tests/ops -k backward    # one folder, one word
  bash tools/run_tests.sh -x -vv --durations=0     # any argument of pytest
  bash tools/run_tests.sh -n 4                     # in four processes, for machines with more than two cores
  bash tools/run_tests.sh --family onedl           # the other family of packages
  bash tools/run_tests.sh --family onedl tests     # everything with it
  MMLK_PYTHON=python bash tools/run_tests.sh       # in the active environment, as it is

$environment_help
With --family onedl, -onedl is added to the name of MMLK_VENV, and MMLK_PYTHON has to hold packages of that family.

Ends with pytest's own exit status; 2 also means that no environment could be made, with the reason above.
EOF
}

family='' has_path=''
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --family=*)
            family=${1#*=}
            [ -n "$family" ] || family=nothing
            ;;
        --family)
            family=${2:-nothing}
            [ $# = 1 ] || shift
            ;;
        *)
            arguments+=("$1")
            case $1 in
                -*) ;;
                *) [ ! -e "$root/${1%%::*}" ] || has_path=yes ;;
            esac
            ;;
    esac
    shift
done
case $family in
    '' | upstream | onedl) ;;
    *) fail 2 "--family expects upstream or onedl, got '$family'." "For example:  bash tools/run_tests.sh --family onedl" ;;
esac

mmlk_prepare pytest
cd -- "$root"
if [ -n "$family" ]; then
    found=$("$python" -c 'from mmlk.compat.families import detect; print(detect().name)')
    [ "$found" = "$family" ] ||
        fail 2 "the environment of $python holds packages of the family $found, not $family." \
            "To let this script make one:  env -u MMLK_PYTHON -u MMLK_LOCK bash tools/run_tests.sh --family $family"
fi
if [ "$family" = onedl ] && [ -z "$has_path" ]; then
    # shellcheck disable=SC2206  # several words on purpose
    arguments=($family_tests ${arguments[@]+"${arguments[@]}"})
fi
exec "$python" -m pytest ${arguments[@]+"${arguments[@]}"}
