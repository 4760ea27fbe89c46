#!/usr/bin/env bash
# Several hosts on one machine, for tests: network namespaces behind one switch, each with a host name, a TMPDIR and an
# /etc/hosts of its own. They share the processors, the space of process numbers, and the files. Needs root, iproute2 and
# util-linux; where namespaces are not permitted it says so and ends with 77, which CTest takes as skipped.
# usage: hosts.sh HOSTS SLOTS MPIRUN_ARGUMENT...     runs mpirun on the first of so many hosts, with so many slots on each
#        hosts.sh check                              whether that can be done here
# and meanwhile, on any of the hosts, which are numbered from 1:
#        hosts.sh cut HOST SECONDS                   unplugs the host, plugs it in again afterwards
#        hosts.sh kill HOST                          kills all processes of the host
#        hosts.sh delay HOST MILLISECONDS            that much later is what the host sends (77 without netem in the kernel)
#        hosts.sh name HOST                          its name
set -u
self=$(realpath "$0")

fail() { echo "hosts.sh: $1" >&2; exit "${2:-2}"; }
usage() { sed -n '2,/^set -u/s/^# //p' "$self"; exit 2; }
is_number() { [[ $1 =~ ^[0-9]+$ ]]; }

name() { echo "$CADRE_HOSTS-$1"; }  # of a host; number 0 is the switch

# Processes of a host, but for this one.
processes() { ip netns pids "$(name "$1")" 2>/dev/null | grep -vxE "$$|$BASHPID"; }

kill_all() {
  local pids
  while pids=$(processes "$1"); [ -n "$pids" ]; do
    kill -9 $pids 2>/dev/null
  done
}

remove() {  # all hosts of a run, then its folder
  local space
  for space in $(ip netns list 2>/dev/null | cut -d' ' -f1 | grep -x "$CADRE_HOSTS-[0-9]*"); do
    kill_all "${space##*-}"
    ip netns del "$space"
    rm -rf "/etc/netns/$space"
  done
  rm -rf "$1"
}

check() {
  [ "$(id -u)" = 0 ] || fail "hosts are network namespaces, which root may make" 77
  local tool
  for tool in ip unshare mpirun; do
    command -v $tool >/dev/null || fail "there is no $tool (Debian's iproute2, util-linux, openmpi-bin)" 77
  done
  local probe=cadre-probe$$ able=yes
  { ip netns add $probe && ip -n $probe link add name a type bridge && ip -n $probe link add name b type veth peer name c &&
    ip netns exec $probe unshare --uts true; } 2>/dev/null || able=no
  ip netns del $probe 2>/dev/null
  [ $able = yes ] || fail "network namespaces are not permitted here" 77
}

make_hosts() {
  local n host switch
  switch=$(name 0)
  ip netns add "$switch"
  ip -n "$switch" link add name switch type bridge
  ip -n "$switch" link set switch up
  for ((n = 1; n <= hosts; n++)); do
    host=$(name $n)
    ip netns add "$host"
    mkdir -p "/etc/netns/$host" "$folder/$n"
    { echo "127.0.0.1 localhost"; for ((m = 1; m <= hosts; m++)); do echo "10.77.0.$m $(name $m)"; done; } >"/etc/netns/$host/hosts"
    ip link add eth0 netns "$host" type veth peer name port$n netns "$switch"
    ip -n "$host" link set lo up
    ip -n "$host" addr add 10.77.0.$n/24 dev eth0
    ip -n "$host" link set eth0 up
    ip -n "$switch" link set port$n master switch up
  done
}

# Runs a command line on a host: what mpirun has in place of ssh.
on_host() {
  local host=$1
  shift
  exec ip netns exec "$host" unshare --uts /bin/sh -c \
    "hostname $host; export CADRE_HOSTS=$CADRE_HOSTS CADRE_HOSTS_FOLDER=$CADRE_HOSTS_FOLDER TMPDIR=$CADRE_HOSTS_FOLDER/${host##*-}; $*"
}

[ $# -gt 0 ] || usage
case $1 in
  check) check; exit 0 ;;
  agent)  # [OPTION]... HOST COMMAND...
    shift
    while [[ $1 == -* ]]; do shift; done
    on_host "$@" ;;
  cut|kill|delay|name)
    [ -n "${CADRE_HOSTS:-}" ] || fail "'$1' is for processes on one of the hosts"
    [ $# -gt 1 ] && is_number "$2" && [ "$2" -gt 0 ] || usage
    case $1 in
      name) name "$2" ;;
      kill) kill_all "$2" ;;
      cut)
        [ $# -eq 3 ] || usage
        ip -n "$(name 0)" link set "port$2" down || exit 1
        sleep "$3"
        ip -n "$(name 0)" link set "port$2" up ;;
      delay)
        [ $# -eq 3 ] || usage
        tc -n "$(name "$2")" qdisc replace dev eth0 root netem delay "$3ms" || fail "no netem in this kernel" 77 ;;
    esac
    exit ;;
esac

[ $# -gt 2 ] && is_number "$1" && is_number "$2" || usage
hosts=$1 slots=$2
shift 2
check
for folder in /tmp/cadre[0-9]*-hosts; do  # of runs that were killed
  run=$(grep -oE 'cadre[0-9]+' <<<"$folder")
  [ -z "$run" ] || [ -d "/proc/${run#cadre}" ] || CADRE_HOSTS=$run remove "$folder"
done
export CADRE_HOSTS=cadre$$ CADRE_HOSTS_FOLDER=/tmp/cadre$$-hosts
folder=$CADRE_HOSTS_FOLDER
mkdir "$folder" || exit 1
trap 'remove "$folder"' EXIT
trap 'exit 143' TERM INT HUP
make_hosts || fail "the hosts cannot be made" 1

list=
for ((n = 1; n <= hosts; n++)); do list+=${list:+,}$(name $n):$slots; done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# In the background, so that a signal ends this script at once.
"$self" agent "$(name 1)" mpirun --mca plm_rsh_agent "'$self agent'" --mca plm_rsh_no_tree_spawn 1 \
  --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 --bind-to none --host "$list" "$(printf '%q ' "$@")" &
wait $!
