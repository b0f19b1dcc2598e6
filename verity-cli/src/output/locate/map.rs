//! The picture of a device: a character for some of its blocks, readable without colours.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use indicatif::HumanBytes;
use terminal_size::{Width, terminal_size_of};
use verity_core::locate::{Area, Map, State, Strip};

/// Where no terminal says how wide it is.
const DEFAULT_WIDTH: usize = 80;
/// Narrower pictures say nothing, wider ones cannot be followed with the eyes.
const NARROWEST: usize = 24;
const MOST_COLUMNS: usize = 128;
/// How many lines the picture of an area has at most.
const DATA_LINES: u64 = 16;
const TREE_LINES: u64 = 4;

/// How wide the output is: of a terminal its width, else what `COLUMNS` says.
pub(super) fn width() -> usize {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    let terminal = terminal_size_of(std::io::stdout()).map(|(Width(width), _)| usize::from(width));
    terminal.filter(|&width| width > 0).or_else(columns).unwrap_or(DEFAULT_WIDTH).max(NARROWEST)
}

/// A state's character and its colour.
const fn look(state: State) -> (char, Style) {
    match state {
        State::Good => ('.', AnsiColor::Green.on_default()),
        State::Repairable => ('+', AnsiColor::Yellow.on_default().bold()),
        State::Unverifiable => ('?', AnsiColor::Magenta.on_default().bold()),
        State::Damaged => ('X', AnsiColor::Red.on_default().bold()),
    }
}

/// Both areas and a legend, in lines of at most `width` characters.
pub(super) fn picture(map: &Map, width: usize) -> String {
    let mut text = String::new();
    for (area, lines) in [(Area::Data, DATA_LINES), (Area::Tree, TREE_LINES)] {
        let strip = map.strip(area);
        if strip.blocks() > 0 {
            text += &draw(area, strip, lines, width);
        }
    }
    text += &wrapped(
        State::ALL.map(|state| {
            let (character, style) = look(state);
            let plain = format!("{character} {state}");
            (plain.len(), format!("{style}{character}{style:#} {state}"))
        }),
        "  ",
        width,
    );
    if map.unplaced_blocks > 0 {
        let _ = writeln!(
            text,
            "{} more bad blocks are not in the picture: they are in too many places.",
            map.unplaced_blocks
        );
    }
    text
}

fn draw(area: Area, strip: &Strip, lines: u64, width: usize) -> String {
    let label = strip.blocks().to_string().len();
    // Lines begin at round numbers.
    let room = width.saturating_sub(label + 1).clamp(1, MOST_COLUMNS);
    let columns = 1_u64 << room.ilog2();
    let per_character = strip.blocks().div_ceil(columns * lines).next_power_of_two();

    let mut about = vec![
        match area {
            Area::Data => "Data:".to_owned(),
            Area::Tree => "Tree, from the top block down:".to_owned(),
        },
        format!("{} blocks of {} bytes", strip.blocks(), strip.block_size()),
        format!("({}),", HumanBytes(strip.blocks().saturating_mul(strip.block_size()))),
    ];
    let counts = State::ALL.map(|state| (state, strip.count(state)));
    about.extend(
        counts.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {state},")),
    );
    about.push(match per_character {
        1 => "a character each".to_owned(),
        _ => format!("{per_character} a character, which shows the worst"),
    });
    let words = about.iter().flat_map(|phrase| phrase.split(' ')).map(|word| (word.len(), word.to_owned()));
    let mut text = wrapped(words, " ", width);

    let states: Vec<State> = strip.worst_of_each(per_character).collect();
    let per_line = usize::try_from(columns).unwrap_or(usize::MAX);
    for (line, states) in (0_u64..).zip(states.chunks(per_line)) {
        let _ = write!(text, "{:>label$} ", line * columns * per_character);
        for run in states.chunk_by(|a, b| a == b) {
            let (character, style) = look(run[0]);
            let _ = write!(text, "{style}{}{style:#}", character.to_string().repeat(run.len()));
        }
        text.push('\n');
    }
    text
}

/// Words with their lengths, in lines that are no longer than `width` unless a word is.
fn wrapped(words: impl IntoIterator<Item = (usize, String)>, gap: &str, width: usize) -> String {
    let (mut text, mut used) = (String::new(), 0);
    for (length, word) in words {
        if used > 0 {
            let fits = used + gap.len() + length <= width;
            text += if fits { gap } else { "\n" };
            used = if fits { used + gap.len() } else { 0 };
        }
        text += &word;
        used += length;
    }
    text + "\n"
}

