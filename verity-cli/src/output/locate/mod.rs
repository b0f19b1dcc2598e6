//! Where damage is and what it hits: as a picture, as lists, and for programs.

mod files;
mod json;
mod map;

pub(crate) use json::located as json;

use crate::commands::Located;

/// What is printed of it; colours are in it, for those outputs that have them.
pub(crate) fn text(located: &Located, lists: bool) -> String {
    let Located { map, files, limit } = located;
    let mut text = map.as_ref().map(|map| map::picture(map, map::width())).unwrap_or_default();
    if let Some(map) = map
        && lists
    {
        text += &map::ranges(map, *limit);
    }
    if let Some(Ok(files)) = files {
        text += &files::list(files);
    }
    text
}
