# Many devices, one after the other and at once.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)

## two devices of the same files
run veritysetup open data one hash "$root"
run veritysetup open data two hash "$root"
run cmp data /dev/mapper/one
run cmp data /dev/mapper/two
run veritysetup close one
run veritysetup close two

## two devices of the same block devices
first=$(attach data)
second=$(attach hash)
run veritysetup open "$first" one "$second" "$root" >/dev/null
veritysetup open "$first" two "$second" "$root" 2>&1 | sed 's,/dev/loop[0-9]*,/dev/loopN,'
run veritysetup status two
run veritysetup close one
detach "$first"
detach "$second"

## several devices at once
for number in 1 2 3 4 5 6; do
    veritysetup open data "many$number" hash "$root" &
done
wait
for number in 1 2 3 4 5 6; do
    run cmp data "/dev/mapper/many$number"
    run veritysetup close "many$number"
done

## several closes at once
for number in 1 2 3 4; do
    veritysetup open data "many$number" hash "$root"
done
for number in 1 2 3 4; do
    veritysetup close "many$number" &
done
wait
run ls /dev/mapper

## one name for many at once
for number in 1 2 3 4; do
    {
        veritysetup open data name hash "$root" 2>/dev/null
        echo $? >"code$number"
    } &
done
wait
cat code1 code2 code3 code4 | grep -c '^0$'
run veritysetup close name
rm code1 code2 code3 code4

## shared devices, which older releases do not know
#~ stdout stderr: newer
first=$(attach data)
second=$(attach hash)
for number in 1 2 3 4; do
    veritysetup open --shared "$first" "many$number" "$second" "$root" 2>/dev/null &
done
wait
for number in 1 2 3 4; do
    run cmp data "/dev/mapper/many$number"
    run veritysetup close "many$number"
done
detach "$first"
detach "$second"

## errors as corruption, which older releases do not know
#~ stderr: newer
run veritysetup open --error-as-corruption data name hash "$root"

## a verity device below another one
veritysetup open data below hash "$root"
root2=$(veritysetup format /dev/mapper/below hash2 $FIXED | root_hash)
run veritysetup open /dev/mapper/below above hash2 "$root2"
run veritysetup status above | sed 's,/dev/loop[0-9]*,/dev/loopN,'
run cmp data /dev/mapper/above
run veritysetup close above
run veritysetup close below
