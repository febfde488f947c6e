#!/usr/bin/env bash
# The lint table of the workspace holds, and no compiler warning is left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo clippy --locked --workspace --all-targets -- -D warnings

echo clippy >>"${SELVEDGE_CI_RAN:-/dev/null}"
