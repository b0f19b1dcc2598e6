# shellcheck shell=bash
# What the benchmark's cases of layers need, from Debian alone.
#
#   bench/layer.tar        a layer of some 800 MB: packages of Debian bookworm and what they depend on, as they are unpacked
#   bench/layer.tar.gz     the same, compressed by gzip -6
#   bench/layer.tar.zst    the same, compressed by zstd -3
#   bench/erofs-utils      the peer: erofs-utils of Debian trixie with its libraries, unpacked and not installed

# Compilers, runtimes, interpreters: a mixture of large and small files, as images have them.
readonly bench_packages=clang-14,openjdk-17-jre-headless,python3,git,perl,bash,coreutils,dpkg

# bench_layers [--refresh]: makes what is missing, or all anew.
bench_layers() {
    local refresh=${1:-}
    [[ -z $refresh || $refresh == --refresh ]] || die "bench-layers: unknown option $refresh (known: --refresh)"
    [[ -z $refresh && -e $cache/bench/layer.tar.zst ]] && return
    if ((EUID != 0)); then
        require_root "VERITY_CACHE=$cache $PWD/x bench-layers"
        # A root file system has files of many owners.
        as_root env VERITY_CACHE="$cache" VERITY_CACHE_LOCKED=1 "$PWD/x" bench-layers --refresh
        as_root chown -R "$EUID:$(id -g)" "$cache/bench"
        return
    fi
    local out=$scratch/bench
    mkdir -p "$out"
    fetch_erofs_utils "$out/erofs-utils"
    make_bench_layer "$out"
    rm -rf "${cache:?}/bench"
    mv "$out" "$cache/bench"
    say "bench: $(du -h "$cache/bench/layer.tar" | cut -f 1) layer, $("$cache/bench/erofs-utils/mkfs.erofs" --version | head -n 1)"
}

# Unpacked packages, none of them set up: no log, cache, time or mirror of this moment is in the layer.
make_bench_layer() {
    local out=$1
    say "bench: making a layer of $bench_packages"
    debian_lines "$(debian_mirror)" bookworm >"$scratch/bookworm.list"
    # shellcheck disable=SC2016  # the folder is mmdebstrap's to name
    SOURCE_DATE_EPOCH=$demo_time quietly mmdebstrap --variant=extract --include="$bench_packages" \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --skip=chroot/mount \
        --customize-hook='rm -rf "$1/etc/apt"/sources.list*' \
        bookworm "$out/layer.tar" "$scratch/bookworm.list"
    gzip -6 --no-name --stdout "$out/layer.tar" >"$out/layer.tar.gz"
    zstd -3 --quiet "$out/layer.tar" -o "$out/layer.tar.zst"
}

# With all the libraries that it needs, libc among them: this machine's may be older.
fetch_erofs_utils() {
    local out=$1 apt=$scratch/bench-apt package program
    say "bench: downloading erofs-utils of Debian trixie"
    mkdir -p "$apt" "$out/root"
    : >"$apt/status"
    debian_lines "$(debian_mirror)" trixie | private_apt "$apt" "$apt/status"
    quietly apt-get -c "$apt/apt.conf" install --yes --download-only erofs-utils
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$out/root"
    done
    for program in mkfs.erofs fsck.erofs; do
        # shellcheck disable=SC2016  # for the script that is written
        printf '#!/bin/sh\nroot=$(dirname "$(readlink -f "$0")")/root\n%s %s "$root/usr/bin/%s" "$@"\n' \
            'exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path' '"$root/usr/lib/x86_64-linux-gnu"' \
            "$program" >"$out/$program"
        chmod +x "$out/$program"
    done
}
