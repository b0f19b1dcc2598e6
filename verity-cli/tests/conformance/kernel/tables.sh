# What the kernel is told of every kind of tree, and how it answers.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)

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

## options of the table
for option in --ignore-corruption --restart-on-corruption --panic-on-corruption --ignore-zero-blocks \
    --check-at-most-once --use-tasklets; do
    run veritysetup open data name hash "$root" $option
    look name
done

## several options of the table
run veritysetup open data name hash "$root" --ignore-corruption --ignore-zero-blocks --check-at-most-once
look name
run veritysetup --use-tasklets --restart-on-corruption open data name hash "$root" --ignore-zero-blocks
look name

## options that contradict each other
#~ stdout stderr: exclusive
run veritysetup open data name hash "$root" --panic-on-corruption --ignore-corruption
run veritysetup status name | grep flags
run veritysetup close name

## algorithms and hash types
for algorithm in sha1 sha256 sha512; do
    for type in 0 1; do
        root=$(veritysetup format data hash $FIXED --hash $algorithm --format $type | root_hash)
        run veritysetup open data name hash "$root"
        look name
    done
done

## an algorithm that some kernels lack
root=$(veritysetup format data hash $FIXED --hash sm3 | root_hash)
run veritysetup open data name hash "$root"
run veritysetup close name

## block sizes
#~ files: rewritten
for size in 512 1024 2048; do
    root=$(veritysetup format data hash $FIXED --data-block-size $size --hash-block-size 4096 | root_hash)
    run veritysetup open data name hash "$root"
    look name
    root=$(veritysetup format data hash $FIXED --hash-block-size $size | root_hash)
    run veritysetup open data name hash "$root"
    look name
done

## odd salts
for salt in - 00 abcdef "$(printf %062d 7)" "$(printf %0512d 7)"; do
    root=$(veritysetup format data hash --uuid 01234567-89ab-cdef-0123-456789abcdef --salt $salt | root_hash)
    run veritysetup open data name hash "$root"
    look name
done

## without a superblock
root=$(veritysetup format data hash $FIXED --no-superblock | root_hash)
run veritysetup open data name hash "$root" --no-superblock --salt 00112233
look name
run veritysetup open data name hash "$root" --no-superblock --salt 00112233 --data-blocks 16 --hash sha256 --format 1
look name

## fewer blocks than the data has
root=$(veritysetup format data hash $FIXED --data-blocks 5 | root_hash)
run veritysetup open data name hash "$root"
table name
run cmp -n 20480 data /dev/mapper/name
run veritysetup close name

## in one file
cat data >both
root=$(veritysetup format both both $FIXED --data-blocks 16 --hash-offset 65536 | root_hash)
run veritysetup open both name both "$root" --hash-offset 65536
look name

## a hash offset of 8 GB
root=$(veritysetup format data hash2 $FIXED --hash-offset 8589934592 | root_hash)
run veritysetup open data name hash2 "$root" --hash-offset=8589934592
look name
rm hash2

## a single block
blocks 1 data
root=$(veritysetup format data hash $FIXED | root_hash)
run veritysetup open data name hash "$root"
look name
