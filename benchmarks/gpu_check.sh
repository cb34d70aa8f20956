#!/usr/bin/env bash
# Everything a GPU can say about the Triton kernels, in one command of less than ten minutes, offline.
#
#   bash benchmarks/gpu_check.sh [FOLDER]     logs and results go to FOLDER (default: work_dirs/gpu_check)
#
# Needs a Python with torch, triton and pytest: $MMLK_PYTHON, or python3. First correctness on the GPU (all dtypes, memory
# layouts, CUDA graphs, a side stream, offsets beyond 2^31, every candidate tile size of one shape), then the benchmark,
# with predicted tiles and again with measured ones, and that of the op whose kernels share parameters. The benchmarks
# run even after a failed check, because they cost little more; the exit code is 1 if anything failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${MMLK_PYTHON:-python3}
out=${1:-work_dirs/gpu_check}
mkdir -p "$out"
# Compiled kernels and measured tiles stay with the results, so that a run starts from nothing unless told otherwise.
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$(mktemp -d)}
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=0

"$python" - <<'EOF' || exit 2
import sys
try:
    import torch
    import triton
except ImportError as error:
    sys.exit(f'gpu_check: {error}; name a Python that has it in MMLK_PYTHON')
if not torch.cuda.is_available():
    sys.exit('gpu_check: no CUDA device is visible to torch; run it on a machine with one')
print(torch.cuda.get_device_name(), '| torch', torch.__version__, '| triton', triton.__version__)
EOF

step() { # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    echo "== $name"
    if timeout "$seconds" "$@" >"$out/$name.log" 2>&1; then
        echo "   passed in $((SECONDS - start)) s"
    else
        echo "   FAILED (exit code $?) after $((SECONDS - start)) s; the end of $out/$name.log:"
        tail -n 25 "$out/$name.log" | sed 's/^/   | /'
        failed=1
    fi
}

# One line of JSON per check with its errors, then pytest for what needs more than one call. Most of the time goes into
# compiling, on one core: one process per dtype.
values=(float16 bfloat16 float32)
pids=()
for dtype in "${values[@]}"; do
    timeout 200 "$python" tests/ops/triton_checks.py --device cuda --dtype "$dtype" >"$out/values_$dtype.log" 2>&1 &
    pids+=($!)
done
for i in "${!pids[@]}"; do
    wait "${pids[$i]}" || { echo "== values ${values[$i]}: FAILED (exit code $?)"; failed=1; }
done
cat "$out"/values_*.log >"$out/values.log"
"$python" - "$out/values.log" <<'EOF'
import json, sys
worst, failures, checks = {}, [], 0
for line in open(sys.argv[1]):
    if not line.startswith('{'):
        continue
    row = json.loads(line)
    checks += 1
    if 'failure' in row:
        failures.append(f"{row['check']}: {row['failure'][:160]}")
    for name, error in row.get('errors', {}).items():
        key = row['check'].rpartition('-')[2], name
        worst[key] = max(worst.get(key, (0.0, '')), (error, row['check']))
for (dtype, name), (error, check) in sorted(worst.items()):
    print(f'   worst relative error {dtype:>18} {name:<12} {error:.2e}  ({check})')
print('\n'.join([f'== values: {checks} checks, {len(failures)} failed', *('   ' + failure for failure in failures)]))
EOF
step gpu_tests 90 "$python" -m pytest tests/ops/test_triton.py -q -p no:cacheprovider -k 'TestGpu and not on_gpu'
step benchmark 150 "$python" tools/benchmark_ops.py --device cuda --quick --json "$out/ops.json"
MMLK_TRITON_AUTOTUNE=1 step benchmark_tuned 100 "$python" tools/benchmark_ops.py --device cuda --quick \
    --json "$out/ops_tuned.json"
# The first stage of PeLK with K = 51 and K = 101.
step benchmark_peripheral 55 "$python" tools/benchmark_ops.py --op peripheral --device cuda --quick --shapes 'T s1 @512' \
    --json "$out/ops_peripheral.json"
cp "$TRITON_CACHE_DIR/mmlk_tiles.json" "$out/" 2>/dev/null
for log in benchmark benchmark_tuned benchmark_peripheral; do
    echo "== $log"
    tail -n 60 "$out/$log.log"
done
exit "$failed"
