#!/usr/bin/env bash
# The tree obeys tools/house/rules.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo run --locked -q -p selvedge-house

echo house >>"${SELVEDGE_CI_RAN:-/dev/null}"
