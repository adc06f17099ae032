#!/usr/bin/env bash
# Ten minutes of one large GPU: heads with three seeds, tuned encoders at three lambda2 and their
# control, and a joint model.
#
#     DATA=../shared/data/train ARCHIVE=polyp-archive OUT=out bash benchmarks/training/tasks_gpu.sh
#
# ARCHIVE has the training frames as .mvm files. `mvmic tasks train polyp --out RUN` writes one to
# RUN/archive; do that before, since encoding takes seconds of CPU time a frame. Everything runs at
# once, as one process leaves most of such a GPU idle. OUT receives heads, encoders and logs, each
# under 16 MiB. With SMOKE=1 each run takes one step or two. Without bfloat16 a CPU takes half an hour
# for that, most of it for the joint model.
set -euo pipefail
: "${DATA:?}" "${ARCHIVE:?}" "${OUT:?}"
device=${DEVICE:-$(python -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')}
if [ -n "${SMOKE:-}" ]; then
    seconds=9 minutes=0.01 steps=2 crop=(--crop 64)
else
    seconds=200 minutes=3 steps=8000 crop=()
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$OUT/heads" "$OUT/encoders" "$OUT/joint"

head_of() { # seed, options
    local seed=$1
    shift
    mvmic tasks train polyp --data "$DATA/polyp" --archive "$ARCHIVE" --out "$OUT/heads" \
        --cache "$work/cache" --steps "$steps" --seconds "$seconds" --seed "$seed" \
        --device "$device" "${crop[@]}" "$@"
}

tuned() { # lambda2
    printf '{"data": "%s", "minutes": %s, "crop": %s, "rates": [9, 36], "validate_every": 200}' \
        "$DATA" "$minutes" "$([ -n "${SMOKE:-}" ] && echo 128 || echo 320)" > "$work/encoder-$1.json"
    mvmic train --config "$work/encoder-$1.json" --encoder --task "$DATA/polyp" \
        --head "$OUT/heads/features-s16-seed0.safetensors" --lambda2 "$1" --out "$work/encoder-$1"
    cp "$work/encoder-$1"/*.encoder.safetensors "$OUT/encoders/lambda2-$1.encoder.safetensors"
    cp "$work/encoder-$1/validation.csv" "$OUT/encoders/lambda2-$1.csv"
}

joint() {
    sed -e "s|\"data\": [^,]*|\"data\": \"$DATA\"|" -e "s|\"minutes\": [^,]*|\"minutes\": $minutes|" \
        -e "s|\"start\": [^,]*|\"start\": \"$PWD/mvmic_codec/model/weights/mvmic-2c.safetensors\"|" \
        ${SMOKE:+-e "s|\"batch\": 32|\"batch\": 1|" -e "s|\"crop\": 384|\"crop\": 128|"} \
        benchmarks/training/mvmic-2c.json > "$work/joint.json"
    mvmic train --config "$work/joint.json" --task "$DATA/polyp" --lambda2 0.004 --out "$work/joint"
    cp "$work/joint"/*.csv "$OUT/joint"
    cp "$work/joint"/mvmic-2c.* "$OUT/joint" || echo "the joint model was not validated in time"
}

run() { # name, command
    local name=$1
    shift
    "$@" > "$OUT/$name.log" 2>&1 || { echo "$name failed:"; tail -n 3 "$OUT/$name.log"; }
}

for seed in 0 1 2; do
    run "features-$seed" head_of "$seed" &
    run "light-$seed" head_of "$seed" --input pixels &
    run "deep-$seed" head_of "$seed" --input pixels --stem deep &
done
run joint joint &
wait
# The head of seed 0 guides, so it is no judge.
for lambda2 in 0 0.001 0.004 0.016; do
    run "encoder-$lambda2" tuned "$lambda2" &
done
wait
rm -f "$OUT"/heads/*.checkpoint
ls -l "$OUT"/*