/// What is not good, one range a line.
pub(super) fn ranges(map: &Map, limit: usize) -> String {
    let mut text = String::new();
    let areas = [Area::Data, Area::Tree];
    let spans = areas.iter().flat_map(|&area| map.strip(area).bad_spans().map(move |span| (area, span)));
    let mut unlisted = 0;
    for (number, (area, span)) in spans.enumerate() {
        if number >= limit {
            unlisted += 1;
            continue;
        }
        let (first, last) = (span.blocks.start, span.blocks.end - 1);
        let blocks =
            if first == last { format!("block {first}") } else { format!("blocks {first} to {last}") };
        let (_, style) = look(span.state);
        let (begin, end) = (span.bytes.start, span.bytes.end - 1);
        let _ = writeln!(text, "{style}{:<12}{style:#} {area} {blocks} (bytes {begin} to {end})", span.state);
    }
    if unlisted > 0 {
        let _ = writeln!(text, "... and {unlisted} more (--max-findings lists more)");
    }
    text
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use verity_core::geometry::{Geometry, HashArea};
    use verity_core::params::Params;
    use verity_core::tree::Report;

    use super::*;

    fn map(blocks: u64) -> Map {
        let params = Params::default();
        let geometry = Geometry::new(&params, blocks, HashArea::with_superblock(0).unwrap()).unwrap();
        let mut map = Map::new(&params, &geometry, &Report::default());
        map.mark(Area::Data, 3..4, State::Damaged);
        map.mark(Area::Data, 128..256, State::Unverifiable);
        map.mark(Area::Data, 299..300, State::Repairable);
        map.mark(Area::Tree, 2..3, State::Damaged);
        map
    }

    fn plain(map: &Map, width: usize) -> String {
        strip_str(&picture(map, width)).to_string()
    }

    #[test]
    fn a_small_device_has_a_character_for_each_block() {
        let expected = "\
Data: 300 blocks of 4096 bytes (1.17 MiB), 170 good, 1 repairable, 128
unverifiable, 1 damaged, a character each
  0 ...X............................................................
 64 ................................................................
128 ????????????????????????????????????????????????????????????????
192 ????????????????????????????????????????????????????????????????
256 ...........................................+
Tree, from the top block down: 4 blocks of 4096 bytes (16.00 KiB), 3 good, 1
damaged, a character each
0 ..X.
. good  + repairable  ? unverifiable  X damaged
";
        assert_eq!(plain(&map(300), 80), expected);
    }

    #[test]
    fn a_large_device_has_more_blocks_in_a_character() {
        let text = plain(&map(1 << 20), 80);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].ends_with("1024 a character, which shows the worst"), "{text}");
        assert_eq!(lines[2], format!("{:>7} X{}", 0, ".".repeat(63)));
        assert_eq!(lines[3], format!("{:>7} {}", 65_536, ".".repeat(64)));
        assert_eq!(lines.len(), 2 + 16 + 2 + 4 + 1, "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for blocks in [1, 300, 1 << 20, 1 << 50] {
            let map = map(blocks);
            for width in NARROWEST..300 {
                let text = plain(&map, width);
                assert!(text.lines().all(|line| line.len() <= width), "{width}\n{text}");
                assert!(text.lines().count() < 60, "{width}\n{text}");
            }
        }
    }

    #[test]
    fn a_device_of_one_block_has_no_tree() {
        let text = plain(&map(1), 80);
        assert_eq!(
            text,
            "Data: 1 blocks of 4096 bytes (4.00 KiB), 1 good, a character each\n0 .\n\
             . good  + repairable  ? unverifiable  X damaged\n"
        );
    }

    #[test]
    fn ranges_are_listed_as_far_as_wanted() {
        let expected = "\
damaged      data block 3 (bytes 12288 to 16383)
unverifiable data blocks 128 to 255 (bytes 524288 to 1048575)
... and 2 more (--max-findings lists more)
";
        assert_eq!(strip_str(&ranges(&map(300), 2)).to_string(), expected);
        let all = strip_str(&ranges(&map(300), 4)).to_string();
        assert!(all.ends_with("damaged      tree block 2 (bytes 12288 to 16383)\n"), "{all}");
    }
}
