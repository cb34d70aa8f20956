#!/usr/bin/env bash
# Tests a checkpoint on several GPUs (or, without any, in several CPU processes) of one or more machines, by torchrun.
set -euo pipefail
if [ $# -lt 3 ] || [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    cat >&2 <<'EOF'
Usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]

GPUS is the number of processes on this machine. For several machines set NNODES, NODE_RANK (0 on the first),
MASTER_ADDR (address of the first) and PORT (default 29500; on one machine a free one) and run this on each of them.
MMLK_PYTHON names the Python to use (default: python).
EOF
    exit 2
fi
case $3 in
    '' | *[!0-9]* | 0*)
        echo "dist_test.sh: GPUS must be a positive whole number, got '$3' (usage: CONFIG CHECKPOINT GPUS [arguments])" >&2
        exit 2
        ;;
esac
config=$1 checkpoint=$2 gpus=$3
shift 3

exec "${MMLK_PYTHON:-python}" -m mmlk.cli.launch \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-0}" \
    --nproc-per-node="$gpus" \
    "$(dirname -- "${BASH_SOURCE[0]}")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
