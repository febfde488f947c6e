#!/usr/bin/env bash
# Guests with protection keys, on an emulated processor that has them, under the distribution's kernel: the tests that
# can't run where there are none, and others once more with keys.
#
# Wants Debian's packages qemu-system-x86, busybox-static and cpio, and apt to fetch a kernel, which is not installed.
# SELVEDGE_KERNEL names another one (a bzImage). Arguments are names of test programs, if not all are to run. Not a part
# of `.ci/run`: it takes some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for tool in qemu-system-x86_64 cpio dpkg-deb apt-get ldd strip timeout; do
    command -v "$tool" >/dev/null || { echo "$tool is missing; see the head of $0" >&2; exit 1; }
done
busybox=$(command -v busybox) || { echo "busybox is missing; see the head of $0" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

kernel=${SELVEDGE_KERNEL:-}
if [ -z "$kernel" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
    echo "+ apt-get download $package"
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package")
    dpkg-deb -x "$work"/"$package"_*.deb "$work/kernel"
    kernel=$(echo "$work"/kernel/boot/vmlinuz-*)
fi

# What runs inside: a line each, the test program, how many tests there are to be at least, and its arguments.
cat >"$work/runs" <<'RUNS'
keys 25
selvedge_runtime 20 arch:: sys::keys sys::mmap region::layout vm::memory
region 8 clean full
embed 120 calls contexts globals_tables heaps hostcalls linking memory recovery start states suspend --skip take_slots
budgets 8 fuel:: bounded::
proposals 12 exceptions --skip too_many --skip make_room
RUNS
if [ $# -gt 0 ]; then
    grep -E "^($(IFS='|'; echo "$*")) " "$work/runs" >"$work/chosen"
    mv "$work/chosen" "$work/runs"
fi

echo "+ cargo test --no-run"
targets=$(cut -d' ' -f1 "$work/runs" | sed 's/^selvedge_runtime$/--lib/; t; s/^/--test /')
# shellcheck disable=SC2086 # words of their own
built=$(cargo test -q -p selvedge-runtime -p selvedge-tests $targets --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')

root=$work/root
mkdir -p "$root"/{bin,tests,proc,sys,dev,tmp}
cp "$busybox" "$root/bin/busybox"
while read -r name _; do
    program=$(grep -E "/$name-[0-9a-f]{16}$" <<<"$built" | head -n 1)
    [ -n "$program" ] || { echo "no test program is named $name" >&2; exit 1; }
    strip -o "$root/tests/$name" "$program"
    ldd "$program" | grep -oE '/[^ ]+' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Ln "$library" "$root$library"
    done
done <"$work/runs"
cp "$work/runs" "$root/runs"

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
ip link set lo up
grep -q -w ospke /proc/cpuinfo || echo "keys: the processor has none"
export SELVEDGE_PROTECTION_KEYS=15 HOME=/tmp TMPDIR=/tmp RUST_BACKTRACE=0
cd /tmp
# Ends the line that the machine's firmware has begun.
echo
while read -r name least arguments; do
    echo "keys: runs $name $arguments"
    if "/tests/$name" -q $arguments >/tmp/out 2>&1; then
        passed=$(sed -n 's/^test result: ok. \([0-9]*\) passed.*/\1/p' /tmp/out)
        echo "keys: $name passed $passed after $(cut -d. -f1 /proc/uptime) s"
        [ "${passed:-0}" -ge "$least" ] || echo "keys: failed: $name has $passed tests, there were to be $least"
        grep -m 3 'nothing is tested' /tmp/out && echo "keys: failed: $name was skipped"
    else
        cat /tmp/out
        echo "keys: failed: $name"
    fi
done </runs
echo "keys: all were run"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) | gzip -1 >"$work/initramfs"

echo "+ qemu-system-x86_64 -cpu max,-smap -accel tcg"
# Two processors with keys, and nothing else: no disk, no network. With SMAP, QEMU 7.2 takes the stack of an `iretq`
# in user mode for one that the kernel must not read.
timeout 1200 qemu-system-x86_64 -machine q35 -cpu max,-smap -accel tcg,thread=multi -smp 2 -m 3G -nographic -no-reboot \
    -nic none -kernel "$kernel" -initrd "$work/initramfs" \
    -append "console=ttyS0 panic=-1 quiet no_timer_check" </dev/null 2>&1 | sed -un 's|\r$||; /^keys: runs/,$p' | tee "$work/log"

grep -q '^keys: all were run' "$work/log" || { echo "the machine did not come to its end" >&2; exit 1; }
! grep -q '^keys: failed\|^keys: the processor' "$work/log" || { echo "tests failed" >&2; exit 1; }
