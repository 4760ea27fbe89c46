#!/usr/bin/env bash
# Installs those of the Debian packages named that are missing; needs no answers, and root or sudo only if one is missing.
# usage: install.sh PACKAGE...
set -eu
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || {
  echo "no apt here; these Debian packages are needed by other means: $*" >&2
  exit 0
}
missing=()
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "neither root nor sudo; as root: apt-get install ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "installing ${missing[*]}"
get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
"${get[@]}" update >/dev/null || echo "apt-get update failed; trying with the lists that there are" >&2
"${get[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
