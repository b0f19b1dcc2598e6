//! Says what is wrong with arguments, in this program's own words.

use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::Parsed;
use crate::failure::{Code, Failure};

/// Turns clap's error about `line`, which begins with the action, into a failure, or into the text that was asked for.
pub(super) fn translate(error: &Error, cli: &Command, line: &[OsString]) -> Result<Parsed, Failure> {
    let first = line.first().and_then(|action| action.to_str()).unwrap_or_default();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Ok(Parsed::Text(error.render()));
    }
    let (action, command) = deepest(first, cli, line);
    let action = action.as_str();
    let more = match command {
        Some(_) => format!("'verity help {action}' lists the arguments and options"),
        None => "'verity help' lists the commands".to_owned(),
    };
    let failure = match error.kind() {
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            if command.is_some() {
                Failure::argument(format_args!("{action}: no command given"))
            } else {
                no_command()
            }
        }
        ErrorKind::UnknownArgument if command.is_none() && is_known(&bad_argument(error), cli) => {
            no_command()
        }
        ErrorKind::InvalidSubcommand => {
            // Of 'help', what help was asked for.
            let named = context(error, ContextKind::InvalidSubcommand);
            unknown_command(named.as_deref().unwrap_or(action))
        }
        ErrorKind::InvalidUtf8 => {
            Failure::argument(format_args!("{action}: an argument is no UTF-8, which only paths may be"))
        }
        ErrorKind::UnknownArgument => unknown_argument(&bad_argument(error), cli, action, command),
        ErrorKind::MissingRequiredArgument => missing(error, action),
        ErrorKind::TooManyValues => {
            let (option, value) =
                (bad_argument(error), context(error, ContextKind::InvalidValue).unwrap_or_default());
            Failure::argument(format_args!("{option} takes no value")).veritysetup(
                Code::General,
                format_args!("{option}={value}: option does not take an argument"),
            )
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => bad_value(error, line),
        ErrorKind::ArgumentConflict => conflict(error),
        _ => Failure::argument(first_line(error)),
    };
    Err(if failure.hint.is_some() { failure } else { failure.hint(more) })
}

/// The command that `line` begins with, and its whole name.
fn deepest<'a>(first: &str, cli: &'a Command, line: &[OsString]) -> (String, Option<&'a Command>) {
    let mut name = first.to_owned();
    let mut command = cli.find_subcommand(first);
    for word in line.iter().skip(1) {
        let Some(inner) = command.and_then(|command| command.find_subcommand(word)) else { break };
        name = format!("{name} {}", inner.get_name());
        command = Some(inner);
    }
    (name, command)
}

fn context(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

/// The argument's name without its value's: `--salt` for `--salt <HEX>`.
fn bad_argument(error: &Error) -> String {
    let text = context(error, ContextKind::InvalidArg).unwrap_or_default();
    text.split([' ', '=']).next().unwrap_or_default().to_owned()
}

/// A command that there is not.
pub(super) fn unknown_command(action: &str) -> Failure {
    Failure::argument(format_args!("command {action:?} is unknown"))
        .veritysetup(Code::General, "veritysetup: Unknown action.")
}

pub(super) fn no_command() -> Failure {
    Failure::argument("no command given")
        .veritysetup(Code::General, "veritysetup: Argument <action> missing.")
}

/// An option that no action has, as it was written.
pub(super) fn unknown_option(word: &OsStr) -> Failure {
    let text = format!("{}: unknown option", word.display());
    Failure::argument(&text).veritysetup(Code::General, text)
}

/// The commands that have an option of this name, by their whole names.
fn homes(option: &str, cli: &Command) -> Vec<String> {
    let has_it = |command: &&Command| {
        command.get_arguments().any(|known| match option.strip_prefix("--") {
            Some(long) => known.get_long() == Some(long),
            None => known.get_short().is_some_and(|short| option == format!("-{short}")),
        })
    };
    let mut homes = Vec::new();
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        homes.extend(has_it(&command).then(|| command.get_name().to_owned()));
        let inner = self::homes(option, command);
        homes.extend(inner.iter().map(|inner| format!("{} {inner}", command.get_name())));
    }
    homes
}

fn is_known(option: &str, cli: &Command) -> bool {
    !homes(option, cli).is_empty()
}

