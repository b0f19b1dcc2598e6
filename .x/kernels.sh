# shellcheck shell=bash
# Debian's kernels for the virtual machines, in the cache:
#
#   kernels/<series>/vmlinuz
#   kernels/<series>/modules/lib/modules/<release>/...
#   kernels/<series>/version                            <release>, as `uname -r` prints it

# A series is named after the versions that it holds; 7.x is whatever of it is newest.
readonly kernel_series=(6.1 6.12 7.x)

# The cloud flavour boots fastest and has all that is needed: device-mapper, EROFS, overlayfs, virtio, ext4.
readonly kernel_flavour=cloud-amd64

# kernels [--refresh]: fetches the kernels that are missing, or newer ones for all.
kernels() {
    local refresh=${1:-} series missing=()
    [[ -z $refresh || $refresh == --refresh ]] || die "kernels: unknown option $refresh (known: --refresh)"
    for series in "${kernel_series[@]}"; do
        [[ -n $refresh || ! -e $cache/kernels/$series/version ]] && missing+=("$series")
    done
    if ((${#missing[@]})); then
        fetch_kernels "${missing[@]}"
    fi
}

print_kernels() {
    local series
    for series in "${kernel_series[@]}"; do
        printf '%-5s %s\n' "$series" "$(<"$cache/kernels/$series/version")"
    done
}

fetch_kernels() {
    local apt=$scratch/kernel-apt mirror series
    say "kernels: looking for the newest of ${*} in Debian's archive"
    mkdir -p "$apt" "$cache/kernels"
    # An empty status file: nothing is installed, so nothing of the machine's own state matters.
    : >"$apt/status"
    mirror=$(debian_mirror)
    debian_lines "$mirror" bookworm bookworm-backports trixie-backports sid | private_apt "$apt" "$apt/status"
    list_kernels "$apt/apt.conf" >"$scratch/kernels.txt"
    for series; do
        fetch_kernel "$series" "$apt/apt.conf"
    done
}

# Prints "RELEASE VERSION PACKAGE..." for every kernel whose image and modules both exist, newest first.
#
# Up to 7.1 (6.12 in stable) one package linux-image-* holds both. Later linux-binary-* or linux-image-* has the
# image, linux-modules-* the modules and linux-base-* the configuration, and the archive does not always
# have all of one version.
list_kernels() {
    local conf=$1 names
    mapfile -t names < <(apt-cache -c "$conf" pkgnames linux- |
        grep -E "^linux-(base|binary|image|modules)-[0-9][^ ]*-$kernel_flavour\$")
    apt-cache -c "$conf" madison "${names[@]}" |
        awk -F ' *[|] *' '
            {
                gsub(/ /, "", $1)
                package = $1; version = $2; release = $1
                sub(/^linux-[a-z]+-/, "", release)
                key = release " " version
                if (seen[package, version]++) next
                packages[key] = packages[key] " " package "=" version
                if (package ~ /^linux-(image|binary)-/) image[key] = 1
                if (package ~ /^linux-(image|modules)-/) modules[key] = 1
            }
            END { for (key in packages) if (image[key] && modules[key]) print key packages[key] }' |
        sort --version-sort --reverse --key=2,2
}

# Puts the newest kernel of a series into the cache.
fetch_kernel() {
    local series=$1 conf=$2 prefix release packages old=
    case $series in
        *.x) prefix=${series%x} ;;
        *) prefix=$series. ;;
    esac
    while read -r release _ packages; do
        [[ $release == "$prefix"* ]] || continue
        # shellcheck disable=SC2086  # a list of package names
        unpack_kernel "$release" "$conf" $packages
        # Without a version file the packages turned out to lack a part: try the next.
        [[ -e $scratch/kernel/version ]] || continue
        [[ -e $cache/kernels/$series/version ]] && old=$(<"$cache/kernels/$series/version")
        rm -rf "${cache:?}/kernels/$series"
        mv "$scratch/kernel" "$cache/kernels/$series"
        say "kernels: $series is $release${old:+ (was $old)}"
        return
    done <"$scratch/kernels.txt"
    die "kernels: Debian's archive has no complete kernel $series any more; the folder $cache/kernels/$series takes another"
}

# Downloads and unpacks one kernel to the scratch folder; the version file comes last, and only to a whole kernel.
unpack_kernel() {
    local release=$1 conf=$2 files=$scratch/kernel-files out=$scratch/kernel package modules
    shift 2
    rm -rf "$files" "$out"
    mkdir -p "$files/deb" "$files/root" "$out/modules/lib/modules"
    (cd "$files/deb" && apt-get -c "$conf" download -qq "$@")
    for package in "$files"/deb/*.deb; do
        dpkg-deb --extract "$package" "$files/root"
    done
    for modules in "$files"/root{,/usr}/lib/modules/"$release"; do
        if [[ -d $modules ]]; then
            cp -a "$modules" "$out/modules/lib/modules/"
        fi
    done
    modules=$out/modules/lib/modules/$release
    if [[ -e $files/root/boot/vmlinuz-$release ]]; then
        mv "$files/root/boot/vmlinuz-$release" "$out/vmlinuz"
    elif [[ -e $modules/vmlinuz ]]; then
        mv "$modules/vmlinuz" "$out/vmlinuz"
    fi
    if [[ -e $out/vmlinuz && -d $modules/kernel ]]; then
        printf '%s\n' "$release" >"$out/version"
    fi
}
