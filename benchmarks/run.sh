#!/usr/bin/env bash
# Builds the benchmarks in Release for this machine's processor, installs the peers, runs those whose names begin as given
# ("async" runs async_*; all, without a name), and writes one Markdown table: build/benchmarks.md. A benchmark that fails
# does not stop the others.
# usage: run.sh [--no-install] [NAME]...
set -eu
cd "$(dirname "$0")/.."

all=()
for source in benchmarks/*.cpp; do all+=("$(basename "$source" .cpp)"); done
named=()
install=yes
for argument in "$@"; do
  [ "$argument" != --no-install ] || { install=no; continue; }
  before=${#named[@]}
  for name in "${all[@]}"; do [[ "$name" != "$argument"* ]] || named+=("$name"); done
  [ ${#named[@]} -gt "$before" ] || {
    sed -n '2,5s/^# //p' "$0"
    echo "benchmarks: ${all[*]}"
    [ "$argument" = --help ] && exit 0 || exit 2
  }
done
[ ${#named[@]} -gt 0 ] || named=("${all[@]}")

[ $install = no ] || tests/install.sh g++ cmake ninja-build libeigen3-dev libcereal-dev zlib1g-dev libopenmpi-dev \
  openmpi-bin iproute2 python3-torch libopenblas0-pthread libtbb-dev libboost-dev liblmdb-dev python3-distributed \
  python3-venv
mkdir -p build/benchmarks
if [ $install = yes ] && [[ " ${named[*]} " == *" actor "* ]] && ! build/ray/bin/python3 -c 'import ray' 2>/dev/null; then
  { python3 -m venv build/ray && build/ray/bin/pip install -q ray numpy; } >build/benchmarks/ray.log 2>&1 ||
    echo "ray cannot be installed here (build/benchmarks/ray.log says why): only its published figures are shown" >&2
fi
cmake --preset release -G Ninja -DCADRE_BUILD_BENCHMARKS=ON -DCADRE_BUILD_TESTS=OFF -DCADRE_BUILD_EXAMPLES=OFF \
  -B build/benchmarks >build/benchmarks/run.log
cmake --build build/benchmarks --target "${named[@]/#/benchmark_}" >>build/benchmarks/run.log || {
  cat build/benchmarks/run.log
  exit 1
}

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=()
ranks=(mpirun --bind-to none --oversubscribe -n 2)
run() { timeout -k 2 600 "$@" >>"build/benchmarks/$name.md" || failed+=("$name"); }
for name in "${named[@]}"; do
  program="build/benchmarks/benchmarks/benchmark_$name"
  : >"build/benchmarks/$name.md"
  case "$name" in
    all_reduce | actor_link) run "${ranks[@]}" "$program" ;;
    actor_deaths) run mpirun --enable-recovery --bind-to none --oversubscribe -n 3 "$program" ;;
    actor)
      run "$program"
      run "${ranks[@]}" "$program"
      if tests/mpi/hosts.sh check; then run tests/mpi/hosts.sh 2 1 -n 2 "$program"; fi
      ;;
    *) run "$program" ;;
  esac
done
{
  echo "$(date -u +%F), $(lscpu | sed -n 's/^Model name: *//p') x $(nproc), $(g++ --version | head -1)," \
    "load $(cut -d' ' -f1 /proc/loadavg)"
  echo
  for name in "${named[@]}"; do cat "build/benchmarks/$name.md"; done |
    awk '/^\| benchmark \|/ || /^\|---/ { if (seen[$0]++) next } { print }'
} | tee build/benchmarks.md
awk -F' [|] ' '/ yes \|$/ { met++ } / \*\*no\*\* \|$/ { missed++ } END { printf "targets met: %d of %d\n", met, met + missed }' build/benchmarks.md
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
