# Devices that are not dm-verity's.
devices() {
    dmsetup ls | cut -f 1
}

## status of an error target
dmsetup create name --table '0 8 error'
run veritysetup status name
run veritysetup status -v name
dmsetup remove name

## status of a linear target
loop=$(truncate -s 65536 file && losetup --find --show file)
dmsetup create name --table "0 128 linear $loop 0"
run veritysetup status name
dmsetup remove name
losetup -d "$loop"

## status of a device without a table
dmsetup create name --notable
run veritysetup status name
dmsetup remove name

## close of an error target
dmsetup create name --table '0 8 error'
run veritysetup close name
devices
dmsetup remove name 2>/dev/null

## close of a linear target
loop=$(truncate -s 65536 file && losetup --find --show file)
dmsetup create name --table "0 128 linear $loop 0"
run veritysetup close -v name
devices
dmsetup remove name 2>/dev/null
losetup -d "$loop"

## close of a device without a table
dmsetup create name --notable
run veritysetup close name
devices
dmsetup remove name 2>/dev/null

## close of a wiped verity device
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)
veritysetup open data name hash "$root"
dmsetup wipe_table name
run veritysetup status name
run veritysetup close name
devices
dmsetup remove name 2>/dev/null

## deferred close
dmsetup create name --table '0 8 error'
exec 3</dev/mapper/name
run veritysetup close --deferred name
run veritysetup close --cancel-deferred name
exec 3<&-
devices
dmsetup remove name 2>/dev/null
