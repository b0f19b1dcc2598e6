# Verification.
blocks 300 data
root=$(veritysetup format data hash $FIXED | root_hash)
wrong=0000000000000000000000000000000000000000000000000000000000000000

## a good image
run veritysetup verify data hash "$root"
run veritysetup verify -v data hash "$root"
run veritysetup verify data hash "$(echo "$root" | tr a-f A-F)"

## wrong root hashes
run veritysetup verify data hash $wrong
run veritysetup verify -v data hash $wrong
run veritysetup verify data hash "1${root#?}"

## root hashes that are none
for bad in 00 zz '' - "${root}00" "${root#??}" "${root#?}" " $root" "$root "; do
    run veritysetup verify data hash "$bad"
done

## no root hash
run veritysetup verify data hash
run veritysetup verify -v data hash

## a root hash file
printf %s "$root" >file
echo "$root" >line
printf '%s\nmore\n' "$root" >longer
for file in file line longer; do
    run veritysetup verify data hash --root-hash-file $file
done

## a bad root hash file
: >empty
printf %s "${root#?}" >short
echo "$wrong" >wrong
echo zz >words
for file in empty short wrong words; do
    run veritysetup verify data hash --root-hash-file $file
done

## a root hash file and a root hash
echo "$root" >file
run veritysetup verify data hash $wrong --root-hash-file file
run veritysetup verify data hash "$root" --root-hash-file file

## a root hash file that cannot be read
#~ stdout: 4
run veritysetup verify data hash --root-hash-file missing
run veritysetup verify data hash --root-hash-file .

## damaged data
for place in 0 5000 1228799; do
    cp data bad
    flip bad $place
    run veritysetup verify bad hash "$root"
    run veritysetup verify -v bad hash "$root"
done

## a damaged top block
#~ stderr: position
flip hash 4103
run veritysetup verify data hash "$root"

## a damaged leaf block
#~ stderr: position
flip hash 8480
run veritysetup verify data hash "$root"

## bytes in unused slots
#~ stderr: position
flip hash 4400
run veritysetup verify data hash "$root"

## truncated data
head -c 40960 data >short
run veritysetup verify short hash "$root"

## a truncated tree
head -c 8192 hash >short
run veritysetup verify data short "$root"

## more data than the tree covers
cat data hash >long
run veritysetup verify long hash "$root"

## more behind the tree
cat hash data >long
run veritysetup verify data long "$root"

## nothing is written
chmod 400 data hash
run veritysetup verify data hash "$root"

## without a superblock
root=$(veritysetup format data bare $FIXED --no-superblock | root_hash)
run veritysetup verify data bare "$root" --no-superblock --salt 00112233
run veritysetup verify data bare "$root" --no-superblock --salt 0011
run veritysetup verify data bare "$root" --no-superblock --salt 00112233 --format 0
run veritysetup verify data bare "$root" --salt 00112233

## with fewer blocks than the tree covers
#~ stderr: position
root=$(veritysetup format data bare $FIXED --no-superblock | root_hash)
run veritysetup verify data bare "$root" --no-superblock --salt 00112233 --data-blocks 200

## without a superblock and without a salt
#~ stdout stderr: no-salt
root=$(veritysetup format data bare $FIXED --no-superblock | root_hash)
run veritysetup verify data bare "$root" --no-superblock

## the superblock counts, not the options
run veritysetup verify data hash "$root" --hash sha1 --salt ab --data-blocks 3 --data-block-size 512 --format 0

## data and tree exchanged
run veritysetup verify hash data "$root"

## every algorithm
for algorithm in sha256 sha1 sha512 sha3-256 blake2b-512 whirlpool ripemd160; do
    for type in 0 1; do
        root=$(veritysetup format data hash $FIXED --hash $algorithm --format $type | root_hash)
        run veritysetup verify data hash "$root"
        run veritysetup verify data hash "1${root#?}"
    done
done
