# shellcheck shell=bash
# What the machine needs, and how it gets it.

# Debian packages, each line with what needs it.
debian_packages=(
    gcc libc6-dev                         # every Rust link, and the static guest program
    g++                                   # build of libFuzzer
    pkgconf libclang-dev libdevmapper-dev # build of the devicemapper crate
    ca-certificates                       # crates.io over TLS
    cryptsetup-bin                        # veritysetup, the tests' peer
    busybox-static dmsetup mount          # tools in a guest
    openssl keyutils                      # keys and signatures in the tests
    ovmf                                  # firmware of guests that start through UEFI
    mmdebstrap umoci attr e2fsprogs       # the demo's images, and the disk that they are on
    erofs-utils                           # images of others, for the tests
    skopeo                                # a peer that carries images, as umoci is one that makes them
    apache2-utils                         # the passwords of a registry's users
    qemu-utils systemd                    # peers that read and write layers' disks: qemu-img, systemd-repart
    zstd                                  # the benchmark's layers
    shellcheck                            # lint of this script
)

# Older QEMUs emulate Linux 6.12 wrongly: its guests panic with double faults within a minute.
readonly qemu_needed=10

setup() {
    require_debian
    require_rust
    install_packages
    install_qemu
    kernels ""
    fetch_unpacked
}

require_debian() {
    local id version name machine
    machine=$(uname -m)
    # shellcheck source=/dev/null
    read -r id version name < <(. /etc/os-release 2>/dev/null && echo "${ID:-?} ${VERSION_ID:-999} ${PRETTY_NAME:-?}") ||
        name=$(uname -s)
    # Testing and unstable carry no VERSION_ID.
    # From Debian 13 on it is a package of its own.
    [[ ${id:-} != debian || ${version%%.*} -lt 13 ]] || debian_packages+=(systemd-repart)
    [[ ${id:-} == debian && ${version%%.*} -ge 12 && $machine == x86_64 ]] && return
    cat >&2 <<TEXT
x: this machine runs $name on $machine; the set-up knows Debian 12 or newer on x86_64 only.

Either run the same command in a Debian container, from this folder:

    docker run --rm -it --privileged -v "\$PWD":/src -w /src rust:1-bookworm ./x demo

or install what Debian calls ${debian_packages[*]}
with this machine's package manager (the C compiler, pkg-config, libclang and the libdevmapper headers for the build;
veritysetup, mkfs.erofs and the rest for the tests), QEMU $qemu_needed or newer with qemu-system-x86_64, and run the steps that
need no set-up: ./x lint, ./x unit, ./x interop. For ./x kernel put kernels into
$cache/kernels/<series>/{vmlinuz,modules/lib/modules/<release>,version}
with <series> one of: ${kernel_series[*]}.
TEXT
    exit 1
}

require_rust() {
    local needed found tool
    needed=$(sed -nE 's/^rust-version = "(.*)"$/\1/p' Cargo.toml)
    if ! found=$(rustc --version 2>/dev/null); then
        die "Rust $needed or newer is needed and there is no rustc on PATH.
Install it with rustup (https://rustup.rs), then open a new shell:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    fi
    found=${found#rustc }
    found=${found%% *}
    at_least "$found" "$needed" ||
        die "Rust $needed or newer is needed and this is $found: run \`rustup update stable\`, or install rustup (https://rustup.rs)"
    for tool in cargo cargo-fmt cargo-clippy; do
        "$tool" --version >/dev/null 2>&1 ||
            die "$tool is needed: run \`rustup component add rustfmt clippy\`, or install rustup (https://rustup.rs)"
    done
}

# at_least A B: version A is B or newer.
at_least() {
    [[ $(printf '%s\n' "$2" "$1" | sort --version-sort | head -n 1) == "$2" ]]
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    require_root "apt-get install --no-install-recommends ${missing[*]}"
    say "Debian packages to install: ${missing[*]}"
    apt_install "${missing[@]}"
}

missing_packages() {
    # An unknown package is not an error: it is missing.
    { dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' "${debian_packages[@]}" 2>/dev/null || true; } |
        awk -v wanted="${debian_packages[*]}" '
            $2 == "installed" { have[$1] = 1 }
            END { n = split(wanted, w, " "); for (i = 1; i <= n; i++) if (!have[w[i]]) print w[i] }'
}

# apt_install [-OPTION VALUE...] PACKAGE...
apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@")
    if ! "${install[@]}" --simulate >/dev/null 2>&1; then
        update_lists "they do not know all of these"
    fi
    # A list that is too old names files that the archive has dropped.
    if ! quietly as_root "${install[@]}"; then
        update_lists "they may be stale"
        quietly as_root "${install[@]}"
    fi
}

install_qemu() {
    local found apt=$scratch/qemu-apt mirror codename
    found=$(qemu_version)
    if at_least "$found" "$qemu_needed"; then
        return
    fi
    require_root "apt-get install qemu-system-x86 (version $qemu_needed or newer; on Debian 12 from bookworm-backports)"
    say "QEMU $qemu_needed or newer to install"
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if [[ $codename == bookworm ]]; then
        # Debian 12's own QEMU is 7.2. Only bookworm and its backports are in this configuration: from a newer suite apt
        # would take half the system along.
        mirror=$(debian_mirror)
        mkdir -p "$apt"
        debian_lines "$mirror" bookworm bookworm-backports | private_apt "$apt" /var/lib/dpkg/status
        apt_install -c "$apt/apt.conf" --target-release bookworm-backports qemu-system-x86
    else
        apt_install qemu-system-x86
    fi
    found=$(qemu_version)
    at_least "$found" "$qemu_needed" || die "QEMU $qemu_needed or newer is needed and Debian offers $found"
}

# The version of QEMU; 0 where there is none.
qemu_version() {
    { qemu-system-x86_64 --version 2>/dev/null || echo "QEMU emulator version 0"; } |
        sed -nE '1s/^QEMU emulator version ([0-9.]+).*/\1/p'
}
