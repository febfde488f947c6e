#!/usr/bin/env bash
# Model checks: what threads share, in every order in which they can meet (crates/runtime/src/primitive.rs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A folder of its own, or everything else would be built anew each time.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" \
    cargo test --locked -p selvedge-runtime --lib --target-dir target/loom loom_ | tee "$log"
# Without this line a run that finds no model would pass.
grep -qE '^test result: ok\. [1-9]' "$log"

echo loom >>"${SELVEDGE_CI_RAN:-/dev/null}"
