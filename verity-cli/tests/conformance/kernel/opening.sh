# Devices as they are opened, what the kernel is told of them, and what is refused.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)
wrong=0000000000000000000000000000000000000000000000000000000000000000

# The kernel's table, whatever numbers the loop devices have.
table() {
    dmsetup table "$1" | sed 's/ 7:[0-9]*/ 7:N/g'
    dmsetup info -c --noheadings -o uuid,attr,open "$1"
}

# Shows a device, reads it, closes it.
look() {
    table "$1"
    run cmp data "/dev/mapper/$1"
    run veritysetup close "$1"
}

## open
run veritysetup open data name hash "$root"
look name

## open with the root hash in capitals
run veritysetup open data name hash "$(echo "$root" | tr a-f A-F)"
look name

## the old name and its order
run veritysetup create name data hash "$root"
look name

## a root hash file
echo "$root" >file
run veritysetup open data name hash --root-hash-file file
look name
run veritysetup create name data hash --root-hash-file=file
look name

## a bad root hash file
printf %s "${root#??}" >short
run veritysetup open data name hash --root-hash-file short
run veritysetup status name

## a root hash file that cannot be read
#~ stdout: 4
run veritysetup open data name hash --root-hash-file missing
run veritysetup status name

## no root hash, and some that are none
run veritysetup open data name hash
for bad in 00 zz '' "${root}00" "${root#?}"; do
    run veritysetup open data name hash "$bad"
done
run veritysetup status name

## verbose
run veritysetup open -v data name hash "$root"
run veritysetup open -v data name hash "$root"
run veritysetup close -v name
run veritysetup close -v name

## debug
run veritysetup open --debug data name hash "$root"
look name

## a wrong root hash
run veritysetup open data name hash $wrong
run veritysetup status name | sed '/loop/d'
run veritysetup close name

## damaged data
flip data 5000
run veritysetup open data name hash "$root"
run dd if=/dev/mapper/name of=/dev/null bs=4096 count=1 2>/dev/null
run dd if=/dev/mapper/name of=/dev/null bs=4096 iflag=direct 2>/dev/null
run veritysetup status name | sed '/loop/d'
run veritysetup close name

## a name that is taken
run veritysetup open data name hash "$root"
run veritysetup open data name hash "$root"
run veritysetup open data name hash $wrong
run veritysetup create name data hash "$root"
look name

## a name that another device has
device name '0 8 error'
run veritysetup open data name hash "$root"
removed name

## block devices
first=$(attach data)
second=$(attach hash)
run veritysetup open "$first" name "$second" "$root" | sed 's,/dev/loop[0-9]*,/dev/loopN,g'
look name
detach "$first"
detach "$second"

## missing files
run veritysetup open missing name hash "$root"
run veritysetup open data name missing "$root"
run veritysetup open . name hash "$root"
run veritysetup open data name . "$root"
run veritysetup open /dev/null name hash "$root"

## a tree that is none
run veritysetup open data name data "$root"
: >empty
run veritysetup open data name empty "$root"
run veritysetup open hash name data "$root"

## truncated data
#~ stderr: too-short
head -c 40960 data >short
run veritysetup open short name hash "$root"
run veritysetup close name

## a truncated tree
#~ stdout stderr: too-short
head -c 4096 hash >short
run veritysetup open data name short "$root"
run veritysetup close name

## long names
#~ stderr: names
for length in 126 127; do
    name=$(printf "%0${length}d" 0)
    run veritysetup open data "$name" hash "$root"
    run veritysetup close "$name"
done

## names that are too long
name=$(printf %0128d 0)
run veritysetup open data "$name" hash "$root"
run veritysetup status "$name"
run veritysetup close "$name"

## names with a slash
run veritysetup open data a/b hash "$root"
run veritysetup open data /dev/mapper/name hash "$root"
run veritysetup status a/b
run veritysetup close a/b

## names with other characters
for name in a-b a_b a.b a+b a:b a#b a@b a=b 'a~b'; do
    run veritysetup open data "$name" hash "$root"
    run veritysetup status "$name" | head -n 1
    run veritysetup close "$name"
done

## names that libdevmapper writes in another way
for name in 'a b' 'a\b' 'a*b' "$(printf 'caf\303\251')"; do
    run veritysetup open data "$name" hash "$root"
    run veritysetup status "$name" | head -n 1
    run veritysetup close "$name"
done

## a name that the kernel refuses
#~ stderr: names
run veritysetup open data '' hash "$root"
run veritysetup status '' | head -n 1
