#!/usr/bin/env bash
# How light is Millrace? Measures, on this machine: an empty broker, 3,000 idle partitions, and the
# restart after `kill -9` with 10 GB of log. Prints one line a figure.
#
#   cargo build --release --workspace && bench/light.sh [empty] [idle] [crash]
#
# BIN     directory of the binaries (default target/release)
# DATA    directory for the data, removed afterwards (default: a new one under $TMPDIR)
# GIGABYTES  size of the log that is killed (default 10)
set -euo pipefail
bin=$(realpath "${BIN:-target/release}")
data=$(mktemp -d "${DATA:-${TMPDIR:-/tmp}}/millrace-light.XXXXXX")
export MILLRACE_KNOWN_BROKERS=$data/known_brokers
broker=
trap '[[ -n $broker ]] && kill -9 "$broker" 2>/dev/null; rm -rf "$data"' EXIT

now_us() { echo "${EPOCHREALTIME/./}"; }
figure() { printf '%-44s %s\n' "$1" "$2"; }

# Starts the broker on directory $1 and waits for its ready line; sets broker, quic, ready_ms.
start() {
    local began line
    rm -f "$data/out"
    mkfifo "$data/out"
    began=$(now_us)
    "$bin/millrace" --data-dir "$1" --quic 127.0.0.1:0 --kafka 127.0.0.1:0 --http 127.0.0.1:0 >"$data/out" 2>>"$data/log" &
    broker=$!
    read -r line <"$data/out"
    ready_ms=$((($(now_us) - began) / 1000))
    quic=$(sed -E 's/.*quic=([^ ]+).*/\1/' <<<"$line")
    export MILLRACE_BROKER=$quic
}
stop() { kill "-$1" "$broker"; wait "$broker" 2>/dev/null || true; broker=; }

resident() { awk '/^VmRSS/ {printf "%.1f MiB", $2 / 1024}' "/proc/$broker/status"; }
ticks() { awk '{print $14 + $15}' "/proc/$broker/stat"; }
files() { find "/proc/$broker/fd" -mindepth 1 | wc -l; }
idle_cpu() { # over 20 s
    local before
    sleep 3
    before=$(ticks)
    sleep 20
    awk -v t="$(($(ticks) - before))" -v hz="$(getconf CLK_TCK)" 'BEGIN {printf "%.2f %% of a core", t / hz / 20 * 100}'
}

empty() {
    start "$data/empty"
    figure 'empty broker, first start: ready after' "$ready_ms ms"
    figure 'empty broker: resident' "$(resident)"
    figure 'empty broker: idle CPU' "$(idle_cpu)"
    stop TERM
    start "$data/empty"
    figure 'empty broker, later start: ready after' "$ready_ms ms"
    stop TERM
}

idle() {
    local before
    start "$data/idle"
    before=$(files)
    for topic in $(seq 30); do "$bin/millctl" topic create "idle-$topic" --partitions 100 >/dev/null; done
    figure '3,000 partitions: open files before, after' "$before, $(files)"
    for topic in $(seq 30); do # keys enough to reach every partition
        seq -f '%g:a record of an idle partition' 2000 | "$bin/millctl" produce "idle-$topic" --key-separator : 2>/dev/null
    done
    figure '3,000 written partitions: resident' "$(resident)"
    figure '3,000 written partitions: open files at once' "$(files)"
    sleep 12 # an idle log gives back what it holds five seconds after its last use
    figure '3,000 written partitions: open files 12 s later' "$(files)"
    figure '3,000 written partitions: idle CPU' "$(idle_cpu)"
    stop TERM
    start "$data/idle"
    figure '3,000 partitions, restart: ready after' "$ready_ms ms"
    figure '3,000 partitions, restart: resident' "$(resident)"
    figure '3,000 partitions, restart: open files' "$(files)"
    figure '3,000 partitions, restart: idle CPU' "$(idle_cpu)"
    stop KILL
    start "$data/idle"
    figure '3,000 partitions, kill -9: ready after' "$ready_ms ms"
    stop TERM
}

crash() {
    local size=$((${GIGABYTES:-10} * 1000000)) began
    start "$data/crash"
    "$bin/millctl" topic create big --partitions 4 >/dev/null
    head -c 1000000 /dev/urandom | base64 -w 1000 >"$data/lines"
    for _ in $(seq 200); do cat "$data/lines"; done >"$data/more"
    while (($(du -sk "$data/crash" | cut -f1) < size)); do
        "$bin/millctl" produce big <"$data/more" 2>/dev/null
    done
    "$bin/millctl" produce big <"$data/more" 2>/dev/null & # killed while it writes
    local producer=$!
    sleep 0.3
    stop KILL
    kill "$producer" 2>/dev/null || true
    wait "$producer" 2>/dev/null || true
    figure 'log on the device when killed' "$(du -sh "$data/crash" | cut -f1)"
    start "$data/crash"
    figure 'restart after kill -9: ready after' "$ready_ms ms"
    began=$(now_us)
    for partition in 0 1 2 3; do
        "$bin/millctl" consume big --partition $partition --from earliest --count 1 >/dev/null
        echo again | "$bin/millctl" produce big --partition $partition 2>/dev/null
    done
    figure '  4 partitions read and written after another' "$((($(now_us) - began) / 1000)) ms"
    stop TERM
}

for part in "${@:-empty idle crash}"; do for name in $part; do "$name"; done; done
