//! Texts that several help pages share.

macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0  done
  1  a bad argument, a bad superblock, a wrong root hash, and all that has no code of its own
  2  verification failed, or no permission
  3  out of memory
  4  no such file or device, one of the wrong kind, or not active
  5  it exists already, is in use, or its last change was cut off
  129, 130, 143  interrupted (SIGHUP, SIGINT, SIGTERM)"
    };
}
pub(crate) use exit_codes;

pub(super) const OVERVIEW: &str = concat!(
    "\
'create NAME DATA HASH [ROOT_HASH]' is an old form of 'open', 'remove' of 'close'. Options may stand anywhere. \
'verity help COMMAND' explains a command.

Examples:
  verity format image.erofs image.verity
  verity verify image.erofs image.verity ROOT_HASH
  verity open image.erofs layer image.verity ROOT_HASH
  mount -o ro /dev/mapper/layer /mnt
  verity status layer
  verity close layer

",
    exit_codes!()
);
