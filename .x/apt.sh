# shellcheck shell=bash
# Debian's package tools, pointed at archives that the machine itself need not use.
#
# The machine's own sources, lists and caches are never touched. A private configuration is made for each task in the
# scratch folder and goes away with it; the mirror and the keys in it are the ones that the machine already uses.

# Debian archives in the machine's own sources, by label ("Debian" or "Debian-Security"): one line "URI FILE:STANZA".
debian_sources() {
    # shellcheck disable=SC2016  # apt-get expands these
    apt-get indextargets --format '$(REPO_URI) $(SOURCESENTRY)' \
        'Created-By: Packages' 'Origin: Debian' "Label: $1" | awk 'NR == 1'
}

# Fetches the machine's own package lists: update_lists REASON.
update_lists() {
    say "package lists: $1"
    # One source of many may be out of order; whether that matters, the next step shows.
    as_root apt-get update -qq >&2 || say "apt-get update had errors, going on"
}

# The machine's Debian mirror.
debian_mirror() {
    local source
    source=$(debian_sources Debian)
    if [[ -z $source ]]; then
        # Origin and label come from the lists, which a fresh machine may not have yet.
        update_lists "this machine has none yet"
        source=$(debian_sources Debian)
    fi
    [[ -n $source ]] || die "no Debian archive among this machine's package sources (apt-get indextargets shows them)"
    printf '%s\n' "${source%% *}"
}

# The mirror of Debian's security updates: the machine's own, else the one beside its Debian mirror.
security_mirror() {
    local source main
    source=$(debian_sources Debian-Security)
    if [[ -n $source ]]; then
        printf '%s\n' "${source%% *}"
    else
        main=$(debian_mirror)
        printf '%s\n' "${main%/}-security"
    fi
}

# The file of keys that the machine checks its Debian mirror with; nothing where apt's own trusted keys do.
debian_keyring() {
    local source file keyring
    source=$(debian_sources Debian)
    file=${source#* }
    keyring=$(sed -nE 's/^Signed-By:[[:space:]]*(\/[^[:space:]]+).*/\1/p; s/^deb .*signed-by=(\/[^] ,]+).*/\1/p' \
        "${file%:*}" | awk 'NR == 1')
    if [[ -z $keyring && -e /usr/share/keyrings/debian-archive-keyring.gpg ]]; then
        keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    fi
    printf '%s\n' "$keyring"
}

# Source lines for SUITEs of the archive at URI: debian_lines URI SUITE...
debian_lines() {
    local uri=$1 keyring suite
    shift
    keyring=$(debian_keyring)
    for suite; do
        printf 'deb [arch=amd64 target=Packages%s] %s %s main\n' "${keyring:+ signed-by=$keyring}" "$uri" "$suite"
    done
}

# Makes a private configuration in the folder DIR from source lines on standard input and fetches its lists.
# Use it as `apt-get -c DIR/apt.conf`. STATUS says which packages count as installed.
private_apt() {
    local dir=$1 status=$2
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    cat >"$dir/sources.list"
    cat >"$dir/apt.conf" <<CONF
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$dir/lists";
Dir::State::Status "$status";
Dir::Cache "$dir/cache";
// A mirror that lags, or a snapshot, still holds what Debian signed, and what is fetched serves tests only.
Acquire::Check-Valid-Until "false";
APT::Install-Recommends "false";
// The folder is the caller's: apt's unprivileged download user cannot write there.
APT::Sandbox::User "root";
CONF
    apt-get -c "$dir/apt.conf" update -qq >&2
}
