# shellcheck shell=bash
# Shared by the shell scripts here: source it, then the working directory is the repository's root.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

bold=''; plain=''
if [[ -t 1 ]]; then bold=$'\e[1m'; plain=$'\e[0m'; fi

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Without a GPU the CUDA kernels are compiled to PTX alone, to see that they compile; machine code takes minutes more.
if ! nvidia-smi -L >/dev/null 2>&1; then export CUDAARCHS=${CUDAARCHS:-90a-virtual}; fi

# build PRESET [TARGET…]: configures (with the arguments in `configure`) and builds build/PRESET; says little unless it fails.
configure=()
build() {
  local preset=$1 log
  shift
  mkdir -p build
  log=build/$preset.log
  printf 'building %s (log: %s) …\n' "$preset" "$log"
  local begin=$SECONDS
  if ! { cmake --preset "$preset" "${configure[@]}" && cmake --build --preset "$preset" ${1:+--target "$@"}; } >"$log" 2>&1; then
    grep -nE -B 2 -A 12 'error:|Error|FAILED:|undefined reference' "$log" | head -n 80 >&2 || true
    printf '%s: building %s failed; all of it is in %s\n' "${0##*/}" "$preset" "$log" >&2
    return 1
  fi
  printf 'built in %d s\n' $((SECONDS - begin))
}
