# Superblocks that say what they should not.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)

both() {
    run veritysetup dump hash
    run veritysetup verify data hash "$root"
}

## a good one
both

## no magic
flip hash 0
both

## another version
flip hash 8
both

## another hash type
put hash 12 000
both
put hash 12 002
both

## another uuid
flip hash 16
both

## an unknown algorithm
flip hash 32
both

## no algorithm
put hash 32 000 000 000 000 000 000
both

## an algorithm that is not text
put hash 33 200
both

## an algorithm without an end
put hash 32 141 141 141 141 141 141 141 141 141 141 141 141 141 141 141 141 \
    141 141 141 141 141 141 141 141 141 141 141 141 141 141 141 141
both

## a bad data block size
put hash 64 001
both
put hash 64 000 000 000 000
both
put hash 64 000 000 020 000
both

## a bad hash block size
put hash 68 001
both
put hash 68 000 000 000 000
both

## other block sizes
put hash 65 002
both

## no data blocks
#~ stdout stderr: 7
put hash 72 000
both

## other numbers of data blocks
put hash 72 017
both
put hash 72 021
both

## a great many data blocks
#~ stdout stderr: too-large
put hash 72 377 377 377 377 377 377 377 377
both

## a large number of data blocks
#~ stdout stderr: too-large
put hash 79 001
both

## a salt that is too long
put hash 80 001 001
both

## another salt
flip hash 88
both

## a shorter salt
#~ stdout stderr: 13
put hash 80 003
both

## reserved bytes that are not zero
#~ stdout stderr: 13
flip hash 84
both
flip hash 84
flip hash 511
both

## a short file
head -c 511 hash >short
run veritysetup dump short
head -c 512 hash >short
run veritysetup dump short
: >short
run veritysetup dump short

## not a superblock
run veritysetup dump data
run veritysetup verify data data "$root"

## at another offset
run veritysetup dump hash --hash-offset 512
run veritysetup dump hash --hash-offset 8192
run veritysetup dump hash --hash-offset 1048576
run veritysetup dump hash --hash-offset 100
run veritysetup dump hash --hash-offset 18446744073709551104
