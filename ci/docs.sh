#!/usr/bin/env bash
# The documentation of every crate builds, and every link in it leads somewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

echo docs >>"${SELVEDGE_CI_RAN:-/dev/null}"
