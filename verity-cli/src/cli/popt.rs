//! The command line as popt, which veritysetup uses, reads it: from left to right, and the first thing that is wrong
//! ends it, whatever else is; what is wrong with the action comes after that.
//!
//! What is left for clap is a line in which the action comes first, every option is written in one way, and every
//! number is decimal.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, Command};

use super::normalise::takes_value;
use super::veritysetup::is_action;
use super::{popt_help, problem};
use crate::failure::{Code, Failure};

/// What the arguments come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// To the action, with these arguments.
    Line(Vec<OsString>),
    /// To a page of text.
    Text(String),
    /// To a page of text on standard error.
    Usage(String),
}

/// Options whose values are numbers, and the largest.
const NUMBERS: [(&str, u64); 7] = [
    ("data-block-size", U32),
    ("data-blocks", u64::MAX),
    ("fec-offset", u64::MAX),
    ("fec-roots", U32),
    ("format", U32),
    ("hash-block-size", U32),
    ("hash-offset", u64::MAX),
];

const U32: u64 = 0xffff_ffff;

/// The options of all actions.
struct Known {
    long: HashMap<String, bool>,
    short: HashMap<u8, String>,
}

impl Known {
    fn of(cli: &Command) -> Self {
        let mut known = Self { long: HashMap::new(), short: HashMap::new() };
        let actions = cli.get_subcommands().filter(|command| is_action(command.get_name()));
        for argument in actions.flat_map(Command::get_arguments) {
            let Some(long) = argument.get_long() else { continue };
            known.long.insert(long.to_owned(), takes_value(argument));
            known.add_short(argument, long);
        }
        known
    }

    fn add_short(&mut self, argument: &Arg, long: &str) {
        if let Some(short) = argument.get_short().and_then(|short| u8::try_from(short).ok()) {
            self.short.insert(short, long.to_owned());
        }
    }
}

/// Reads the arguments, without the program's name.
pub(super) fn read(cli: &Command, arguments: &[OsString]) -> Result<Read, Failure> {
    let known = Known::of(cli);
    let mut options: Vec<(String, Option<OsString>)> = Vec::new();
    let mut plain: Vec<OsString> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        let found = match bytes {
            b"--" => {
                plain.extend(rest.by_ref().cloned());
                break;
            }
            [b'-', b'-', long @ ..] => vec![long_option(&known, word, long)?],
            [b'-', cluster @ ..] if !cluster.is_empty() => short_options(&known, word, cluster)?,
            _ => {
                plain.push(word.clone());
                continue;
            }
        };
        for Found { name, mut value } in found {
            match name.as_str() {
                "help" => return Ok(Read::Text(popt_help::page(cli))),
                "usage" => return Ok(Read::Usage(popt_help::usage(cli))),
                "version" => return Ok(Read::Text(popt_help::version(cli))),
                _ => {}
            }
            if known.long.get(&name) == Some(&true) && value.is_none() {
                value = Some(rest.next().cloned().ok_or_else(|| missing_value(word))?);
            }
            if let Some((_, most)) = NUMBERS.iter().find(|(number, _)| *number == name) {
                value = value.map(|value| number(&value, *most)).transpose()?;
            }
            options.push((name, value));
        }
    }
    line(options, &plain).map(Read::Line)
}

/// An option as it was found, with the value that was in the same word.
#[derive(Debug)]
struct Found {
    name: String,
    value: Option<OsString>,
}

fn long_option(known: &Known, word: &OsStr, long: &[u8]) -> Result<Found, Failure> {
    let (name, value) = match long.iter().position(|&byte| byte == b'=') {
        Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]).to_owned())),
        None => (long, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let with_value = match name.as_str() {
        "help" | "usage" | "version" => false,
        name => *known.long.get(name).ok_or_else(|| problem::unknown_option(word))?,
    };
    if value.is_some() && !with_value {
        let text = format!("{}: option does not take an argument", word.display());
        return Err(Failure::argument(&text).veritysetup(Code::General, text));
    }
    Ok(Found { name, value })
}

/// The options of a word such as `-vs00`: flags, and at the end one that may have a value.
fn short_options(known: &Known, word: &OsStr, cluster: &[u8]) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let mut rest = cluster;
    while let [short, behind @ ..] = rest {
        rest = behind;
        let name = match short {
            b'?' => "help",
            b'V' => "version",
            _ => known.short.get(short).ok_or_else(|| problem::unknown_option(word))?,
        };
        let mut value = None;
        if known.long.get(name) == Some(&true) && !rest.is_empty() {
            value = Some(OsStr::from_bytes(rest.strip_prefix(b"=").unwrap_or(rest)).to_owned());
            rest = &[];
        }
        found.push(Found { name: name.to_owned(), value });
    }
    Ok(found)
}

