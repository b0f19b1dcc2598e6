# Numbers, sizes, offsets: what is taken, and what is said of the rest.
blocks 16 data

try() {
    run veritysetup format data hash $FIXED "$@"
    rm -f hash
}

## decimal
try --data-blocks 8
try --data-blocks 0

## leading zeros are not octal
try --data-blocks 010
try --data-block-size 04096
try --format 01

## a plus sign and blanks
try --data-blocks +8
try --data-blocks ' 8'
try --data-block-size=+4096
try --hash-offset '  4096'

## hexadecimal
try --data-block-size 0x1000
try --hash-offset 0x1000
try --data-blocks 0x8

## units and fractions
try --data-block-size 4k
try --data-block-size 4KiB
try --data-block-size 4096.0
try --hash-offset 1e3
try --data-blocks '8 '

## words and nothing
try --data-blocks all
try --data-blocks=
try --hash-block-size=
try --format=
try --data-blocks ' '
try --data-blocks +

## negative block sizes
try --data-block-size -1
try --hash-block-size=-4096
try --format -1

## negative counts
#~ stderr: 8
try --data-blocks -1
try --data-blocks=-8

## negative offsets
#~ stderr stdout: 11
try --hash-offset -512
try --hash-offset=-4096

## too large for 64 bits
try --data-blocks 18446744073709551616
try --hash-offset 99999999999999999999999999
try --data-block-size 18446744073709551616

## too large for 32 bits
try --data-block-size 4294971392
try --hash-block-size 4294967296
try --format 4294967297

## the largest numbers
try --data-blocks 18446744073709551615
try --data-blocks 9223372036854775807
try --data-blocks 4503599627370496

## the largest offsets
#~ stdout stderr: 11
try --hash-offset 18446744073709551104
try --hash-offset 9223372036854775296

## block sizes
for size in 0 1 256 511 512 1000 1024 2048 4096 8192 65536 524288 1048576; do
    try --data-block-size $size
    try --hash-block-size $size
done

## hash types
for type in 0 1 2 255; do
    try --format $type
done

## unaligned hash offsets
for offset in 1 100 511 513 4097; do
    try --hash-offset $offset
done

## more blocks than there are
try --data-blocks 16
try --data-blocks 17
try --data-blocks 1000000

## fec roots without a device
#~ stdout stderr: fec-roots
try --fec-roots 2
try --fec-roots 1
try --fec-roots 25
try --fec-roots x

## a negative fec offset without a device
#~ stderr: 8
try --fec-offset -1
