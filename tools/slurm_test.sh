#!/usr/bin/env bash
# Tests a checkpoint on a Slurm cluster, one process per GPU.
set -euo pipefail
if [ $# -lt 4 ] || [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    cat >&2 <<'EOF'
Usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]

Environment variables: GPUS (in all, default 8), GPUS_PER_NODE (default: GPUS, at most 8), CPUS_PER_TASK (default 5),
SRUN_ARGS (more arguments for srun, separated by blanks), MMLK_PYTHON (default: python).
EOF
    exit 2
fi
partition=$1 job_name=$2 config=$3 checkpoint=$4
shift 4
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}

# SRUN_ARGS is split into words on purpose.
# shellcheck disable=SC2086
exec srun -p "$partition" \
    --job-name="$job_name" \
    --gres="gpu:$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${MMLK_PYTHON:-python}" -u "$(dirname -- "${BASH_SOURCE[0]}")/test.py" \
    "$config" "$checkpoint" --launcher slurm "$@"
