# How options are written.
blocks 16 data

## options before the action
run veritysetup $FIXED --data-blocks 8 --hash sha1 format data hash
run veritysetup --debug dump hash
run veritysetup -v dump hash

## options between and behind the arguments
run veritysetup format $FIXED data --data-blocks 8 hash --hash sha512
run veritysetup dump hash -v

## values behind a blank or an equals sign
run veritysetup format data hash --uuid=01234567-89ab-cdef-0123-456789abcdef --salt=ab --data-blocks=8 --hash=sha1
run veritysetup format data hash2 --uuid 01234567-89ab-cdef-0123-456789abcdef --salt ab --data-blocks 8 --hash sha1
run cmp hash hash2

## short options and their values
run veritysetup format data hash $FIXED -hsha512
run veritysetup format data hash2 $FIXED -h sha512
run veritysetup format data hash3 --uuid 01234567-89ab-cdef-0123-456789abcdef -sab -h=sha512
run veritysetup format data hash4 --uuid 01234567-89ab-cdef-0123-456789abcdef -s=ab
run veritysetup format data hash5 --uuid 01234567-89ab-cdef-0123-456789abcdef -vsab
run veritysetup format data hash6 --uuid 01234567-89ab-cdef-0123-456789abcdef -vhsha1 -s -

## option names are not abbreviated
run veritysetup format data hash --hash-off 4096
run veritysetup format data hash --verb
run veritysetup dump hash --hel

## option names have their case
run veritysetup format data hash --Salt ab
run veritysetup format data hash -H sha256

## one dash in front of a long name
#~ files: leftovers
run veritysetup format data hash -salt=ab --uuid 01234567-89ab-cdef-0123-456789abcdef
run veritysetup format data hash -uuid

## unknown options
run veritysetup format data hash --unknown
run veritysetup format data hash --unknown=1
run veritysetup format data hash -x
run veritysetup --unknown
run veritysetup dump hash -vx

## options of verity's own
#~ stdout stderr files: own-options
run veritysetup format data hash $FIXED --threads 1
run veritysetup dump hash --quiet
run veritysetup verify data hash 00 --max-findings 3
run veritysetup dump hash --json

## missing values
run veritysetup format data hash --salt
run veritysetup format data hash -h
run veritysetup format data hash --data-blocks
run veritysetup --uuid

## values of options without any
run veritysetup format data hash $FIXED --no-superblock=1
run veritysetup dump hash --debug=1
run veritysetup dump hash -v1

## empty values
run veritysetup format data hash $FIXED --hash=
run veritysetup format data hash $FIXED --uuid=
run veritysetup format data hash --salt= --uuid 01234567-89ab-cdef-0123-456789abcdef
run veritysetup dump hash

## the last of several values counts
run veritysetup format data hash $FIXED --data-blocks 3 --data-blocks=5
run veritysetup format data hash2 --salt ab --salt - $FIXED --hash sha1 -h sha512
run veritysetup format data hash3 $FIXED --hash-offset 4096 --hash-offset 0
run veritysetup format data hash4 $FIXED --format 0 --format 1

## flags that are given twice
run veritysetup format data hash $FIXED --no-superblock --no-superblock -v -v --verbose
run veritysetup dump hash --debug --debug

## options that the action does not allow
for option in --ignore-corruption --restart-on-corruption --panic-on-corruption --ignore-zero-blocks \
    --check-at-most-once --use-tasklets --deferred --cancel-deferred --root-hash-signature=file; do
    for action in "format data hash $FIXED" 'verify data hash 00' 'dump hash' 'close name' 'status name'; do
        # shellcheck disable=SC2086 # Words.
        case "$option $action" in
            *deferred\ close*) ;;
            *) run veritysetup $action $option ;;
        esac
    done
done
for action in 'dump hash' 'close name' 'status name'; do
    # shellcheck disable=SC2086 # Words.
    run veritysetup $action --root-hash-file root
done

## options that the action does not need
run veritysetup format data hash $FIXED
run veritysetup dump hash --salt ab --hash sha1 --format 0 --data-blocks 3 --data-block-size 512 --hash-block-size 512
run veritysetup dump hash --uuid 01234567-89ab-cdef-0123-456789abcdef --fec-offset 4096 --fec-roots 3
run veritysetup verify data hash "$(veritysetup format data hash $FIXED | root_hash)" --fec-offset 4096 --fec-roots 3

## options that exclude each other, as newer releases see it
#~ stdout stderr: exclusive
run veritysetup open data name hash 00 --panic-on-corruption --ignore-corruption

## options that exclude each other
run veritysetup open data name hash 00 --ignore-corruption --restart-on-corruption
run veritysetup open data name hash 00 --restart-on-corruption --ignore-corruption
run veritysetup open data name hash 00 --panic-on-corruption --restart-on-corruption
run veritysetup open data name hash 00 --ignore-corruption --restart-on-corruption --panic-on-corruption
run veritysetup close name --deferred --cancel-deferred

## a bad value is told before a missing argument
run veritysetup format --data-blocks x
run veritysetup frobnicate --data-blocks x
run veritysetup --data-blocks x

## an unknown option is told before an unknown action
run veritysetup frobnicate --unknown
run veritysetup --unknown frobnicate
