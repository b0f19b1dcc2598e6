# What scripts read out of the output, and how they use it.
blocks 16 data

## the root hash by grep and awk
root=$(veritysetup format data hash $FIXED | grep 'Root hash' | awk '{print $3}')
run echo "$root"
run veritysetup verify data hash "$root"

## the root hash by grep and cut
run echo "$(veritysetup format data hash $FIXED | grep -e 'Root hash:' | cut -d: -f2 | tr -d '\t ')"

## the root hash by sed
run echo "$(veritysetup format data hash $FIXED | sed -n 's/^Root hash:[[:space:]]*//p')"

## the root hash by its last field
run echo "$(veritysetup format data hash $FIXED | awk '/^Root hash/ { print $NF }')"

## every field by its label
for label in UUID 'Hash type' 'Data blocks' 'Data block size' 'Hash blocks' 'Hash block size' 'Hash algorithm' Salt \
    'Root hash' 'Hash device size'; do
    run echo "$(veritysetup format data hash $FIXED | grep "^$label:" | cut -f2 | cut -d' ' -f1)"
done

## fields of dump
run veritysetup dump hash
veritysetup format data hash $FIXED >formatted
veritysetup dump hash >dumped
run diff dumped formatted
run echo "$(awk -F: '/^Data blocks/ { gsub(/[ \t]/, "", $2); print $2 }' dumped)"
rm formatted dumped

## results on stdout, errors on stderr
veritysetup format data hash $FIXED >out 2>err
veritysetup dump data >out2 2>err2
veritysetup frobnicate >out3 2>err3
run cat out
run wc -c err out2 out3
run cat err2
run tail -n 1 err3
rm out err3

## a closed standard output
run veritysetup format data hash $FIXED >&-
run veritysetup dump hash >&-

## a full standard output
#~ stdout stderr: 16
veritysetup format data hash $FIXED >/dev/full
echo $?

## a reader that goes away
veritysetup format data hash $FIXED | head -n 1
run veritysetup dump hash

## success and failure in a condition
if veritysetup dump data; then echo yes; else echo no; fi
veritysetup format data hash $FIXED && echo formatted
veritysetup dump hash || echo 'no dump'

## verbose success
run veritysetup format data hash $FIXED -v
run veritysetup dump hash -v
run veritysetup verify data hash "$(veritysetup format data hash $FIXED | root_hash)" -v
run veritysetup verify data hash "$(veritysetup format data hash $FIXED | root_hash)" --verbose

## verbose failure
#~ files: leftovers
run veritysetup format -v missing hash
run veritysetup dump -v missing
run veritysetup dump -v data
run veritysetup verify -v data hash
run veritysetup format -v data data
run veritysetup format -v data hash --hash none
run veritysetup format -v data hash --salt zz
run veritysetup format -v data hash --data-blocks 99
run veritysetup verify -v data missing 00
run veritysetup -v frobnicate
run veritysetup -v format data
run veritysetup -v format data hash --data-blocks x

## lines of debug begin with a number sign
veritysetup --debug format data hash $FIXED >out 2>err
run echo "$(grep -c '^# ' out | sed 's/^[1-9][0-9]*$/some/')"
run echo "$(head -n 1 out | sed 's/^# .*/#/')"
run grep -v '^# ' out
run echo "$(grep -v '^#' out | root_hash)"
rm out err

## debug says how the command ended
veritysetup --debug dump hash >out
run grep -v '^# ' out
veritysetup --debug format data hash $FIXED >out
run tail -n 1 out
rm out

## the version
#~ stdout: version
run veritysetup --version
run veritysetup -V

## the version's first words
for option in --version -V; do
    run echo "$(veritysetup $option | awk '{ print NR, $1, ($2 ~ /^2\.[0-9]+\.[0-9]+$/) }')"
done

## the version before all else
run veritysetup --version format data hash >/dev/null
run veritysetup format --version --unknown >/dev/null
run veritysetup format -V -x >/dev/null

## help pages
#~ stdout: help
run veritysetup --help
run veritysetup '-?'
run veritysetup --usage

## exit codes of help
for option in --help '-?' --usage '--help format' 'format --help' 'format -? --unknown' '--help --debug'; do
    # shellcheck disable=SC2086 # Words.
    veritysetup $option >/dev/null
    echo "=> $?"
done

## first lines of help
veritysetup --help | head -n 2 | sed 's/ 2\..*//'
veritysetup '-?' | sed -n '2p'
veritysetup --usage 2>&1 >/dev/null | head -n 1 | cut -c 1-18

## features that scripts look for in help
for option in cancel-deferred check-at-most-once data-block-size data-blocks debug deferred fec-device fec-offset \
    fec-roots format hash hash-block-size hash-offset ignore-corruption ignore-zero-blocks no-superblock \
    panic-on-corruption restart-on-corruption root-hash-file root-hash-signature salt use-tasklets uuid verbose \
    help usage version; do
    veritysetup --help | grep -q -e "--${option}[ =]" && echo $option
done

## actions that scripts look for in help
for action in format verify open close status dump; do
    veritysetup --help | grep "^	$action " | sed 's/ - .*//'
done
