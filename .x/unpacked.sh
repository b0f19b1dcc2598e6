# shellcheck shell=bash
# Packages of Debian that are unpacked into the cache and not installed: where this machine has none of them, installing one would start it, now and whenever
# the machine does. NAME/root holds a package's files, NAME/version says which it is.
#
#   udev               for the guests
#   docker-registry    for the tests, which start one of their own; it is on the PATH of every command

readonly unpacked_packages=(udev docker-registry)

fetch_unpacked() {
    local package
    for package in "${unpacked_packages[@]}"; do
        [[ -e $cache/$package/version ]] || fetch_package "$package"
    done
}

fetch_package() {
    local package=$1 archive
    local apt=$scratch/$package-apt out=$scratch/$package
    # Downloads it and those libraries of it that this machine lacks; the others are taken from here.
    local fetch=(apt-get install --reinstall --yes --no-install-recommends --download-only
        -o "Dir::Cache=$apt" -o Debug::NoLocking=true -o APT::Sandbox::User=root "$package")
    mkdir -p "$apt/archives/partial" "$out/root"
    if ! "${fetch[@]}" >"$scratch/log" 2>&1; then
        update_lists "they may be stale"
        quietly "${fetch[@]}"
    fi
    for archive in "$apt"/archives/*.deb; do
        dpkg-deb --extract "$archive" "$out/root"
    done
    dpkg-deb --field "$apt/archives/${package}"_*.deb Version >"$out/version"
    rm -rf "${cache:?}/$package"
    mv "$out" "$cache/$package"
    say "$package: $(<"$cache/$package/version")"
}
