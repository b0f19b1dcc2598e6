# The end of a device.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)
veritysetup open data name hash "$root"

# Waits until the device of this name is gone.
gone() {
    tries=0
    while dmsetup info "$1" >/dev/null 2>&1 && [ $tries -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    dmsetup info "$1" >/dev/null 2>&1 || echo "$1 is gone"
}

## close
run veritysetup close name
run veritysetup close name
run ls /dev/mapper

## remove
run veritysetup remove name
run veritysetup remove name

## close by path
run veritysetup close /dev/mapper/name
run veritysetup close /dev/mapper/name

## arguments that are too many are ignored
run veritysetup close name and more

## loop devices go with the device
run veritysetup close name
sleep 0.3
/bin/losetup --list --noheadings

## verbose
run veritysetup close name -v
run veritysetup close name -v
run veritysetup close name --deferred -v

## a device that was not there
run veritysetup close other
run veritysetup close --deferred other
run veritysetup close --cancel-deferred other
run veritysetup status other
run veritysetup close name

## deferred, not in use
run veritysetup close --deferred name
run veritysetup status name

## deferred, under a busy linear device
device linear '0 128 linear /dev/mapper/name 0'
run veritysetup close --deferred name
run veritysetup status name | head -n 1
run cmp data /dev/mapper/linear
removed linear
gone name
run veritysetup status name

## deferred twice
device linear '0 128 linear /dev/mapper/name 0'
run veritysetup close --deferred name
run veritysetup close --deferred name
removed linear
gone name

## deferred and taken back
device linear '0 128 linear /dev/mapper/name 0'
run veritysetup close --deferred name
run veritysetup close --cancel-deferred name
removed linear
run veritysetup status name | head -n 1
run veritysetup close name

## nothing to take back
run veritysetup close --cancel-deferred name
run veritysetup close name

## in use
device linear '0 128 linear /dev/mapper/name 0'
run veritysetup close name
run veritysetup status name | head -n 1
removed linear
run veritysetup close name

## suspended
dmsetup suspend name
run veritysetup close name
run veritysetup status name

## corrupted
flip data 5000
dd if=/dev/mapper/name of=/dev/null bs=4096 iflag=direct 2>/dev/null
run veritysetup close name

## mounted
veritysetup close name
mkdir tree mounted
echo greeting >tree/file
mkfs.erofs --quiet -T 0 -U 01234567-89ab-cdef-0123-456789abcdef image tree >/dev/null 2>&1
root=$(veritysetup format image hash $FIXED | root_hash)
run veritysetup open image name hash "$root"
mount -t erofs -o ro /dev/mapper/name mounted
run cat mounted/file
run veritysetup close name
umount mounted
run veritysetup close name
