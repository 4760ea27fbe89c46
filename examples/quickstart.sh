#!/usr/bin/env bash
# Installs what is missing, builds the main job, tunes and trains on Fashion-MNIST with threads, and says how to do it
# under mpirun.
# usage: quickstart.sh [--no-install] [OPTION OF fashion_mnist]...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
install=yes options=()
for option in "$@"; do
  case $option in
    --no-install) install=no ;;
    --help) sed -n '2,4s/^# //p' "$0"; exit ;;
    *) options+=("$option") ;;
  esac
done
[ $install = no ] || "$root/tests/install.sh" g++ cmake ninja-build libeigen3-dev libcereal-dev zlib1g-dev \
  libopenmpi-dev openmpi-bin dataset-fashion-mnist

program=build/release/examples/fashion_mnist
(
  cd "$root"
  generator=() first=()
  if [ -f build/release/Makefile ] || ! command -v ninja >/dev/null; then generator=(-G "Unix Makefiles"); fi
  [ -f build/release/CMakeCache.txt ] || first=(-DCADRE_BUILD_TESTS=OFF)
  cmake --preset release ${generator[@]+"${generator[@]}"} ${first[@]+"${first[@]}"} >/dev/null  # well under a second, and sees a new MPI
  cmake --build build/release --target fashion_mnist -j "$(nproc)"
)
"$root/$program" ${options[@]+"${options[@]}"}

if ldd "$root/$program" | grep -q libmpi; then
  as_root=
  [ "$(id -u)" != 0 ] || as_root="OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
  printf '\nThe same program with ranks instead of threads:\n%smpirun --bind-to none --oversubscribe -n 2 %q\n' "$as_root" "$root/$program"
else
  printf '\nWith Open MPI (Debian: libopenmpi-dev openmpi-bin) the same program runs with ranks: install it and run this again.\n'
fi
