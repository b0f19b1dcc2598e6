# Devices that are not dm-verity's.
devices() {
    dmsetup ls | cut -f 1
}

## status of an error target
device name '0 8 error'
run veritysetup status name
removed name

## status of a linear target
loop=$(truncate -s 65536 file && attach file)
device name "0 128 linear $loop 0"
run veritysetup status name
removed name
detach "$loop"

## status of a device without a table
dmsetup create name --notable
run veritysetup status name
removed name

## close of an error target
#~ stdout stderr: foreign
device name '0 8 error'
run veritysetup close name
devices
removed name

## close of a linear target
#~ stdout stderr: foreign
loop=$(truncate -s 65536 file && attach file)
device name "0 128 linear $loop 0"
run veritysetup close -v name
devices
removed name
detach "$loop"

## close of a device without a table
#~ stdout stderr: foreign
dmsetup create name --notable
run veritysetup close name
devices
removed name

## close of a wiped verity device
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)
veritysetup open data name hash "$root"
dmsetup wipe_table name
run veritysetup close name
devices
removed name

## status of a wiped verity device
#~ stdout: foreign
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)
veritysetup open data name hash "$root"
dmsetup wipe_table name
run veritysetup status name
run veritysetup close name

## deferred close
#~ stdout stderr: foreign
device name '0 8 error'
exec 3</dev/mapper/name
run veritysetup close --deferred name
run veritysetup close --cancel-deferred name
exec 3<&-
devices
removed name
