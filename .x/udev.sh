# shellcheck shell=bash
# udev for the guests, in the cache: udev/root holds its packages' files, udev/version says which it is.
#
# It is unpacked, not installed: where this machine has none, installing one would start it.

fetch_udev() {
    local apt=$scratch/udev-apt out=$scratch/udev package
    [[ ! -e $cache/udev/version ]] || return 0
    # Downloads udev and those libraries of it that this machine lacks; the others are taken from here.
    local fetch=(apt-get install --reinstall --yes --no-install-recommends --download-only
        -o "Dir::Cache=$apt" -o Debug::NoLocking=true -o APT::Sandbox::User=root udev)
    mkdir -p "$apt/archives/partial" "$out/root"
    if ! "${fetch[@]}" >"$scratch/log" 2>&1; then
        update_lists "they may be stale"
        quietly "${fetch[@]}"
    fi
    for package in "$apt"/archives/*.deb; do
        dpkg-deb --extract "$package" "$out/root"
    done
    dpkg-deb --field "$apt"/archives/udev_*.deb Version >"$out/version"
    rm -rf "${cache:?}/udev"
    mv "$out" "$cache/udev"
    say "udev: $(<"$cache/udev/version")"
}
