# shellcheck shell=bash
# The demo's input: two real container layers, from Debian alone.
#
#   demo/oci            OCI image layout: the image `base` has one layer, Debian bookworm as it was released; `patched` has one more on top
#                       of it, what the security suite's updates changed
#   demo/listing        every file of `patched` as umoci unpacks it: what a mounted image has to equal
#   demo/facts          KEY=value: what to run and what it should say

# A small program with a library of its own, both of which the security suite updates often.
readonly demo_package=openssl
readonly demo_program='/usr/bin/openssl version'

# The time of what the package manager makes.
readonly demo_time=1700000000

# demo_layers [--refresh]: builds the layers if they are missing, or anew from the archive's newest updates.
demo_layers() {
    local refresh=${1:-}
    [[ -z $refresh || $refresh == --refresh ]] || die "layers: unknown option $refresh (known: --refresh)"
    [[ -z $refresh && -e $cache/demo/listing ]] && return
    if ((EUID != 0)); then
        require_root "VERITY_CACHE=$cache $PWD/x layers"
        # A root file system has files of many owners.
        as_root env VERITY_CACHE="$cache" VERITY_CACHE_LOCKED=1 "$PWD/x" layers --refresh
        as_root chown -R "$EUID:$(id -g)" "$cache/demo"
        return
    fi
    local out=$scratch/demo bundle=$scratch/bundle
    mkdir -p "$out"
    prepare_archives
    make_base_image "$out/oci" "$bundle"
    make_patched_image "$out/oci" "$bundle"
    write_facts "$out"
    say "layers: unpacking the result, to compare with"
    umoci unpack --image "$out/oci:patched" "$scratch/unpacked"
    list_tree "$scratch/unpacked/rootfs" >"$out/listing"
    rm -rf "${cache:?}/demo"
    mv "$out" "$cache/demo"
    say "layers: $(du -sh "$cache/demo/oci" | cut -f 1) in two layers in $cache/demo"
}

prepare_archives() {
    local mirror security
    mirror=$(debian_mirror)
    security=$(security_mirror)
    debian_lines "$mirror" bookworm >"$scratch/bookworm.list"
    debian_lines "$security" bookworm-security >"$scratch/security.list"
}

make_base_image() {
    local oci=$1 bundle=$2
    say "layers: making a Debian bookworm root file system"
    umoci init --layout "$oci"
    umoci new --image "$oci:base"
    umoci unpack --image "$oci:base" "$bundle"
    # Without documentation, as in Debian's own "slim" container images; merged by the hook, else the package usrmerge
    # does it and brings all of Perl along; without mounts, which an interrupted run would leave behind.
    SOURCE_DATE_EPOCH=$demo_time quietly mmdebstrap --variant=essential --include="$demo_package" \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --skip=chroot/mount \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        bookworm "$bundle/rootfs" "$scratch/bookworm.list"
    clean_root "$bundle/rootfs"
    # Of these packages none has a file with an extended attribute, which have to arrive, too.
    setfattr --name=user.demo --value=base "$bundle/rootfs/etc/debian_version"
    installed_versions "$bundle/rootfs" >"$scratch/base-versions"
    umoci repack --refresh-bundle --image "$oci:base" "$bundle"
}

# Installs the security suite's updates as an administrator would, and writes the difference as a layer.
make_patched_image() {
    local oci=$1 bundle=$2 root=$2/rootfs apt=$scratch/demo-apt
    say "layers: installing the security suite's updates"
    mkdir -p "$apt"
    cat "$scratch/bookworm.list" "$scratch/security.list" | private_apt "$apt" "$root/var/lib/dpkg/status"
    apt-get -c "$apt/apt.conf" -o Dir::State::extended_states="$apt/extended_states" \
        upgrade --quiet=2 --yes --with-new-pkgs --download-only >&2
    compgen -G "$apt/cache/archives/*.deb" >/dev/null ||
        die "layers: the security suite has no update for this root file system, so there is no patch to show"
    mkdir "$root/updates"
    cp "$apt"/cache/archives/*.deb "$root/updates/"
    # Maintainer scripts write to it; without it they would make an ordinary file of that name.
    mknod -m 666 "$root/dev/null" c 1 3
    quietly env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C \
        chroot "$root" sh -c 'dpkg --log=/dev/null --install /updates/*.deb'
    rm -rf "$root/updates"
    clean_root "$root"
    installed_versions "$root" >"$scratch/patched-versions"
    umoci repack --image "$oci:patched" "$bundle"
}

# Removes what belongs to this machine or this moment: a container image has neither device nodes nor a name.
clean_root() {
    local root=$1
    find "$root/dev" -mindepth 1 -delete
    rm -rf "$root"/etc/{hostname,resolv.conf,apt/sources.list} "$root"/var/cache/ldconfig/aux-cache
}

installed_versions() {
    dpkg-query --admindir="$1/var/lib/dpkg" --show --showformat '${Package} ${Version}\n' | sort
}

# list_tree ROOT: what is in a tree, a fact a line, with tabs between words: `meta` (path, type, mode, owner, group, time, and size or where a link leads),
# `sha256` (digest, path) and `xattr` (path, name=value). The root itself is not listed: no layer has an entry for it, so its time is that of unpacking.
list_tree() {
    local root=$1 meta='meta\t%P\t%y\t%m\t%U\t%G\t%T@'
    (
        cd "$root"
        find . -mindepth 1 \( -type f -printf "$meta\t%s\n" \) -o \( -type l -printf "$meta\t%l\n" \) -o -printf "$meta\t\n"
        find . -mindepth 1 -type f -printf '%P\0' | xargs -0 sha256sum | sed -E 's/^([0-9a-f]+) [ *]/sha256\t\1\t/'
        find . -mindepth 1 -printf '%P\0' | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex |
            awk '/^# file: / { path = substr($0, 9) } /=/ { if (!/^# file: /) print "xattr\t" path "\t" $0 }'
    ) | LC_ALL=C sort
}

write_facts() {
    local out=$1 package before after
    # The packages whose version differs, the program's own first.
    join "$scratch/base-versions" "$scratch/patched-versions" | awk '$2 != $3' >"$scratch/updated"
    read -r package before after < <(grep "^$demo_package " "$scratch/updated" || cat "$scratch/updated")
    cat >"$out/facts" <<FACTS
PACKAGE=$package
BASE_VERSION=$before
PATCHED_VERSION=$after
PROGRAM=$demo_program
FACTS
}
