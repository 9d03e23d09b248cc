#!/usr/bin/env bash
# The matched run: our program and the official PyTorch code on the same tokens. See README.md beside it.
#
#   scripts/matched_run/run.sh PART...      all of: prepare ours same-weights own-weights compare
#
#   prepare        our initial weights (a checkpoint at step 0) and the samples of the run; what is there already stays
#   ours           trains ours from those weights
#   same-weights   trains the official model from those weights
#   own-weights    trains the official model from its own initialisation
#   compare        prints both ratios; exit status 1 if one is over 1.005
#
# Environment, with defaults: PROGRAMS=build/release/bin (or a bundle with its `run`), OFFICIAL=.bundle/data/official, DATA=.bundle/data/eltec,
# CONFIG=scripts/matched_run/126M.yaml, RUNS=runs/matched, PYTHON=python3, DEVICE=cuda, OVERRIDES= (key=value ... for moeut-train)
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PROGRAMS:=build/release/bin}" "${OFFICIAL:=.bundle/data/official}" "${DATA:=.bundle/data/eltec}" "${PYTHON:=python3}" "${DEVICE:=cuda}"
: "${CONFIG:=scripts/matched_run/126M.yaml}" "${RUNS:=runs/matched}" "${OVERRIDES:=}"
readonly ours=$RUNS/ours weights=$RUNS/ours/checkpoints/step-00000000/model.safetensors resolved=$RUNS/initial.yaml

program() {
  local name=$1
  shift
  if [[ -x $PROGRAMS/run ]]; then "$PROGRAMS/run" "$name" "$@"; else "$PROGRAMS/$name" "$@"; fi
}

moeut_train() {
  # shellcheck disable=SC2086  # several words, each an override
  program moeut-train "$CONFIG" run.dir="$ours" device="$DEVICE" data.train="$DATA/train" $OVERRIDES "$@"
}

# setting SECTION.KEY: a value of the resolved configuration
setting() {
  "$PYTHON" -c 'import functools, sys, yaml
print(functools.reduce(lambda part, key: part[key], sys.argv[2].split("."), yaml.safe_load(open(sys.argv[1]))))' "$resolved" "$1"
}

# A run whose time is over at once saves what it began with, and says with status 3 that it was stopped.
save_initial_weights() {
  local status=0
  moeut_train train.max_time=1e-9 || status=$?
  ((status == 3)) || { echo "run.sh: moeut-train ended with status $status, 3 was expected" >&2; exit 1; }
  cp "$ours/config.yaml" "$resolved"
}

prepare() {
  mkdir -p "$RUNS"
  [[ -f $weights && -f $resolved ]] || save_initial_weights
  [[ -f $RUNS/samples.npy ]] && return
  program moeut-data export-samples --seed "$(setting seed)" --seq-len "$(setting train.seq_len)" \
    --count $(($(setting train.steps) * $(setting train.batch_size))) --output "$RUNS/samples.npy" "$(setting data.train)"
}

train_official() {
  local name=$1
  shift
  "$PYTHON" scripts/matched_run/official_training.py --official "$OFFICIAL" --config "$resolved" --samples "$RUNS/samples.npy" \
    --device "$DEVICE" --output "$RUNS/official-$name.jsonl" "$@"
}

(($# > 0)) || { sed -n '2,13p' "$0" | cut -c3-; exit 2; }
for part in "$@"; do
  case $part in
    prepare) prepare ;;
    ours) moeut_train ;;
    same-weights) train_official same-weights --weights "$weights" ;;
    own-weights) train_official own-weights ;;
    compare)
      "$PYTHON" scripts/matched_run/compare.py "$ours/metrics.jsonl" same-weights="$RUNS/official-same-weights.jsonl" \
        own-weights="$RUNS/official-own-weights.jsonl"
      ;;
    *) echo "run.sh: unknown part '$part'" >&2; exit 2 ;;
  esac
done
