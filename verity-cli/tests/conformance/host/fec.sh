# Error correction.
blocks 300 data
root=$(veritysetup format data hash $FIXED --fec-device parity | root_hash)

## format
for roots in 2 3 8 24; do
    run veritysetup format data hash $FIXED --fec-device parity$roots --fec-roots $roots
done

## format into one file
cp data both
truncate -s 2097152 both
run veritysetup format both both $FIXED --data-blocks 300 --hash-offset 1228800 --fec-device both --fec-offset 2097152
run veritysetup verify both both "$root" --hash-offset 1228800 --fec-device both --fec-offset 2097152

## format at an offset
run veritysetup format data hash $FIXED --fec-device other --fec-offset 8192
run veritysetup verify data hash "$root" --fec-device other --fec-offset 8192

## roots that there are not
#~ stderr: fec-roots
for roots in 0 1 25 255; do
    run veritysetup format data new $FIXED --fec-device other --fec-roots $roots
done
rm -f new other

## dump
run veritysetup dump hash --fec-device parity
run veritysetup dump hash

## verify a good image
run veritysetup verify data hash "$root" --fec-device parity
run veritysetup verify -v data hash "$root" --fec-device=parity --fec-roots=2

## verify a damaged image that can be restored
flip data 5000
run veritysetup verify data hash "$root" --fec-device parity
run veritysetup verify -v data hash "$root" --fec-device parity

## verify a damaged image that cannot
#~ stdout stderr: 2
for place in 0 8192 16384 24576 32768; do
    flip data $place
done
run veritysetup verify data hash "$root" --fec-device parity

## verify with a wrong root hash
run veritysetup verify data hash "1${root#?}" --fec-device parity

## parity that is missing
#~ stderr: fec-device
run veritysetup verify data hash "$root" --fec-device missing
run veritysetup dump hash --fec-device missing

## parity behind the end of its file
#~ stdout stderr files: fec-gap
cp data both
run veritysetup format both both $FIXED --data-blocks 300 --hash-offset 1228800 --fec-device both --fec-offset 2097152
