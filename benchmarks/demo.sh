#!/bin/sh
# Three tasks of one bundle, each answered without and with steering: what `make demo` shows.
set -eu
atv_local=${1:-atv-local}

run() {
    printf '\n$ atv-local run'
    for word; do
        case $word in *[!a-z0-9./-]*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    "$atv_local" run "$@" </dev/null
}

printf '\n# A request as JSON\n'
request="Play some jazz by Miles Davis on Spotify"
run --off -n 40 "$request"
run "$request"
run --schema data/demo/request.schema.json "$request"

printf '\n# A style, and the dial from plain to full\n'
question="How do I remove a stain from a shirt?"
run --off -n 60 "$question"
run --strength 0.75 -n 60 "$question"
run -n 60 "$question"

printf '\n# One label out of ten (--json adds how likely each is)\n'
message="I took money out of a cash machine and there was an extra charge. Why?"
run --off -n 40 "$message"
run --choices auto "$message"

printf '\n# Nothing that it was trained on\n'
run -n 40 "Write a Python function that adds two numbers."
