#!/usr/bin/env bash
# From a bare machine to a trained, validated, fused and drawn network: environment, PeLK-T UperNet on generated data,
# report.
if [ -z "${BASH_VERSION:-}" ]; then
    echo 'Run this with bash: bash tools/quickstart.sh' >&2
    exit 2
fi
set -euo pipefail
unset CDPATH
script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null || printf '%s' "${BASH_SOURCE[0]}")
root=$(cd -P -- "$(dirname -- "$script")/.." && pwd)
# shellcheck source=tools/_environment.sh
. "$root/tools/_environment.sh"

config=configs/ade20k/upernet_pelk_t.py
work_dir=$root/work_dirs/quickstart

usage() {
    cat <<EOF
Usage: bash tools/quickstart.sh [--iterations N] [--work-dir DIR]

Makes or reuses the environment .venv (the first time about 3 minutes and 5.3 GB, later a second), trains UperNet with
the PeLK-T backbone on a small generated data set, validates it, fuses it and tests the fused network, draws its
effective receptive field, and ends with a table of results and drawn predictions.
Needs no data, no weights and no GPU. Works from any folder.

Options:
  --iterations N   training iterations (default: that of \`tools/train.py --demo\`)
  --work-dir DIR   where the results go (default: work_dirs/quickstart in the repository); emptied at the start

Examples:
  bash tools/quickstart.sh
  bash tools/quickstart.sh --iterations 5
  bash tools/quickstart.sh --work-dir /tmp/pelk
  MMLK_PYTHON=python bash tools/quickstart.sh      # in the active environment, as it is

$environment_help
EOF
}

usage_error() {
    fail 2 "$1" "Usage: bash tools/quickstart.sh [--iterations N] [--work-dir DIR]; --help says more."
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --iterations=* | --work-dir=*)
            option=${1%%=*} value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            ;;
        --iterations)
            case ${2:-} in
                '' | *[!0-9]* | 0*) usage_error "--iterations expects a positive whole number, got '${2:-}'." ;;
            esac
            export MMLK_DEMO_ITERS=$2
            shift 2
            ;;
        --work-dir)
            [ -n "${2:-}" ] || usage_error '--work-dir expects a folder.'
            work_dir=$(absolute_path "$2")
            shift 2
            ;;
        *) usage_error "unknown argument '$1'." ;;
    esac
done

# A run starts afresh, but only a folder that an earlier run made is ever emptied.
marker=$work_dir/.mmlk-quickstart
if [ -e "$work_dir" ] && [ ! -e "$marker" ] && { [ ! -d "$work_dir" ] || [ -n "$(ls -A "$work_dir")" ]; }; then
    fail 2 "$work_dir exists and was not made by quickstart.sh; it is left as it is." \
        "Choose a new folder:  bash tools/quickstart.sh --work-dir DIR"
fi

summary=''
# stage NAME COMMAND...: run one stage and note how long it took.
stage() {
    local name=$1 start=$SECONDS status=0
    shift
    printf '\n'
    say "== $name =="
    "$@" || status=$?
    if [ "$status" != 0 ]; then
        fail "$status" "the stage '$name' ended with status $status; the lines above say why." \
            "Once that is mended, run the same command again."
    fi
    summary=$summary$(printf '  %-15s %4d s' "$name" "$((SECONDS - start))")$'\n'
}

say '== environment =='
mmlk_prepare
summary=$(printf '  %-15s %4d s' environment "$SECONDS")$'\n'

cd -- "$root"
mkdir -p -- "$work_dir" 2>/dev/null || fail 2 "the folder $work_dir cannot be made." "Choose another:  --work-dir DIR"
empty_folder "$work_dir"
: >"$marker"

stage 'training' "$python" tools/train.py "$config" --demo --work-dir "$work_dir"
# In folders of their own: the work directory is that of the training run.
trained=$work_dir/$(basename -- "$config") checkpoint=$(cat -- "$work_dir/last_checkpoint")
fused=$work_dir/fused/upernet_pelk_t
stage 'fusing' "$python" tools/reparam.py "$trained" "$checkpoint" "$fused.pth" --sizes 64 75x53 --latency-size 128
stage 'testing fused' "$python" tools/test.py "$fused.py" "$fused.pth" --work-dir "$work_dir/fused/test" \
    --out "$work_dir/fused/metrics.json"
stage 'receptive field' "$python" tools/visualize_erf.py "$fused.py" "$fused.pth" --out "$work_dir/erf/erf.png" \
    --size 256 --num-images 4
stage 'report' "$python" tools/quickstart_report.py "$work_dir"

printf '\n%s  %-15s %4d s\n' "$summary" total "$SECONDS"
cat <<EOF

Results: $work_dir

What to try next (from $root):
  source $(dirname -- "$python")/activate
  python tools/train.py $config           # on ADE20K in data/ade/ADEChallengeData2016
  python tools/train.py CONFIG --demo     # any other config of configs/ on generated data
  python tools/test.py $fused.py $fused.pth
  bash tools/run_tests.sh
EOF
