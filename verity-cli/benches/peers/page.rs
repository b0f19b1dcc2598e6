//! The part of a page that is written by the benchmark, between two marks.

const BEGIN: &str = "<!-- ./x bench --write: from here -->\n";
const END: &str = "<!-- ./x bench --write: to here -->\n";

/// The page with its measured part replaced. `None` unless each mark is there once, in order.
pub(crate) fn replaced(page: &str, part: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (old, after) = rest.split_once(END)?;
    let marks = [BEGIN.trim_end(), END.trim_end()];
    if [before, old, after].iter().any(|text| marks.iter().any(|mark| text.contains(mark))) {
        return None;
    }
    Some([before, BEGIN, part, END, after].concat())
}
