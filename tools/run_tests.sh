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

case ${1:-} in
    -h | --help)
        cat <<EOF
Usage: bash tools/run_tests.sh [PYTEST ARGUMENTS]

Makes or reuses the environment .venv (the first time about 3 minutes and 5.3 GB, later a second) and runs the test
suite in it. Works from any folder; paths among the arguments are relative to the repository.

Examples:
  bash tools/run_tests.sh                          # everything
  bash tools/run_tests.sh tests/ops -k backward    # one folder, one word
  bash tools/run_tests.sh -x -vv --durations=0     # any argument of pytest
  MMLK_PYTHON=python bash tools/run_tests.sh       # in the active environment, as it is

$environment_help

Ends with pytest's own exit status; 2 also means that no environment could be made, with the reason above.
EOF
        exit 0
        ;;
esac

mmlk_prepare pytest
cd -- "$root"
exec "$python" -m pytest "$@"
