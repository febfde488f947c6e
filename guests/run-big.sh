#!/usr/bin/env bash
# Runs the big programs of guests/fetch.sh with Selvedge and compares what they print with what
# they should.
#
#   guests/run-big.sh            every program; one that was not fetched is a failure
#   guests/run-big.sh NAME...    some: python esbuild ruby yosys nextpnr ripgrep quickjs
#
# Environment:
#   SELVEDGE  the command line to test; by default crates/cli, which is built first
#   EMBED     the embedder for the programs that are libraries; by default guests/embed, likewise
# Exit code: 0 if everything passed, 1 if something failed, 2 for wrong usage.
set -euo pipefail
guests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$guests")
fetched=$guests/fetched
data=$guests/data

all=(python esbuild ruby yosys nextpnr ripgrep quickjs)
names=("${@:-${all[@]}}")
for name in "${names[@]}"; do
    case " ${all[*]} " in
    *" $name "*) ;;
    *) echo "run-big.sh: no program $name; there are: ${all[*]}" >&2; exit 2 ;;
    esac
done

# Both are built with one target folder, so that what they share is built once.
target=${CARGO_TARGET_DIR:-$root/target}
build() { cargo build --release --quiet --target-dir "$target" --manifest-path "$@"; }
if [ -z "${SELVEDGE:-}" ]; then
    build "$root/Cargo.toml" -p selvedge-cli
    SELVEDGE=$target/release/selvedge
fi
selvedge() { "$SELVEDGE" "$@"; }
case " ${names[*]} " in
*" ruby "* | *" quickjs "*)
    if [ -z "${EMBED:-}" ]; then
        build "$guests/embed/Cargo.toml"
        EMBED=$target/release/embed
    fi
    ;;
esac
embed() { "$EMBED" "$@"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tmp"
passed=0
failed=0

# check NAME EXIT_CODE EXPECTED COMMAND...: the expected text is a shell pattern for the whole of
# standard output. Standard input comes from $work/stdin.
: >"$work/stdin"
check() {
    local name=$1 code=$2 expected=$3 got=0 started=$SECONDS
    shift 3
    "$@" <"$work/stdin" >"$work/stdout" 2>"$work/stderr" || got=$?
    # The pattern is unquoted on purpose.
    # shellcheck disable=SC2053
    if [ "$got" = "$code" ] && [[ $(cat "$work/stdout") == $expected ]]; then
        echo "PASS $name ($((SECONDS - started)) s)"
        passed=$((passed + 1))
    else
        echo "FAIL $name: exit code $got, expected $code"
        printf '  expected: %s\n' "$expected"
        sed 's/^/  stdout: /' "$work/stdout" | head -20
        sed 's/^/  stderr: /' "$work/stderr" | head -20
        failed=$((failed + 1))
    fi
    : >"$work/stdin"
}

check_python() {
    local python=$fetched/python/python.wasm
    check "python: a sum" 0 332833500 \
        selvedge run "$python" -- -c 'print(sum(i*i for i in range(1000)))'
    check "python: a script with the standard library, a preopen and an exit code" 3 \
        '{"words": 55, "top": {"the": 10, "a": 3, "cloth": 3}}
d581b75ad8b8d8d5
40595afdd8d8b35b
outside: *Error' \
        selvedge run --dir "$data::/data" "$python" -- /data/words.py /data/selvedge.txt
}

check_esbuild() {
    echo 'let a = 1 + 2; console.log(a)' >"$work/stdin"
    check "esbuild: minify standard input" 0 'let a=3;console.log(a);' \
        selvedge run "$fetched/esbuild/esbuild.wasm" -- --minify
}

check_ruby() {
    check "ruby: a script" 0 '42
304
43a3b
0.841471
ab-cd-e
ArgumentError
3
{"a":\[1,2.5,null]}' \
        embed ruby "$fetched/ruby/ruby.wasm" "$data/tour.rb"
}

yosys() {
    selvedge run --dir "$data::/data" --dir "$work::/work" --dir "$work/tmp::/tmp" \
        --dir "$fetched/yosys/share::/share" "$fetched/yosys/yosys.wasm" -- "$@"
}
check_yosys() {
    check "yosys: version" 0 'Yosys 0.55 *' selvedge run "$fetched/yosys/yosys.wasm" -- -V
    check "yosys: synthesis of a counter" 0 '' \
        yosys -q -p 'read_verilog /data/counter.v; synth_ice40 -top counter; select counter;
            write_json -selected /work/counter.json; select -clear; tee -q -o /work/cells.txt stat'
    check "yosys: the netlist that is kept" 0 '' cmp "$work/counter.json" "$data/counter.json"
    check "yosys: its cells" 0 '*Number of cells: *10
*SB_CARRY *2
*SB_DFFSR *4
*SB_LUT4 *4*' cat "$work/cells.txt"
}

check_nextpnr() {
    local nextpnr=$fetched/nextpnr
    check "icepll" 0 '*F_PLLOUT:   48.000 MHz (achieved)*' \
        selvedge run "$nextpnr/icepll.wasm" -- -i 12 -o 48
    # The netlist is of yosys if that has just run, else the one that is kept: they are the same.
    if [ ! -e "$work/counter.json" ]; then cp "$data/counter.json" "$work"; fi
    check "nextpnr: place and route" 0 '' \
        selvedge run --dir "$work::/work" --dir "$nextpnr/share::/share" "$nextpnr/nextpnr-ice40.wasm" \
        -- --quiet --hx1k --package tq144 --json /work/counter.json --asc /work/counter.asc
    check "icepack: a bitstream" 0 '' \
        selvedge run --dir "$work::/work" "$nextpnr/icepack.wasm" -- /work/counter.asc /work/counter.bin
    # Floating point is deterministic in WebAssembly, so the bitstream is the same everywhere.
    local bitstream=bde3ad0a85d6b80bd7c711e6824bf09e8f6a3fdc65ac3b4b6c29b12f38a74bd9
    check "nextpnr: the bitstream, bit by bit" 0 "$bitstream *" sha256sum "$work/counter.bin"
}

check_ripgrep() {
    check "ripgrep: lines with fox" 0 '6:A quick brown fox jumps over the lazy dog.
7:The dog sleeps; the fox goes on along the edge.' \
        selvedge run --dir "$data::/data" "$fetched/ripgrep/rg.wasm" -- -n fox /data/selvedge.txt
    check "ripgrep: a folder, recursively" 0 '/data/counter.v:1' \
        selvedge run --dir "$data::/data" "$fetched/ripgrep/rg.wasm" -- -c '\bposedge\b' /data
    check "ripgrep: no match" 1 0 \
        selvedge run --dir "$data::/data" "$fetched/ripgrep/rg.wasm" \
        -- --count --include-zero badger /data/selvedge.txt
}

check_quickjs() {
    check "quickjs: a script that calls a host function" 0 'generation 50 12,14
generation 100 10,11
generation 150 5,7
generation 200 2,4
2,4 3,2 3,4 4,3 4,4 sqrt 1.4142135623730951 34' \
        embed quickjs "$fetched/quickjs/quickjs.wasm" "$data/life.js"
}

for name in "${names[@]}"; do
    if [ -e "$fetched/$name/VERSION" ]; then "check_$name"; else
        echo "FAIL $name: not fetched; run guests/fetch.sh $name"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
