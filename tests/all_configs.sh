#!/usr/bin/env bash
# Makes or reuses the environment, then runs every config on demo data: see tests/all_configs.py.
set -euo pipefail
unset CDPATH
root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/_environment.sh
. "$root/tools/_environment.sh"

case ${1:-} in
    -h | --help) exec "${MMLK_PYTHON:-python3}" "$root/tests/all_configs.py" --help ;;
esac
mmlk_prepare
exec "$python" "$root/tests/all_configs.py" "$@"
