#!/usr/bin/env bash
# radosgw.sh start DIR | stop DIR: one Ceph object gateway on loopback, the S3 server of the storage tests.
#
# `start` prints the endpoint. Everything it writes is in DIR, which it empties first: a gateway that an earlier run left
# there is stopped. `stop` may be called at any time, twice, or on nothing.
# The user's keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
set -euo pipefail

ready_seconds=90
attempts=3

usage() {
  echo "usage: radosgw.sh start|stop DIR" >&2
  exit 2
}

say() { echo "radosgw: $*" >&2; }

# Process ids are used again by others, so a process is ours only if its command line names our folder.
alive() {
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) && [[ -n $pid ]] || return 1
  { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "$dir/"
}

# The gateway goes before the disk it writes to, and that before its monitor.
stop_processes() {
  local name pid
  for name in rgw osd mon; do
    alive "$name" || continue
    pid=$(cat "$dir/$name.pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
      alive "$name" || break
      sleep 0.1
    done
    if alive "$name"; then kill -9 "$pid" 2>/dev/null || true; fi
  done
}

stop() {
  stop_processes
  rm -rf "$dir"
}

launch() { # name, command...
  local name=$1
  shift
  # A session of its own: an interrupt at the terminal must leave the order of stopping to `stop`.
  setsid "$@" >"$dir/log/$name.out" 2>&1 </dev/null 8>&- &
  echo $! >"$dir/$name.pid"
}

wait_for() { # name of the process, what is awaited, command...
  local name=$1 what=$2 end=$((SECONDS + ready_seconds))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! alive "$name"; then
      say "$name ended while waiting for $what; the end of its log:"
      tail -n 20 "$dir/log/$name.out" "$dir/log/$name.log" >&2 2>/dev/null || true
      return 1
    fi
    if ((SECONDS > end)); then
      say "no $what within $ready_seconds s"
      return 1
    fi
    sleep 0.3
  done
}

ports() {
  python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(server.getsockname()[1] for server in held))'
}

osd_up() { ceph -c "$conf" --connect-timeout 5 osd stat --format json | grep -q '"num_up_osds": *1\b'; }
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

start() {
  local mon_port rgw_port fsid osd_uuid
  read -r mon_port rgw_port <<<"$(ports)"
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd_uuid=$(cat /proc/sys/kernel/random/uuid)
  stop
  mkdir -p "$dir"/{log,run,mon,osd}
  conf=$dir/ceph.conf
  # One disk, one copy, no authentication: a gateway for tests on loopback, whose data may be lost.
  cat >"$conf" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$mon_port
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc secure
run dir = $dir/run
log file = $dir/log/\$type.log
mon cluster log file = $dir/log/cluster.log
pid file =
admin socket =
crash dir = $dir/run
mon allow pool size one = true
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[mon.a]
mon data = $dir/mon
[osd.0]
osd data = $dir/osd
osd objectstore = bluestore
bluestore block size = 8589934592
osd memory target = 1073741824
[client.rgw.a]
log file = $dir/log/rgw.log
rgw frontends = beast endpoint=127.0.0.1:$rgw_port
rgw data = $dir/run/rgw
CONF

  monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port]" "$dir/monmap" >"$dir/log/monmap.out" 2>&1
  ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap" >"$dir/log/mon-mkfs.out" 2>&1
  launch mon ceph-mon -c "$conf" -i a -f
  wait_for mon "monitor" ceph -c "$conf" --connect-timeout 5 status

  ceph -c "$conf" osd new "$osd_uuid" >/dev/null 2>&1
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd_uuid" >"$dir/log/osd-mkfs.out" 2>&1
  launch osd ceph-osd -c "$conf" -i 0 -f
  wait_for osd "disk" osd_up

  launch rgw radosgw -c "$conf" -n client.rgw.a -f
  wait_for rgw "gateway" port_open "$rgw_port"
  # The port may be somebody else's: the gateway's own process must still be there.
  alive rgw

  radosgw-admin -c "$conf" -n client.rgw.a user create --uid chatlake --display-name chatlake \
    --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" >"$dir/log/user.out" 2>&1
  echo "http://127.0.0.1:$rgw_port"
}

[[ $# == 2 ]] || usage
dir=$(realpath -m "$2")
# Whoever called an earlier start may be dead while that start goes on.
lock() {
  mkdir -p "$(dirname "$dir")"
  if command -v flock >/dev/null; then
    exec 8>"$dir.lock"
    flock 8
  fi
}

case $1 in
  start)
    lock
    for attempt in $(seq $attempts); do
      # A process of its own: as a condition, a function would go on after its first failure.
      if bash "${BASH_SOURCE[0]}" attempt "$dir"; then exit 0; fi
      say "attempt $attempt of $attempts failed"
      stop_processes
    done
    say "logs are in $dir/log"
    exit 1
    ;;
  attempt) start ;;
  stop)
    lock
    stop
    ;;
  *) usage ;;
esac
