# Actions and their arguments.
blocks 16 data

## no action
run veritysetup

## unknown action
run veritysetup frobnicate
run veritysetup formatt data hash
run veritysetup ''

## own actions of verity are unknown
run veritysetup list
run veritysetup help
run veritysetup update data hash root
run veritysetup benchmark
run veritysetup man

## case of letters
run veritysetup FORMAT data hash
run veritysetup Status name

## missing arguments
for action in format 'format data' verify 'verify data' open 'open data' 'open data name' create 'create name' \
    'create name data' close remove status dump; do
    # shellcheck disable=SC2086 # Words.
    run veritysetup $action
done

## empty arguments
#~ files: leftovers
run veritysetup format '' hash
run veritysetup format data ''
run veritysetup dump ''
run veritysetup verify '' '' ''

## too many arguments are ignored
run veritysetup format data hash $FIXED and more
run veritysetup dump hash and more
run veritysetup verify data hash "$(veritysetup format data hash $FIXED | root_hash)" and more
rm hash

## create with too few arguments
run veritysetup create name
run veritysetup open data

## end of options
run veritysetup format $FIXED -- data hash
run veritysetup -- dump hash
run veritysetup dump -- hash --unknown

## a lone dash is an argument
run veritysetup dump -

## names that begin with a dash
blocks 4 -d
run veritysetup format $FIXED -- -d -h
run veritysetup dump -- -h

## open without device-mapper or permission asks for all arguments first
run veritysetup open data name hash
run veritysetup create name data hash
