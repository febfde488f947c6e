#!/usr/bin/env bash
# The runtime has no compiler in it: an embedder that only loads artifacts links no Cranelift.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tree=$(cargo tree --locked -p selvedge-runtime -e normal --prefix none)
echo "$tree"
# Without this line an empty answer would pass.
grep -q '^selvedge-artifact ' <<<"$tree"
if grep -i cranelift <<<"$tree"; then
    echo "selvedge-runtime depends on Cranelift, see the lines above" >&2
    exit 1
fi

echo deps >>"${SELVEDGE_CI_RAN:-/dev/null}"
