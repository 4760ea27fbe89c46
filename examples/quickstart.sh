#!/usr/bin/env bash
# Installs what is missing, builds the main job, trains and tunes on Fashion-MNIST with threads, and says how to do it
# under mpirun.
# usage: quickstart.sh [--no-install] [OPTION OF fashion_mnist]...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
install=yes
if [ "${1-}" = --no-install ]; then
  install=no
  shift
fi
[ $install = no ] || "$root/tests/install.sh" g++ cmake ninja-build libeigen3-dev libcereal-dev zlib1g-dev \
  libopenmpi-dev openmpi-bin dataset-fashion-mnist

program=build/release/examples/fashion_mnist
(
  cd "$root"
  generator=()
  command -v ninja >/dev/null || generator=(-G "Unix Makefiles")
  [ -f build/release/build.ninja ] || [ -f build/release/Makefile ] || cmake --preset release "${generator[@]}" -DCADRE_BUILD_TESTS=OFF >/dev/null
  cmake --build build/release --target fashion_mnist -j "$(nproc)"
)
"$root/$program" "$@"

as_root=
[ "$(id -u)" != 0 ] || as_root="OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
printf '\nThe same program with ranks instead of threads:\n%smpirun --bind-to none --oversubscribe -n 2 %q\n' "$as_root" "$root/$program"
