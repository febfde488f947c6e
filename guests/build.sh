#!/usr/bin/env bash
# Builds every guest of c/, cpp/, simd/ and exceptions/, and the C guest of the benchmarks, next to its source.
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
    finish "$source" "$compiler" -Wall -Wextra "$@" "$source"
}

# link SOURCE OBJECT...
link() {
    local source=$1
    shift
    finish "$source" cc "${throws[0]}" "$@"
}

# finish SOURCE COMPILER ARGUMENT...
finish() {
    local source=$1 compiler=$2
    shift 2
    local wasm=${source%.*}.wasm built
    built=$wasm
    if [ "$mode" = --check ]; then built=$checked/$(basename "$wasm"); fi
    zig "$compiler" -target wasm32-wasi -s "$@" -o "$built"
    chmod 644 "$built"
    if [ "$mode" = --check ] && ! cmp -s "$built" "$wasm"; then
        echo "guests/$wasm is not what its source gives"
        different=1
    fi
    printf '%-28s %7d bytes\n' "$wasm" "$(wc -c <"$built")"
}

for source in c/*.c; do build cc "$source" -std=c11 -Os; done
for source in cpp/*.cpp; do build c++ "$source" -std=c++20 -Os -fno-exceptions -fno-rtti; done
for source in simd/*.c; do build cc "$source" -std=c11 -O2 -mcpu=generic+simd128; done

# The C++ library that the package builds for WASI throws nothing, so the parts of it that exceptions need
# are built here from the sources in the package, which encodes exceptions as the standard has them.
throws=(-mcpu=generic+exception_handling+reference_types+multivalue -fwasm-exceptions -mllvm -wasm-use-legacy-eh=false -Os)
lib=$(echo "$venv"/lib/python3*/site-packages/ziglang/lib)
cxx=(-std=c++23 -D_LIBCXXABI_BUILDING_LIBRARY -DLIBCXX_BUILDING_LIBCXXABI -D_LIBCPP_BUILDING_LIBRARY
    -D_LIBCXXABI_HAS_NO_THREADS -DLIBCXXABI_SILENT_TERMINATE
    -I"$lib/libcxxabi/include" -I"$lib/libcxx/src" -I"$lib/libcxx/src/include" -I"$lib/libunwind/include")
objects=()
# object COMPILER SOURCE FLAG...
object() {
    local compiler=$1 source=$2 out
    shift 2
    out=$checked/$(basename "$(dirname "$(dirname "$source")")")-$(basename "${source%.*}").o
    zig "$compiler" -target wasm32-wasi "${throws[@]}" "$@" -c -o "$out" "$source"
    objects+=("$out")
}
for part in abort_message cxa_aux_runtime cxa_default_handlers cxa_exception cxa_exception_storage cxa_guard \
    cxa_handlers cxa_personality cxa_virtual fallback_malloc private_typeinfo stdlib_exception \
    stdlib_new_delete stdlib_stdexcept stdlib_typeinfo; do
    object c++ "$lib/libcxxabi/src/$part.cpp" "${cxx[@]}"
done
for part in exception new_helpers stdexcept string verbose_abort; do
    object c++ "$lib/libcxx/src/$part.cpp" "${cxx[@]}"
done
object cc "$lib/libunwind/src/Unwind-wasm.c" -std=c23 -I"$lib/libunwind/include" -DNDEBUG -D_LIBUNWIND_HIDE_SYMBOLS
printf '%s\n' '.tagtype __cpp_exception i32' '.globl __cpp_exception' '__cpp_exception:' >"$checked/tag.s"
zig cc -target wasm32-wasi "${throws[@]}" -c -o "$checked/tag.o" "$checked/tag.s"
objects+=("$checked/tag.o")
for source in exceptions/*.cpp; do
    zig c++ -target wasm32-wasi "${throws[@]}" -std=c++20 -Wall -Wextra -c -o "$checked/guest.o" "$source"
    link "$source" "$checked/guest.o" "${objects[@]}"
done

# The benchmarks call `run(n)` and import nothing: no WASI start-up code, no C library.
for source in ../bench/guests/*.c; do
    build cc "$source" -std=c11 -O2 -nostdlib -Wl,--no-entry -Wl,--export=run
done
exit $different
