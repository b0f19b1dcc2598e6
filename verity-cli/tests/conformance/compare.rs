//! What was seen of two runs of one script, and how they compare.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use super::script::Case;

/// What a user sees of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
    Code,
    Files,
}

impl Channel {
    /// The channel of this name.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "code" => Self::Code,
            "files" => Self::Files,
            other => panic!("{other} is no channel"),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Code => "code",
            Self::Files => "files",
        })
    }
}

/// Type, permissions and content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(super) kind: &'static str,
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

/// All that was seen of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Exit codes are in the output, as the script prints them; this is the script's own.
    pub(crate) code: Option<i32>,
    pub(crate) files: BTreeMap<String, File>,
}

/// What is in a folder after a run. Of a sparse file of more than a few MiB only the length counts.
pub(crate) fn files(folder: &Path) -> io::Result<BTreeMap<String, File>> {
    const MOST: u64 = 64 << 20;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let kind = metadata.file_type();
        let (kind, bytes) = match () {
            () if kind.is_file() && metadata.len() > MOST => {
                ("large file", metadata.len().to_string().into_bytes())
            }
            () if kind.is_file() => ("file", fs::read(entry.path())?),
            () if kind.is_dir() => ("folder", Vec::new()),
            () if kind.is_fifo() => ("pipe", Vec::new()),
            () => ("something else", Vec::new()),
        };
        let mode = metadata.permissions().mode() & 0o7777;
        found.insert(entry.file_name().to_string_lossy().into_owned(), File { kind, mode, bytes });
    }
    Ok(found)
}

/// How a case came out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// The reasons of the differences that are meant, in order; none if all was equal.
    pub(crate) reasons: Vec<String>,
    /// Differences that nobody has allowed, and allowed ones that are none.
    pub(crate) unexpected: Option<String>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.unexpected, self.reasons.as_slice()) {
            (Some(_), _) => f.write_str("UNEXPECTED"),
            (None, []) => f.write_str("equal"),
            (None, reasons) => write!(f, "differs: {}", reasons.join(", ")),
        }
    }
}

/// Compares what veritysetup did with what the drop-in did. `strict` takes an allowed difference that is none for an
/// error, which makes sense with the release that the list was made with.
pub(crate) fn compare(case: &Case, theirs: &Seen, ours: &Seen, strict: bool) -> Comparison {
    let (theirs, mut reasons) = usual_form(theirs);
    let (ours, more) = usual_form(ours);
    reasons.extend(more);
    reasons.sort();
    reasons.dedup();

    let all = [
        (Channel::Stdout, text_difference(&theirs.stdout, &ours.stdout)),
        (Channel::Stderr, text_difference(&theirs.stderr, &ours.stderr)),
        (Channel::Code, (theirs.code != ours.code).then(|| format!("{:?}, {:?}", theirs.code, ours.code))),
        (Channel::Files, files_difference(&theirs.files, &ours.files)),
    ];
    let mut problems = Vec::new();
    for (channel, difference) in all {
        let mut allowed =
            case.allowed.iter().filter(|allowed| allowed.channels.contains(&channel)).peekable();
        match (difference, allowed.peek()) {
            (Some(difference), None) => problems.push(format!("{channel}: {difference}")),
            (Some(_), Some(_)) => reasons.extend(allowed.map(|allowed| allowed.reason.clone())),
            (None, Some(allowed)) if strict => {
                problems.push(format!("{channel} does not differ, but is allowed to ({})", allowed.reason));
            }
            (None, _) => {}
        }
    }
    reasons.sort();
    reasons.dedup();
    Comparison { reasons, unexpected: (!problems.is_empty()).then(|| problems.join("\n")) }
}

/// Brings what releases print in different ways into one form, and drops what is left out by rule: the summary of
/// options in front of an error (`usage`), and the lines of `--debug` (`debug`).
fn usual_form(seen: &Seen) -> (Seen, Vec<String>) {
    let mut reasons = Vec::new();
    let mut stdout = String::new();
    for line in seen.stdout.lines() {
        if line.starts_with("# ") {
            reasons.push("debug".to_owned());
        } else {
            stdout += &without_units(line);
            stdout.push('\n');
        }
    }
    let mut stderr = String::new();
    let mut in_usage = false;
    for line in seen.stderr.lines() {
        if line.starts_with("Usage: veritysetup ") {
            in_usage = true;
            reasons.push("usage".to_owned());
        }
        // Its lines are indented, but for the first.
        in_usage = in_usage && (line.starts_with("Usage: ") || line.starts_with(' '));
        if !in_usage {
            stderr += line;
            stderr.push('\n');
        }
    }
    reasons.dedup();
    (Seen { stdout, stderr, ..seen.clone() }, reasons)
}

/// Lines as 2.6 prints them: later ones say in which unit they count.
fn without_units(line: &str) -> String {
    if let Some((sectors, _)) = line.split_once(" [512-byte units]") {
        return format!("{sectors} sectors");
    }
    let line = line.strip_suffix(" [bytes]").unwrap_or(line);
    match line.strip_suffix('.') {
        Some(first) if line.starts_with("VERITY header information for ") => first.to_owned(),
        _ => line.to_owned(),
    }
}

/// The answers to those commands that were not answered in the same way.
fn text_difference(theirs: &str, ours: &str) -> Option<String> {
    if theirs == ours {
        return None;
    }
    let (theirs, ours) = (answers(theirs), answers(ours));
    let mut text = String::new();
    for index in 0..theirs.len().max(ours.len()) {
        let [their, our] = [&theirs, &ours].map(|answers| answers.get(index).map_or("", String::as_str));
        if their != our {
            text += &format!("\n  veritysetup:\n{their}  drop-in:\n{our}");
        }
    }
    Some(text)
}

/// The text in parts, each from the line that names a command to the next one; indented.
fn answers(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line.starts_with("$ ") {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            *part += &format!("    {line}\n");
        }
    }
    parts
}

fn files_difference(theirs: &BTreeMap<String, File>, ours: &BTreeMap<String, File>) -> Option<String> {
    let mut text = String::new();
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    for name in names {
        let described = |file: Option<&File>| match file {
            None => "missing".to_owned(),
            Some(File { kind, mode, bytes }) => format!("a {kind} of {} bytes, mode {mode:o}", bytes.len()),
        };
        let (their, our) = (theirs.get(name), ours.get(name));
        if their != our {
            let first =
                their.zip(our).and_then(|(a, b)| a.bytes.iter().zip(&b.bytes).position(|(a, b)| a != b));
            let first = first.map(|byte| format!(", from byte {byte}")).unwrap_or_default();
            text += &format!("\n  {name}: {}, {}{first}", described(their), described(our));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The table of all cases, and how many are equal, different as listed, and different beyond the list.
pub(crate) fn table(rows: &[(String, Comparison)]) -> String {
    let width = rows.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (title, comparison) in rows {
        text += &format!("{title:<width$}  {comparison}\n");
    }
    let unexpected = rows.iter().filter(|(_, comparison)| comparison.unexpected.is_some()).count();
    let equal = rows.iter().filter(|(_, row)| row.unexpected.is_none() && row.reasons.is_empty()).count();
    let listed = rows.len() - equal - unexpected;
    text + &format!(
        "{} scripts: {equal} equal, {listed} differ as listed, {unexpected} differ beyond the list\n",
        rows.len()
    )
}
