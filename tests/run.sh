#!/usr/bin/env bash
# What CI runs: installs what is missing, builds and runs every test in stages, each in build/<stage> by the preset of
# that name, and prints the time of each stage, what was skipped and the totals. A failure does not stop later stages.
# usage: run.sh [--no-install] [--stage NAME]...
set -u
cd "$(dirname "$0")/.." || exit 1

stages=(dev tsan release mpi gpu checks bare)
asked=()
install=yes
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=no ;;
    --stage)
      [ $# -gt 1 ] || { echo "--stage needs one of: ${stages[*]}" >&2; exit 2; }
      asked+=("$2")
      shift ;;
    *) sed -n '2,4s/^# //p' "$0"; echo "stages: ${stages[*]}"; [ "$1" = --help ]; exit $(($? * 2)) ;;
  esac
  shift
done
for stage in ${asked[@]+"${asked[@]}"}; do
  [[ " ${stages[*]} " == *" $stage "* ]] || { echo "no stage '$stage'; there are: ${stages[*]}" >&2; exit 2; }
done
[ ${#asked[@]} -eq 0 ] || stages=("${asked[@]}")

passed=0 failed=0 skipped=0 failures=() skips=() times=()
pass() { passed=$((passed + 1)); echo "passed: $1"; }
fail() { failed=$((failed + 1)); failures+=("$1"); echo "FAILED: $1"; }
skip() { skipped=$((skipped + 1)); skips+=("$1"); echo "skipped: $1"; }

if [ $install = yes ]; then
  tests/install.sh g++ cmake ninja-build python3 catch2 libeigen3-dev libcereal-dev zlib1g-dev libopenmpi-dev openmpi-bin \
    dataset-fashion-mnist clang-16 libclang-rt-16-dev clang-tidy-16 clang-format-16 doxygen git locales \
    libtbb-dev libboost-dev liblmdb-dev iproute2 || fail "installing what is missing"
fi

cores=$(nproc)
room=$(($(awk '/MemAvailable/ {print $2}' /proc/meminfo) / 3000000))  # the largest units take 3 GB with sanitizers
jobs=$((room < 1 ? 1 : room < cores ? room : cores))
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# build_and_test PRESET [WRAPPER...]: configures, builds all that builds, runs ctest, and adds its counts to ours.
build_and_test() {
  local preset=$1 log generator=()
  shift
  mkdir -p "build/$preset"
  [ -f "build/$preset/Makefile" ] || ! command -v ninja >/dev/null || generator=(-G Ninja)
  [ ${#generator[@]} -gt 0 ] || generator=(-G "Unix Makefiles")
  # The lines that matter of a configure run: what was not found, and so is not built.
  log=build/$preset/configure.log
  if ! cmake --preset "$preset" "${generator[@]}" -DCADRE_BUILD_TESTS=ON >"$log" 2>&1; then
    cat "$log"
    fail "$preset: configure"
    return
  fi
  grep -E ' not found' "$log" | sed 's/^-- //'
  log=build/$preset/build.log
  if ! "$@" cmake --build "build/$preset" -j "$jobs" -- -k $([ "${generator[1]}" = Ninja ] && echo 0) >"$log" 2>&1; then
    grep -E -A12 'error|FAILED|undefined reference' "$log" | head -150
    fail "$preset: build (all of it: $log)"
  fi
  log=build/$preset/ctest.log
  # Tests of rooms wait a third of their time, for the disk, for processes and for each other; ranks and the main job compute.
  local at_once=$jobs
  [[ " release mpi checks " == *" $preset "* ]] || at_once=$(((jobs * 3 + 1) / 2))
  "$@" ctest --preset "$preset" -j "$at_once" >"$log" 2>&1
  local status=$?
  grep -vE '^ *Start +[0-9]+:|^ *[0-9]+/[0-9]+ Test +#.* Passed +|sec\*proc|Label Time Summary' "$log" | cat -s
  local total not_passed not_run
  total=$(sed -nE 's/.* tests failed out of ([0-9]+)$/\1/p' "$log")
  not_passed=$(sed -nE 's/.* ([0-9]+) tests failed out of [0-9]+$/\1/p' "$log")
  not_run=$(grep -cE '^\s+[0-9]+ - .* \(Skipped\)$' "$log")
  : "${total:=0}" "${not_passed:=0}"
  passed=$((passed + total - not_passed - not_run)) failed=$((failed + not_passed)) skipped=$((skipped + not_run))
  while read -r line; do failures+=("$preset: $line"); done < <(sed -nE '/tests FAILED:/,$s/^\s+[0-9]+ - (.*)/\1/p' "$log")
  while read -r line; do skips+=("$preset: $line"); done < <(sed -nE 's/^\s+[0-9]+ - (.*) \(Skipped\)$/\1/p' "$log")
  [ $status -eq 0 ] || [ "$not_passed" -gt 0 ] || fail "$preset: ctest"
}

# The main job: its last line is a promise. ACCURACY is what it must reach, times 1000.
main_job() {
  local what=$1 backend=$2 accuracy=$3 out
  shift 3
  out=$(mktemp -d)
  timeout -k 2 600 "$@" --run-dir "$out/run" >"$out/log" 2>"$out/errors"  # mpirun mixes the two in any order
  local status=$? last
  last=$(tail -n 1 "$out/log")
  if [ $status -eq 0 ] && [[ $last =~ ^test_accuracy=0\.([0-9]{3})[0-9]*\ images_per_second=[0-9]+\ workers=[0-9]+\ backend=$backend\ seconds=[0-9.]+$ ]] &&
    [ "$((10#${BASH_REMATCH[1]}))" -ge "$accuracy" ]; then
    echo "$last"
    pass "release: $what"
  else
    tail -n 30 "$out/log" "$out/errors"
    fail "release: $what (exit code $status)"
  fi
  rm -rf "$out"
}

stage_dev() { build_and_test dev; }
stage_tsan() {
  # Clang 16's runtime knows the address layouts of up to 28 random bits.
  local fixed=()
  [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)" -le 28 ] || fixed=(setarch -R)
  build_and_test tsan ${fixed[@]+"${fixed[@]}"}
}
stage_release() {
  build_and_test release
  local program=build/release/examples/fashion_mnist
  if [ ! -x $program ]; then
    [ ! -e examples/fashion_mnist ] || fail "release: the main job is not built"
  elif [ ! -e /usr/share/datasets/fashion-mnist ]; then
    skip "release: the main job needs Debian's package dataset-fashion-mnist"
  else
    main_job "the main job as it is, with two threads" threads 885 $program --workers 2
    if command -v mpirun >/dev/null; then
      main_job "the main job with two ranks, small" mpi 700 mpirun --bind-to none --oversubscribe -n 2 $program --trials 4 --epochs 1
    else
      skip "release: the main job with two ranks needs MPI"
    fi
  fi
}
stage_mpi() { build_and_test mpi; }
stage_gpu() {
  build_and_test gpu
  # The cache has no CUDA compiler where CMake found no toolkit.
  grep -q '^CMAKE_CUDA_COMPILER:' build/gpu/CMakeCache.txt || skip "gpu: CUDA not found"
}
stage_checks() { build_and_test checks; }
stage_bare() { build_and_test bare; }

began=$SECONDS
for stage in "${stages[@]}"; do
  start=$SECONDS
  printf '\n==== %s: %s\n' "$stage" "$(sed -nE "/\"name\": \"$stage\", \"inherits\"/,/displayName/s/.*\"displayName\": \"(.*)\".*/\1/p" CMakePresets.json)"
  "stage_$stage"
  times+=("$stage $((SECONDS - start)) s")
  echo "---- $stage took $((SECONDS - start)) s"
done

echo
printf '%s\n' "${times[@]}" "all $((SECONDS - began)) s"
[ ${#skips[@]} -eq 0 ] || printf 'skipped: %s\n' "${skips[@]}"
[ ${#failures[@]} -eq 0 ] || printf 'FAILED: %s\n' "${failures[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
