# Who is not root.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)

## makes and checks trees
run veritysetup format data hash2 $FIXED
run veritysetup verify data hash "$root"
run veritysetup dump hash

## makes no devices
run veritysetup open data name hash "$root"
run veritysetup open -v data name hash "$root"
run veritysetup create name data hash "$root"

## asks for no devices
run veritysetup status name
run veritysetup status -v name
run veritysetup close name
run veritysetup close -v name
run veritysetup close --deferred name

## names that no device can have
#~ stderr: name-first
run veritysetup open data a/b hash "$root"
