#!/usr/bin/env bash
# redis-cli and redis-benchmark: redis_cli.sh URL [PROTOCOL]. Prints one line for one fact.
set -euo pipefail

url=$1
port=${url##*:}
protocol=()
if [ "${2:-}" ]; then protocol=("-$2"); fi

# The longest any wait of a script may last before it counts as "never", in seconds.
patience=60

# As an array too: what is started in the background by that is redis-cli itself, and can be killed.
cli=(redis-cli -u "$url" "${protocol[@]}")
cli() { "${cli[@]}" "$@"; }
part() { printf -- '-- %s\n' "$1"; }

until_holds() {
    local deadline=$((SECONDS + patience))
    until "$@"; do
        if [ "$SECONDS" -gt "$deadline" ]; then
            echo "waited in vain until $*" >&2
            exit 1
        fi
        sleep 0.02
    done
}
counts() { [ "$(cli "${@:2}" | tail -1)" = "$1" ]; }
blocked() { cli info clients | tr -d '\r' | grep -qx "blocked_clients:$1"; }

part commands
cli ping
cli set k v
cli get k
cli --no-raw get absent
cli --no-raw hset h f 1 g 2
cli --no-raw hgetall h
cli --csv mget k absent k
cli --json hgetall h
cli -n 3 set only-in-3 1
cli -n 3 dbsize
printf 'from stdin' | cli -x set stdin
cli strlen stdin
cli -r 3 incr repeated
cli client getname
cli object encoding h
cli lpush k 1 2>&1
cli -e lpush k 1 2>&1 || echo "exit $?"
cli nonsense a b 2>&1
cli --no-raw command info get | head -3
cli --no-raw command docs get | head -2

part "one connection"
cli <<'COMMANDS' | sed 's/^id .*/id/'
select 4
set here 1
multi
incr here
get here
exec
watch here
multi
discard
unwatch
client setname cli
client getname
exec
multi
nonsense
exec
multi
lpush here x
get here
exec
hello 3
hgetall h
reset
quit
COMMANDS

part scripts
script=$(mktemp)
trap 'rm -f "$script"' EXIT
echo "return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}" >"$script"
cli --eval "$script" scripted , argument
cli evalsha "$(cli script load "$(cat "$script")")" 1 scripted again
cli script flush
cli evalsha "$(printf 'f%.0s' {1..40})" 0 2>&1

part "mass insertion"
seq 1 10000 | awk '{ print "SET pipe:" $1 " " $1 }' | cli --pipe
cli --scan --pattern 'pipe:*' | sort | uniq | wc -l
cli --bigkeys | grep -E '^(Sampled|Total key|Biggest)' | sort
cli --memkeys | grep -c '^Sampled'

part subscriptions
heard=$(mktemp)
trap 'rm -f "$script" "$heard"' EXIT
"${cli[@]}" subscribe news more >"$heard" &
listener=$!
until_holds counts 1 pubsub numsub news
cli publish news one
cli publish more two
until_holds grep -qx two "$heard"
kill "$listener"
wait "$listener" 2>/dev/null || true
cat "$heard"
until_holds counts 0 pubsub numsub news

part monitor
"${cli[@]}" monitor >"$heard" &
listener=$!
until_holds grep -qx OK "$heard"
cli set monitored "by it"
until_holds grep -q monitored "$heard"
kill "$listener"
wait "$listener" 2>/dev/null || true
grep -o '"set" "monitored".*' "$heard"

part blocking
"${cli[@]}" blpop q1 q2 0 >"$heard" &
listener=$!
until_holds blocked 1
cli rpush q2 x
wait "$listener"
cat "$heard"
# Longer than Weir waits for the upstream in this test: how long such a command may take is up to the client.
cli --no-raw blpop q1 6
"${cli[@]}" blpop never 0 >"$heard" &
listener=$!
until_holds blocked 1
kill "$listener"
wait "$listener" 2>/dev/null || true
until_holds blocked 0
cli rpush never 1
cli llen never

part redis-benchmark
redis-benchmark -h 127.0.0.1 -p "$port" -n 2000 -c 20 -P 4 -t ping,set,get,incr,lpush,lpop,mset,lrange --csv | cut -d, -f1
redis-benchmark -h 127.0.0.1 -p "$port" -n 2000 -c 20 -r 1000 --csv eval "return redis.call('incr', KEYS[1])" 1 __rand_int__ | wc -l

part end
cli flushall
cli dbsize
