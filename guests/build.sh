#!/usr/bin/env bash
# Builds every guest of c/ and cpp/, and the C guest of the benchmarks, next to its source.
#
#   guests/build.sh            build
#   guests/build.sh --check    build somewhere else and compare with what is committed
#
# Needs python3 with venv and pip: the compiler is the PyPI package `ziglang`, of the one version
# named here, in guests/fetched/zig (git-ignored). The .wasm files are committed so that running
# and testing needs none of this. The same sources and version give the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

zig_version=0.17.0
venv=fetched/zig
mode=${1:-build}
case $mode in build | --check) ;; *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac

if ! "$venv/bin/python" -m ziglang version 2>/dev/null | grep -qx "$zig_version"; then
    echo "installing ziglang $zig_version into guests/$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "ziglang==$zig_version"
fi
zig() { "$venv/bin/python" -m ziglang "$@"; }

checked=$(mktemp -d)
trap 'rm -rf "$checked"' EXIT
different=0

# build COMPILER SOURCE FLAG...
build() {
    local compiler=$1 source=$2
    shift 2
    local wasm=${source%.*}.wasm built
    built=$wasm
    if [ "$mode" = --check ]; then built=$checked/$(basename "$wasm"); fi
    zig "$compiler" -target wasm32-wasi -Wall -Wextra -s "$@" -o "$built" "$source"
    chmod 644 "$built"
    if [ "$mode" = --check ] && ! cmp -s "$built" "$wasm"; then
        echo "guests/$wasm is not what its source gives"
        different=1
    fi
    printf '%-28s %7d bytes\n' "$wasm" "$(wc -c <"$built")"
}

for source in c/*.c; do build cc "$source" -std=c11 -Os; done
for source in cpp/*.cpp; do build c++ "$source" -std=c++20 -Os -fno-exceptions -fno-rtti; done
# The benchmarks call `run(n)` and import nothing: no WASI start-up code, no C library.
for source in ../bench/guests/*.c; do
    build cc "$source" -std=c11 -O2 -nostdlib -Wl,--no-entry -Wl,--export=run
done
exit $different
