#!/bin/sh
# Builds tests/gpu with nvcc alone (no CMake, no Catch) and runs every program: for a machine that has a GPU and little
# else. `tests/gpu/run.sh [FOLDER_FOR_PROGRAMS]`, from anywhere. Headers that the machine lacks may lie in .headers/.
# NVCC, CUDA_ARCH (default: the machine's own GPU, else 75) and NCCL_HOME say what is not found by itself.
# Exit code: 0 if all programs passed, 77 if some could only skip, 1 if one failed, did not end or was not built.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-${TMPDIR:-/tmp}/cadre_gpu_tests}
mkdir -p "$out" || exit 1

nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ -x "$nvcc" ] || { echo "run.sh: no nvcc: put it on the PATH or set NVCC" >&2; exit 1; }
toolkit=$(cd "$(dirname "$nvcc")/.." && pwd)

nccl_include= nccl_library=
for place in ${NCCL_HOME:-} "$toolkit" /usr "$HOME"/.local/lib/python3*/site-packages/nvidia/nccl \
             /usr/lib/python3*/site-packages/nvidia/nccl /usr/local/lib/python3*/*-packages/nvidia/nccl /opt/*/lib/python3*/site-packages/nvidia/nccl; do
  [ -e "$place/include/nccl.h" ] || continue
  for library in "$place"/lib64/libnccl.so "$place"/lib/libnccl.so "$place"/lib/*/libnccl.so "$place"/lib/libnccl.so.2; do
    [ -e "$library" ] && nccl_include=$place/include && nccl_library=$library && break 2
  done
done
[ -n "$nccl_library" ] || { echo "run.sh: no nccl.h with libnccl.so beside it: set NCCL_HOME" >&2; exit 1; }

arch=${CUDA_ARCH:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -cd 0-9)}
echo "nvcc: $("$nvcc" --version | tail -n 1); NCCL: $nccl_library; architecture: ${arch:-75}"
headers=
[ -d "$root/.headers" ] && headers="-I $root/.headers -I $root/.headers/eigen3"

failed= skipped=
for source in "$root"/tests/gpu/*.cpp "$root"/tests/gpu/*.cu; do
  name=$(basename "$source")
  program=$out/${name%.*}
  echo "== $name"
  # shellcheck disable=SC2086
  if ! "$nvcc" -std=c++20 -O2 -x cu -arch="sm_${arch:-75}" -Xcompiler -Wall,-Wextra,-pthread -I "$root/include" $headers \
       -I "$nccl_include" "$source" -o "$program" -Xlinker "$nccl_library" -Xlinker -rpath -Xlinker "$(dirname "$nccl_library")"; then
    failed="$failed $name"
    continue
  fi
  timeout -k 5 120 "$program"
  case $? in
    0) ;;
    77) skipped="$skipped $name" ;;
    *) failed="$failed $name" ;;
  esac
done
[ -z "$skipped" ] || echo "skipped:$skipped"
[ -z "$failed" ] || { echo "FAILED:$failed"; exit 1; }
[ -z "$skipped" ] || exit 77
echo "all passed"
