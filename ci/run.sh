#!/usr/bin/env bash
# The README's run command builds and runs a guest, and the guest says what it should.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command=(cargo run --release -q -p selvedge-cli -- run guests/hello.wat)
expected="hello from a sandbox"

if ! grep -qF -- "${command[*]}" README.md; then
    echo "README.md does not show this command: ${command[*]}" >&2
    exit 1
fi
echo "+ ${command[*]}"
actual=$("${command[@]}")
echo "$actual"
if [ "$actual" != "$expected" ]; then
    echo "expected: $expected" >&2
    exit 1
fi

echo run >>"${SELVEDGE_CI_RAN:-/dev/null}"
