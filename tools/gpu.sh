#!/usr/bin/env bash
# Everything that is measured on a GPU, in under eight minutes: the experiments of configs/mini against their baseline, then the
# four benchmarks beside their peers. Prints one table and writes results/gpu/NAME.json; NAME is the driver's name of the device.
#
#     cargo build --release --workspace --bins --examples
#     tools/gpu.sh [--device cuda:0] [--bin target/release] [--python python3] [--out results/gpu] [--tiny]
#
# Needs a Python with torch, transformers, diffusers and scipy for the peers. LD_LIBRARY_PATH must lead to a libtorch for CUDA, such
# as the folder torch/lib of that Python. Each part may fail without the others; the table says which did.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
device=cuda:0 bin=target/release python=python3 out=results/gpu
# With --tiny, small networks: a minute on a CPU, to check the script.
tiny=() flux=(--repeat 3) flux_peer=(--repeat 3 --sizes 512) vit=(--batch 64 --counts 64,320 --repeat 1)
while [ $# -gt 0 ]; do
    case $1 in
        --tiny)
            tiny=(--tiny) flux=(--repeat 1) flux_peer=(--repeat 1) vit=(--batch 4 --counts 4,12)
            shift && continue
            ;;
        --device) device=$2 ;;
        --bin) bin=$2 ;;
        --python) python=$2 ;;
        --out) out=$2 ;;
        *) echo "usage: tools/gpu.sh [--device cuda:0] [--bin DIR] [--python PYTHON] [--out DIR]" >&2 && exit 2 ;;
    esac
    shift 2
done
parts=$(mktemp -d)
export device bin parts
trap 'rm -rf "$parts"' EXIT

part() {
    local name=$1 started=$SECONDS
    shift
    echo "== $name"
    if timeout 200 "$@"; then echo "== $name: $((SECONDS - started)) s"; else echo "== $name: failed with $? after $((SECONDS - started)) s"; fi
    echo "$name $((SECONDS - started))" >>"$parts/seconds"
}

mini() {
    "$bin/tokenrank" run configs/mini/*.toml --limit 24 --device "$device" --out "$parts/mini" >"$parts/mini.log" 2>&1 || {
        tail -30 "$parts/mini.log" && return 1
    }
    "$bin/tokenrank" compare "$parts/mini" eval/baselines/mini-quick.json --markdown "$parts/mini.md"
}

export -f mini
part mini bash -c mini
part flux "$bin/examples/flux_bench" "${tiny[@]}" --device "$device" "${flux[@]}" --out "$parts/flux.json"
part flux-peer "$python" tools/bench_flux_diffusers.py "${tiny[@]}" --device "$device" "${flux_peer[@]}" --out "$parts/flux-peer.json"
part sd "$python" tools/bench_sd_diffusers.py "${tiny[@]}" --device "$device" --repeat 3 --ours "$bin/examples/sd_bench" --out "$parts/sd.json"
part diffseg "$python" tools/bench_diffseg_numpy.py --device "$device" --ours "$bin/examples/diffseg_bench" --threads 8 --out "$parts/diffseg.json"
part vit "$python" tools/bench_vit_transformers.py "${tiny[@]}" --device "$device" "${vit[@]}" --ours "$bin/tokenrank" --out "$parts/vit.json"
"$python" tools/gpu_table.py "$parts" "$out"