fn missing_value(word: &OsStr) -> Failure {
    let text = format!("{}: missing argument", word.display());
    Failure::argument(&text).veritysetup(Code::General, text)
}

/// A number as `strtoull` reads it, but for negative ones: blanks and a sign in front of decimal digits.
fn number(value: &OsStr, most: u64) -> Result<OsString, Failure> {
    let text = value.to_str().unwrap_or_default();
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix('+').unwrap_or(text);
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u64>() {
        Ok(number) if all_digits && number <= most => Ok(number.to_string().into()),
        _ => Err(Failure::argument(format_args!("{value:?} is not a number"))
            .veritysetup(Code::General, "veritysetup: invalid numeric value")),
    }
}

/// What clap gets.
fn line(options: Vec<(String, Option<OsString>)>, plain: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let Some((action, plain)) = plain.split_first() else { return Err(problem::no_command()) };
    // The old name takes its arguments in another order, which cannot be told where there is one argument at most.
    if !action.to_str().is_some_and(is_action) || (action == "create" && plain.len() < 2) {
        return Err(problem::unknown_command(&action.to_string_lossy()));
    }
    let bare = options.iter().any(|(name, _)| name == "no-superblock");
    let mut line = vec![action.clone()];
    for (name, value) in options {
        // Without a superblock nobody looks at it.
        if name == "uuid" && bare {
            continue;
        }
        let mut word = format!("--{name}").into_bytes();
        if let Some(value) = value {
            word.push(b'=');
            word.extend_from_slice(value.as_bytes());
        }
        line.push(OsString::from_vec(word));
    }
    line.push("--".into());
    line.extend_from_slice(plain);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personality::Personality;

    fn read_words(words: &[&str]) -> Result<String, String> {
        let cli = crate::cli::definition(Personality::Veritysetup);
        let arguments: Vec<_> = words.iter().map(OsString::from).collect();
        match read(&cli, &arguments) {
            Ok(Read::Line(line)) => {
                Ok(line.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
            }
            Ok(Read::Text(text) | Read::Usage(text)) => {
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            Err(failure) => Err(failure.as_veritysetup().1),
        }
    }

    #[test]
    fn every_line_becomes_one_form() {
        for (given, expected) in [
            ("format d h", "format -- d h"),
            ("--salt ab format d h", "format --salt=ab -- d h"),
            ("-vs - -hsha512 format d h", "format --verbose --salt=- --hash=sha512 -- d h"),
            ("-h=sha1 dump h", "dump --hash=sha1 -- h"),
            ("--data-blocks +08 format d h", "format --data-blocks=8 -- d h"),
            ("dump -- -h --salt", "dump -- -h --salt"),
            ("dump -", "dump -- -"),
            ("format d h --uuid x --no-superblock", "format --no-superblock -- d h"),
        ] {
            let words: Vec<_> = given.split(' ').collect();
            assert_eq!(read_words(&words).as_deref(), Ok(expected), "{given}");
        }
        assert_eq!(
            read_words(&["dump", "h", "--hash-offset", " 512"]).unwrap(),
            "dump --hash-offset=512 -- h"
        );
    }

    #[test]
    fn the_first_fault_counts() {
        for (given, expected) in [
            ("frobnicate --unknown", "--unknown: unknown option"),
            ("frobnicate", "veritysetup: Unknown action."),
            ("create name", "veritysetup: Unknown action."),
            ("-v", "veritysetup: Argument <action> missing."),
            ("-vx", "-vx: unknown option"),
            ("dump h --salt", "--salt: missing argument"),
            ("dump h -s", "-s: missing argument"),
            ("--debug=1", "--debug=1: option does not take an argument"),
            ("dump --data-blocks -1", "veritysetup: invalid numeric value"),
            ("dump --format 4294967296", "veritysetup: invalid numeric value"),
            ("--unknown --help", "--unknown: unknown option"),
        ] {
            let words: Vec<_> = given.split(' ').collect();
            assert_eq!(read_words(&words).unwrap_err(), expected, "{given}");
        }
        assert!(read_words(&["--version", "--unknown"]).unwrap().starts_with("veritysetup 2."));
    }
}
