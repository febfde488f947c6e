#!/usr/bin/env bash
# Every Rust file of the workspace is laid out by rustfmt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo fmt --all --check

echo fmt >>"${SELVEDGE_CI_RAN:-/dev/null}"
