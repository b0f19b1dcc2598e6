# What is said of a device.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)

# Loop devices have the numbers that were free.
status() {
    run veritysetup status "$@" | sed 's,/dev/loop[0-9]*,/dev/loopN,'
}

## of a device
veritysetup open data name hash "$root"
status name
status /dev/mapper/name
status name -v
status name --debug
status name and more
veritysetup close name

## exit codes
veritysetup open data name hash "$root"
run veritysetup status name >/dev/null
run veritysetup status other
run veritysetup status -v other
run veritysetup status /dev/mapper/other
veritysetup close name

## in use
veritysetup open data name hash "$root"
exec 3</dev/mapper/name
status name
exec 3<&-
veritysetup close name

## corrupted
veritysetup open data name hash "$root"
flip data 5000
dd if=/dev/mapper/name of=/dev/null bs=4096 iflag=direct 2>/dev/null
status name
status name -v
veritysetup close name

## suspended
veritysetup open data name hash "$root"
dmsetup suspend name
status name
dmsetup resume name
veritysetup close name

## flags
for options in --ignore-corruption --restart-on-corruption --panic-on-corruption --ignore-zero-blocks \
    --check-at-most-once --use-tasklets '--ignore-corruption --ignore-zero-blocks' \
    '--restart-on-corruption --check-at-most-once'; do
    # shellcheck disable=SC2086 # Words.
    veritysetup open data name hash "$root" $options
    status name
    veritysetup close name
done

## without a superblock and without a salt
root=$(veritysetup format data bare --no-superblock --salt - | root_hash)
veritysetup open data name bare "$root" --no-superblock --salt -
status name
veritysetup close name

## in one file
cat data >both
root=$(veritysetup format both both $FIXED --data-blocks 16 --hash-offset 65536 | root_hash)
veritysetup open both name both "$root" --hash-offset 65536
status name
veritysetup close name

## of hash type 0
root=$(veritysetup format data hash $FIXED --format 0 --hash sha1 | root_hash)
veritysetup open data name hash "$root"
status name
veritysetup close name

## of other block sizes
root=$(veritysetup format data hash $FIXED --data-block-size 512 --hash-block-size 1024 | root_hash)
veritysetup open data name hash "$root"
status name
veritysetup close name

## of block devices
first=$(attach data)
second=$(attach hash)
veritysetup open "$first" name "$second" "$root"
status name
veritysetup close name
detach "$first"
detach "$second"

## of a device that was made by hand
#~ stdout: by-hand
first=$(attach data)
second=$(attach hash)
dmsetup create name --readonly \
    --table "0 128 verity 1 $first $second 4096 4096 16 1 sha256 $root 00112233"
status name
run veritysetup close name
detach "$first"
detach "$second"

## a file that was deleted
cp data gone
veritysetup open gone name hash "$root"
rm gone
status name
veritysetup close name

## as scripts read it
veritysetup open data name hash "$root"
run echo "$(veritysetup status name | awk '/^  status:/ { print $2 }')"
run echo "$(veritysetup status name | sed -n 's/^ *root hash: *//p')"
run echo "$(veritysetup status name | grep 'data loop:' | awk '{ print $3 }')"
if veritysetup status name | grep -q 'is active'; then echo active; fi
veritysetup close name
if ! veritysetup status name >/dev/null; then echo inactive; fi
