# Shared by the scripts in ci/: sourced, never run on its own.
#
# What stands here: where the project is, how to say what a step does, what to put back at exit, root rights, hugepages.
# What does not: any check. Each check is one script beside this file, and runs alone from any working directory.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ME="ci/$(basename "$0")"
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
# What cargo would have found for a relative folder: one below the folder the caller stands in.
case $TARGET in /*) ;; *) TARGET=$PWD/$TARGET ;; esac
export CARGO_TARGET_DIR=$TARGET

say() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Usage text is the comment block at the top of the calling script, without its first line (#!).
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "${BASH_SOURCE[1]}"; }

# rustup's folder goes first in PATH, as rustup itself does it: a shell that was open before the installation does not
# know it yet, and a distribution's own cargo may be too old.
find_cargo() {
    local folder=${CARGO_HOME:-$HOME/.cargo}/bin
    [ -x "$folder/cargo" ] && [ "$(command -v cargo)" != "$folder/cargo" ] && PATH="$folder:$PATH"
    hash -r
}
find_cargo
# Tools of the administrator (ip, ethtool, tcpdump): absent from an ordinary user's PATH on Debian.
case ":$PATH:" in *:/usr/sbin:*) ;; *) PATH="$PATH:/usr/sbin:/sbin" ;; esac
export PATH

# Installs what a script needs, if anything is missing: build, demo or all.
ensure_deps() {
    "$ROOT/ci/deps" "$1"
    find_cargo
}

# Flags in the environment silently replace those of .cargo/config.toml, and with them the defence against the
# compiler's miscount described there. They are dropped here, aloud.
for variable in RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS $(compgen -v CARGO_TARGET_ | grep -E '_RUSTFLAGS$' || true); do
    if [ -n "${!variable+set}" ]; then
        say "$variable is set and would replace the flags in .cargo/config.toml: ignored"
        unset "$variable"
    fi
done
unset variable

# cargo, from the project's folder: .cargo/config.toml is found from the working directory, not from the manifest.
project_cargo() { (cd "$ROOT" && exec cargo "$@"); }

# Commands to run at exit, last one first, also after a failure or Ctrl-C.
AT_EXIT=()
at_exit() { AT_EXIT+=("$*"); }
run_at_exit() {
    local status=$? index
    trap - EXIT
    for ((index = ${#AT_EXIT[@]} - 1; index >= 0; index--)); do
        eval "${AT_EXIT[index]}" || true
    done
    exit "$status"
}
trap run_at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

is_root() { [ "$(id -u)" -eq 0 ]; }
# Runs a command as root: directly, or through sudo; says so when it can do neither.
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        say "this needs root (no sudo here): $*"
        return 1
    fi
}

# Test programs that open taps, namespaces and DPDK devices need root, building does not: cargo builds, and runs each of them
# apart from the others, through sudo where that is needed.
use_runner_apart() {
    is_root || command -v sudo >/dev/null 2>&1 || die "these tests need root (namespaces, taps): run as root or install sudo"
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=ci/apart" # seen from the project's folder
}

# The tap driver's kernel side. Containers often lack the node although the kernel has the driver.
ensure_tun() {
    [ -c /dev/net/tun ] && return 0
    as_root sh -c 'modprobe tun 2>/dev/null; [ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200; }' ||
        say "/dev/net/tun is missing and could not be made: tap ports will not open"
}

HUGE=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
# reserve_hugepages [COUNT]: reserves 2 MiB pages for measurements and EAL tests when nobody has, and mounts hugetlbfs; puts
# both back at exit.
# Nothing functional needs them: when they cannot be had, one line says so and everything goes on.
reserve_hugepages() {
    local wanted=${1:-512} available_kib got
    if [ ! -e $HUGE ]; then
        say "this kernel has no 2 MiB pages: running on ordinary memory"
        return 0
    fi
    if [ "$(cat $HUGE)" -eq 0 ]; then
        # At most half of what is free, so that the build still fits on a small machine.
        available_kib=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
        ((available_kib / 4096 < wanted)) && wanted=$((available_kib / 4096))
        if ! as_root sh -c "echo $wanted > $HUGE" 2>/dev/null; then
            say "hugepages cannot be reserved here: running on ordinary memory"
            return 0
        fi
        at_exit "as_root sh -c 'echo 0 > $HUGE'"
        got=$(cat $HUGE)
        say "reserved $got hugepages of 2 MiB (given back at exit)"
    fi
    if ! grep -q ' /dev/hugepages hugetlbfs ' /proc/mounts; then
        if as_root sh -c 'mkdir -p /dev/hugepages && mount -t hugetlbfs -o pagesize=2M nodev /dev/hugepages' 2>/dev/null; then
            at_exit "as_root umount /dev/hugepages"
            say "mounted /dev/hugepages (unmounted at exit)"
        else
            say "/dev/hugepages cannot be mounted here: running on ordinary memory"
        fi
    fi
}

# Names of the integration test programs of all crates.
test_programs() {
    (cd "$ROOT" && for file in */tests/*.rs */tests/*/main.rs; do
        [ -e "$file" ] || continue
        case $file in
        */main.rs) basename "$(dirname "$file")" ;;
        *) basename "$file" .rs ;;
        esac
    done | sort -u)
}

# prepare_suites PREFIX [--release] [TEST…]: everything that the test programs whose names start so need. Their names are in
# SUITES, parts of the names of tests that shall run in TESTS.
prepare_suites() {
    local prefix=$1
    SUITES=() TESTS=() SUITE_FLAGS=()
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --release) SUITE_FLAGS+=(--profile optimized) ;;
        -h | --help)
            awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
            exit 0
            ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) TESTS+=("$1") ;;
        esac
        shift
    done
    mapfile -t SUITES < <(test_programs | grep "^$prefix" || true)
    [ ${#SUITES[@]} -gt 0 ] || die "no test program is called $prefix*"
    ensure_deps all
    ensure_tun
    reserve_hugepages
    use_runner_apart
}

# run_suites [--no-run] NAME…: these test programs, one test at a time, because a process has one EAL, and the machine one set
# of hugepages and one set of interface names.
run_suites() {
    local options=() programs=() name
    [ "$1" != --no-run ] || { options=(--no-run) && shift; }
    for name in "$@"; do programs+=(--test "$name"); done
    project_cargo test --workspace --no-fail-fast "${options[@]}" "${SUITE_FLAGS[@]}" "${programs[@]}" -- \
        --test-threads=1 "${TESTS[@]}"
}
