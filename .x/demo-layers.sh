# shellcheck shell=bash
# The demo's input: two real container layers, from Debian alone.
#
#   demo/oci            OCI image layout: the image `base` has one layer, `patched` has one more on top of it
#   demo/base.erofs     the base layer as a file system: Debian bookworm as it was released
#   demo/patch.erofs    the patch layer: what the security suite's updates changed in it
#   demo/facts          KEY=value: what to run and what it should say

# A small program with a library of its own, both of which the security suite updates often.
readonly demo_package=openssl
readonly demo_program='/usr/bin/openssl version'

# Nothing in the images depends on when they were made: two builds from one state of the archive have one root hash.
readonly demo_time=1700000000
readonly demo_base_uuid=0b1a5e00-0000-4000-8000-000000000001
readonly demo_patch_uuid=0b1a5e00-0000-4000-8000-000000000002

# demo_layers [--refresh]: builds the layers if they are missing, or anew from the archive's newest updates.
demo_layers() {
    local refresh=${1:-}
    [[ -z $refresh || $refresh == --refresh ]] || die "layers: unknown option $refresh (known: --refresh)"
    [[ -z $refresh && -e $cache/demo/facts ]] && return
    if ((EUID != 0)); then
        require_root "VERITY_CACHE=$cache $PWD/x layers"
        # A root file system has files of many owners, and whiteouts are device nodes.
        as_root env VERITY_CACHE="$cache" VERITY_CACHE_LOCKED=1 "$PWD/x" layers --refresh
        as_root chown -R "$EUID:$(id -g)" "$cache/demo"
        return
    fi
    local out=$scratch/demo bundle=$scratch/bundle
    mkdir -p "$out"
    prepare_archives
    make_base_image "$out/oci" "$bundle"
    make_patched_image "$out/oci" "$bundle"
    make_images "$out"
    write_facts "$out"
    rm -rf "${cache:?}/demo"
    mv "$out" "$cache/demo"
    say "layers: $(du -h "$cache/demo/base.erofs" | cut -f 1) base," \
        "$(du -h "$cache/demo/patch.erofs" | cut -f 1) patch in $cache/demo"
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

make_images() {
    local out=$1 layers
    mapfile -t layers < <(umoci stat --json --image "$out/oci:patched" |
        grep -oE '"digest":"sha256:[0-9a-f]{64}"' | grep -oE '[0-9a-f]{64}')
    ((${#layers[@]} == 2)) || die "layers: the patched image has ${#layers[@]} layers instead of two"
    make_image "$out/oci/blobs/sha256/${layers[0]}" "$out/base.erofs" "$demo_base_uuid"
    make_image "$out/oci/blobs/sha256/${layers[1]}" "$out/patch.erofs" "$demo_patch_uuid"
}

# make_image BLOB IMAGE UUID: an EROFS image of one layer, as overlayfs wants it.
make_image() {
    local blob=$1 image=$2 uuid=$3 tree=$scratch/tree
    say "layers: ${image##*/} from sha256:${blob##*/}"
    rm -rf "$tree"
    mkdir "$tree"
    tar --extract --gzip --file="$blob" --directory="$tree" --numeric-owner --same-owner --same-permissions \
        --xattrs --xattrs-include='*'
    translate_whiteouts "$tree"
    mkfs.erofs --quiet -T "$demo_time" -U "$uuid" "$image" "$tree" >&2
}

# OCI says what a layer takes away with files of reserved names, overlayfs with device nodes and attributes.
translate_whiteouts() {
    local tree=$1 file name
    while IFS= read -r -d '' file; do
        name=${file##*/.wh.}
        rm "$file"
        if [[ $name == .wh..opq ]]; then
            setfattr -n trusted.overlay.opaque -v y "${file%/*}"
        else
            mknod "${file%/*}/$name" c 0 0
        fi
    done < <(find "$tree" -name '.wh.*' -print0)
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
