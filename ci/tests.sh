#!/usr/bin/env bash
# The README's test command passes. The last lines repeat the summary of every test binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command=(cargo test --workspace)

if ! grep -qF -- "${command[*]}" README.md; then
    echo "README.md does not show this command: ${command[*]}" >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "+ ${command[*]}"
code=0
"${command[@]}" 2>&1 | tee "$log" || code=$?

echo
echo "summary of: ${command[*]}"
grep -E '^ +(Running|Doc-tests) |^test result: ' "$log" || true
# "test result: ok. 12 passed; 0 failed; 1 ignored; ..."
awk '/^test result: /{ passed += $4; failed += $6; ignored += $8; binaries++ }
     END { printf "tests: %d passed, %d failed, %d ignored in %d binaries\n", passed, failed, ignored, binaries
           exit passed == 0 }' "$log"
[ "$code" -eq 0 ] || exit "$code"

echo tests >>"${SELVEDGE_CI_RAN:-/dev/null}"
