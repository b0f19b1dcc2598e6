# What the scripts share.
umask 022
FIXED='--uuid 01234567-89ab-cdef-0123-456789abcdef --salt 00112233'

# Runs a command. Says which and how it ended, so that a difference has its place.
run() {
    echo "\$ $*"
    echo "\$ $*" >&2
    "$@"
    echo "=> $?"
}

# blocks COUNT FILE [SIZE]: a file in which no two blocks are alike.
blocks() {
    seq 1000000 9999999 | head -c $(($1 * ${3:-4096})) >"$2"
}

# flip FILE OFFSET: another byte in its place.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # The octal number is the format.
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# put FILE OFFSET OCTAL...: these bytes in their place.
put() {
    file=$1 at=$2
    shift 2
    for byte; do
        # shellcheck disable=SC2059
        printf "\\$byte" | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
        at=$((at + 1))
    done
}

# attach FILE: a read-only loop device, which it names. By its path, since a shell may have a lesser losetup built in.
attach() {
    /bin/losetup --find --show --read-only "$1"
}

detach() {
    /bin/losetup --detach "$1"
}

# device NAME TABLE, removed NAME: a device of any kind, and its node, which is udev's work where udev runs.
device() {
    dmsetup create "$1" --table "$2"
    dmsetup mknodes "$1"
}

removed() {
    dmsetup remove "$1" 2>/dev/null
    rm -f "/dev/mapper/$1"
}

# The root hash that format printed, as scripts fetch it.
root_hash() {
    grep 'Root hash' | awk '{ print $3 }'
}
