# Trees and superblocks: what is printed, and every byte of what is written.
blocks 16 data

## algorithms
for algorithm in sha256 sha1 sha224 sha384 sha512 sha3-224 sha3-256 sha3-384 sha3-512 blake2b-512 blake2s-256 sm3 \
    whirlpool ripemd160 md5; do
    run veritysetup format data $algorithm-1 $FIXED --hash $algorithm
    run veritysetup format data $algorithm-0 $FIXED --hash $algorithm --format 0
    run veritysetup dump $algorithm-0
    run veritysetup verify data $algorithm-1 "$(veritysetup format data copy $FIXED --hash $algorithm | root_hash)"
done

## algorithms that only veritysetup knows
#~ stdout stderr files: algorithms
for algorithm in sha-256 md4; do
    run veritysetup format data hash $FIXED --hash $algorithm
done

## unknown algorithms
#~ files: leftovers
for algorithm in sha0 SHA257 none - aes crc32 hmac-sha256; do
    run veritysetup format data hash $FIXED --hash $algorithm
done

## algorithm names in capitals
#~ stdout: lower-case
run veritysetup format data hash $FIXED --hash SHA256
run veritysetup format data hash2 $FIXED --hash Sha1

## levels of a tree
for count in 1 2 127 128 129 256 16384 16385; do
    blocks $count many 512
    run veritysetup format many hash$count $FIXED --data-block-size 512
    rm many
done

## block sizes of both kinds
blocks 300 many 512
for data in 512 1024 4096; do
    for hash in 512 1024 4096 16384; do
        run veritysetup format many hash-$data-$hash $FIXED --data-block-size $data --hash-block-size $hash
    done
done

## salts
for salt in - '' 0 00 ff FF aB 0g zz abc '00 11' "$(printf %0510d 0)" "$(printf %0512d 0)"; do
    run veritysetup format data hash --uuid 01234567-89ab-cdef-0123-456789abcdef --salt "$salt"
    run veritysetup dump hash
done

## a salt that is too long
#~ stderr files: 8
run veritysetup format data hash --uuid 01234567-89ab-cdef-0123-456789abcdef --salt "$(printf %0514d 0)"

## uuids
for uuid in 01234567-89ab-cdef-0123-456789abcdef \
    00000000-0000-0000-0000-000000000000; do
    run veritysetup format data hash --salt ab --uuid $uuid
done

## a uuid in capitals
#~ stdout: lower-case
run veritysetup format data hash --salt ab --uuid 01234567-89AB-CDEF-0123-456789ABCDEF
run veritysetup dump hash

## bad uuids
#~ files: 8
for uuid in foo 0123456789abcdef0123456789abcdef '{01234567-89ab-cdef-0123-456789abcdef}' \
    01234567-89ab-cdef-0123-456789abcdeg 01234567-89ab-cdef-0123-456789abcdef0; do
    run veritysetup format data hash --salt ab --uuid "$uuid"
done

## uuids are random if none is given
veritysetup format data one --salt ab | sed -n 's/^UUID: *\t//p' >first
veritysetup format data two --salt ab | sed -n 's/^UUID: *\t//p' >second
run grep -cE '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' first second
cmp -s first second || echo 'they differ'
rm one two first second

## salts are 32 random bytes if none is given
veritysetup format data one | sed -n 's/^Salt: *\t//p' >first
veritysetup format data two | sed -n 's/^Salt: *\t//p' >second
run grep -cE '^[0-9a-f]{64}$' first second
cmp -s first second || echo 'they differ'
rm one two first second

## without a superblock
run veritysetup format data hash $FIXED --no-superblock
run veritysetup format data hash0 $FIXED --no-superblock --format 0 --hash sha1
run veritysetup format data hash8 $FIXED --no-superblock --hash-offset 8192
run veritysetup dump hash

## without a superblock there is no uuid
run veritysetup format data hash --salt ab --no-superblock
run veritysetup format data hash --salt ab --no-superblock --uuid foo

## hash offsets
for offset in 512 1024 4096 8192 1048576; do
    run veritysetup format data hash$offset $FIXED --hash-offset $offset
    run veritysetup dump hash$offset --hash-offset $offset
    run veritysetup dump hash$offset
done

## a hash offset of 8 GB
run veritysetup format data hash $FIXED --hash-offset 8589934592
run veritysetup dump hash --hash-offset 8589934592
run veritysetup verify data hash "$(veritysetup format data hash $FIXED --hash-offset 8589934592 | root_hash)" \
    --hash-offset 8589934592
tail -c 8192 hash >end
run stat -c %s hash
rm hash

## in the data's own file
blocks 20 both
run veritysetup format both both $FIXED --data-blocks 16 --hash-offset 65536
run veritysetup verify both both "$(veritysetup format both both $FIXED --data-blocks 16 --hash-offset 65536 | root_hash)" \
    --hash-offset 65536
run veritysetup format data data $FIXED --data-blocks 16 --hash-offset 65536

## over the data itself
run veritysetup format data data $FIXED
run veritysetup format data data $FIXED --data-blocks 16 --hash-offset 4096
run veritysetup format data data $FIXED --data-blocks 16 --hash-offset 61440

## over the data itself, by another name
ln -s data alias
run veritysetup format data alias $FIXED

## a tree that is not aligned to its blocks
#~ stdout stderr files: 5
blocks 18 both 512
run veritysetup format both both --data-block-size 512 --data-blocks 9 --no-superblock --hash-offset 4608 --salt -

## a partial last block is left out
blocks 3 odd 1500
run veritysetup format odd hash $FIXED
run veritysetup format odd hash5 $FIXED --data-block-size 512

## less than a block
#~ files: leftovers
printf short >short
run veritysetup format short hash $FIXED
: >empty
run veritysetup format empty hash2 $FIXED

## an existing hash file
head -c 100 data >small
head -c 40960 /dev/zero | tr '\0' x >large
chmod 640 small large
for file in small large; do
    run veritysetup format data $file $FIXED
done

## an old tree
run veritysetup format data hash $FIXED --hash sha512
run veritysetup format data hash $FIXED

## an old tree at another place
run veritysetup format data hash $FIXED
run veritysetup format data hash $FIXED --hash-offset 16384
run veritysetup dump hash
run veritysetup dump hash --hash-offset 16384

## new files have their mode, whatever the umask
umask 0
run veritysetup format data hash $FIXED --root-hash-file root
stat -c '%a %n' hash root

## a root hash file
run veritysetup format data hash $FIXED --root-hash-file root
run cat root
echo old and longer than any root hash can be, by far: 0123456789012345678901234567890123456789012345678 >root
run veritysetup format data hash $FIXED --root-hash-file=root

## a root hash file that cannot be made
#~ stdout files: 14
run veritysetup format data hash $FIXED --root-hash-file missing/root
run veritysetup format data hash $FIXED --root-hash-file .

## a single block at an offset
#~ stdout stderr files: 15
blocks 1 one
run veritysetup format one hash $FIXED --hash-offset 512

## a single block
blocks 1 one
run veritysetup format one hash $FIXED
run veritysetup format one bare $FIXED --no-superblock
