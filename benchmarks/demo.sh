#!/bin/sh
# Three queries of three tasks, each answered without and with steering: what `make demo` shows.
set -eu
atv_local=${1:-atv-local}

show() {
    printf '\n$ atv-local run --compare "%s"\n' "$1"
    "$atv_local" run --compare -n 40 "$1" </dev/null
}

show "I took money out of a cash machine and there was an extra charge. Why?"
show "how many teaspoons of salt should go in the soup"
show "URGENT! You have won a 1 week FREE membership in our prize draw. Txt CLAIM to 81010"
