#!/usr/bin/env bash
# Builds the benchmarks in Release for this machine's processor, installs the peers, runs all of them, and writes one
# Markdown table: build/benchmarks.md.
# usage: run.sh [--no-install]
set -eu
cd "$(dirname "$0")/.."
[ "${1-}" = --no-install ] || tests/install.sh g++ cmake ninja-build libeigen3-dev libcereal-dev zlib1g-dev libopenmpi-dev \
  openmpi-bin python3-torch libopenblas0-pthread
cmake --preset release -G Ninja -DCADRE_NATIVE=ON -DCADRE_BUILD_BENCHMARKS=ON -DCADRE_BUILD_TESTS=OFF -B build/benchmarks >/dev/null
cmake --build build/benchmarks --target benchmark_train_step benchmark_all_reduce
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
programs=build/benchmarks/benchmarks
{
  $programs/benchmark_train_step
  OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 /usr/bin/python3 benchmarks/train_step_torch.py
  timeout -k 2 300 mpirun --bind-to none --oversubscribe -n 2 $programs/benchmark_all_reduce
  python3 benchmarks/compile_time.py
} | awk '/^\| benchmark/ || /^\|---/ { if (seen[$0]++) next } { print }' | tee build/benchmarks.md