fn unknown_argument(argument: &str, cli: &Command, action: &str, command: Option<&Command>) -> Failure {
    let unknown = || format!("{argument}: unknown option");
    if command.is_none() {
        return Failure::argument(format_args!("option {argument} is unknown"))
            .veritysetup(Code::General, unknown());
    }
    if !argument.starts_with('-') {
        return Failure::argument(format_args!("{action}: argument {argument:?} is one too many"));
    }
    let homes = homes(argument, cli);
    if homes.is_empty() {
        return Failure::argument(format_args!("{action}: option {argument} is unknown"))
            .veritysetup(Code::General, unknown());
    }
    let text = format!("veritysetup: Option {argument} is not allowed with {action} action.");
    Failure::argument(format_args!(
        "option {argument} does not go with {action}, only with {}",
        homes.join(", ")
    ))
    .veritysetup(Code::General, text)
}

fn missing(error: &Error, action: &str) -> Failure {
    let what = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let failure = Failure::argument(format_args!("{action}: {what} missing"));
    let arguments = match action {
        "format" => "<data_device> <hash_device>",
        "verify" => "<data_device> <hash_device> [<root_hash>]",
        "open" | "create" => "<data_device> <name> <hash_device> [<root_hash>]",
        "dump" => "<hash_device>",
        _ => "<name>",
    };
    let action = match action {
        "create" => "open",
        "remove" => "close",
        other => other,
    };
    failure
        .veritysetup(Code::General, format_args!("veritysetup: {action}: requires {arguments} as arguments"))
}

fn bad_value(error: &Error, line: &[OsString]) -> Failure {
    let option = bad_argument(error);
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    if value.is_empty() && option.starts_with('<') {
        let failure = Failure::argument(format_args!("{option} is empty")).while_working();
        let format = line.first().is_some_and(|action| action == "format");
        return match option.as_str() {
            "<HASH>" if format => {
                failure.veritysetup(Code::General, "Cannot create hash image  for writing.")
            }
            _ => failure.veritysetup(Code::NoDevice, "Device  does not exist or access denied."),
        };
    }
    if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
        return Failure::argument(format_args!("{option} needs a value"))
            .veritysetup(Code::General, format_args!("{option}: missing argument"));
    }
    let why = std::error::Error::source(error).map_or_else(|| first_line(error), ToString::to_string);
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty();
    let text = match option.as_str() {
        "--salt" => "Invalid salt string specified.".to_owned(),
        "--hash" => format!("Hash algorithm {value} not supported."),
        "--uuid" => {
            // What `format` takes: data, then hash device.
            let hash = line.iter().skip_while(|word| *word != "--").nth(2);
            let hash = hash.map(|path| path.display().to_string()).unwrap_or_default();
            format!("Wrong VERITY UUID format provided on device {hash}.")
        }
        "--format" if is_number => format!("Unsupported VERITY hash type {value}."),
        "--data-block-size" | "--hash-block-size" if is_number => "Unsupported VERITY block size.".to_owned(),
        "--fec-roots" if is_number => "Invalid number of parity bytes.".to_owned(),
        _ => "veritysetup: invalid numeric value".to_owned(),
    };
    Failure::argument(format_args!("{option} {value:?}: {why}"))
        .while_working()
        .veritysetup(Code::General, text)
}

fn conflict(error: &Error) -> Failure {
    let first = bad_argument(error);
    let other = context(error, ContextKind::PriorArg).unwrap_or_default();
    // Several, if it excludes more than one of those that are there.
    let other = other.split([' ', '=', ',']).next().unwrap_or_default();
    if first == other {
        return Failure::argument(format_args!("{first} is given twice"));
    }
    let text = if first.ends_with("deferred") {
        "Options --cancel-deferred and --deferred cannot be used at the same time.".to_owned()
    } else {
        // veritysetup names the two in this order, whatever theirs was.
        let (one, two) = if first == "--restart-on-corruption" {
            (other, first.as_str())
        } else {
            (first.as_str(), other)
        };
        format!("Option {one} and {two} cannot be used together.")
    };
    Failure::argument(format_args!("{first} and {other} exclude each other"))
        .veritysetup(Code::General, format_args!("veritysetup: {text}"))
}

fn first_line(error: &Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
