# Files that are missing, of the wrong kind, or not ours.
blocks 16 data
root=$(veritysetup format data hash $FIXED | root_hash)

## missing files
#~ files: leftovers
run veritysetup format missing new
run veritysetup format data missing/hash
run veritysetup dump missing
run veritysetup verify missing hash "$root"
run veritysetup verify data missing "$root"
run veritysetup verify missing missing "$root"

## folders
#~ files: leftovers
mkdir folder
run veritysetup format folder new
run veritysetup format data folder
run veritysetup dump folder
run veritysetup verify folder hash "$root"
run veritysetup verify data folder "$root"

## devices that are no block devices
#~ files: leftovers
run veritysetup format /dev/null new
run veritysetup format data /dev/null
run veritysetup dump /dev/null
run veritysetup dump /dev/zero

## files that may not be read
#~ files: leftovers
chmod 0 data
run veritysetup format data new
run veritysetup verify data hash "$root"
chmod 600 data
chmod 0 hash
run veritysetup dump hash
run veritysetup verify data hash "$root"
run veritysetup format data hash
chmod 600 hash

## files that may not be written
chmod 400 hash
run veritysetup format data hash
run veritysetup dump hash
run veritysetup verify data hash "$root"

## folders that may not be written
mkdir folder
chmod 500 folder
run veritysetup format data folder/hash

## folders for root hashes that may not be written
#~ stdout: 14
mkdir folder
chmod 500 folder
run veritysetup format data hash $FIXED --root-hash-file folder/root

## files that may not be searched for
mkdir folder
cp data hash folder
chmod 600 folder
run veritysetup dump folder/hash
run veritysetup verify folder/data hash "$root"
chmod 700 folder

## links
ln -s hash link
run veritysetup dump link
run veritysetup verify data link "$root"
ln -s nowhere dangling
run veritysetup dump dangling
run veritysetup verify data dangling "$root"

## a link as the hash file
ln -s target link
run veritysetup format data link $FIXED
run veritysetup dump target

## names with blanks and other characters
cp hash 'a hash'
run veritysetup dump 'a hash'
cp hash 'h%s\n'
run veritysetup dump 'h%s\n'
run veritysetup dump "$(printf 'caf\303\251')"

## paths
mkdir folder
cp hash folder
run veritysetup dump ./hash
run veritysetup dump folder/../hash
run veritysetup dump folder//hash
run veritysetup dump hash/

## devices of nobody
run veritysetup status name
run veritysetup close name
run veritysetup remove name
run veritysetup close name --deferred
run veritysetup open data name hash "$root"
run veritysetup create name data hash "$root"

## names of devices
run veritysetup status a/b
run veritysetup close a/b

## names that no device can have, for who may make none
#~ stderr: name-first
run veritysetup open data a/b hash "$root"
run veritysetup open data "$(printf %0128d 0)" hash "$root"
