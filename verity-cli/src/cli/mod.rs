//! The command line: one definition, from which parsing, help, man pages and completions come.

pub(crate) mod help;
mod normalise;
pub(crate) mod options;
mod popt;
mod popt_help;
mod problem;
pub(crate) mod values;
mod veritysetup;

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::failure::Failure;
use crate::personality::Personality;

/// Makes, checks and activates dm-verity hash trees
///
/// A hash tree lets the kernel check every block of a read-only device when it is read. 'format' makes the tree and
/// prints its root hash, the one value that has to be kept safe; 'open' activates a device that the kernel checks
/// against it.
#[derive(Parser)]
#[command(name = "verity", disable_help_flag = true, after_long_help = help::OVERVIEW)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Show this help
    #[arg(long, short = '?', action = ArgAction::HelpLong)]
    help: Option<bool>,
}

/// What the arguments ask for.
pub(crate) enum Parsed {
    /// A command, with valid arguments.
    Command(Box<Command>),
    /// Help or the version.
    Text(StyledStr),
    /// The summary of options, which veritysetup prints on standard error.
    Usage(String),
}

/// The definition of the command line under either name.
pub(crate) fn definition(personality: Personality) -> clap::Command {
    let cli =
        Cli::command().name(personality.name()).bin_name(personality.name()).version(personality.version());
    let cli = if personality.is_veritysetup() { veritysetup::tolerate(cli) } else { cli };
    cli.mut_subcommands(|command| with_values_of_any_form(command, personality))
}

/// The same for a command and those below it: options as popt has them.
fn with_values_of_any_form(command: clap::Command, personality: Personality) -> clap::Command {
    command
        .mut_args(|argument| {
            let value = normalise::takes_value(&argument) && !argument.is_positional();
            // As popt has it: whatever follows is the value, `-` and `-1` too.
            let argument = if value { argument.allow_hyphen_values(true) } else { argument };
            let flag = matches!(argument.get_action(), ArgAction::SetTrue);
            if flag || (value && personality.is_veritysetup()) {
                // Saying a thing twice is no error; saying two things is.
                let id = argument.get_id().clone();
                argument.overrides_with(id)
            } else {
                argument
            }
        })
        .mut_subcommands(|command| with_values_of_any_form(command, personality))
}

/// Reads the arguments, the program's name among them.
pub(crate) fn parse(arguments: &[OsString], personality: Personality) -> Result<Parsed, Failure> {
    let cli = definition(personality);
    let arguments = arguments.get(1..).unwrap_or_default();
    let normalised = if personality.is_veritysetup() {
        match popt::read(&cli, arguments)? {
            popt::Read::Line(line) => line,
            popt::Read::Text(text) => return Ok(Parsed::Text(text.into())),
            popt::Read::Usage(text) => return Ok(Parsed::Usage(text)),
        }
    } else {
        normalise::normalise(&cli, arguments)
    };
    let line = std::iter::once(OsString::from(personality.name())).chain(normalised.iter().cloned());
    cli.try_get_matches_from(line)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map(|cli| Parsed::Command(Box::new(cli.command)))
        // Parsing took the definition. Making another is cheaper than a copy for the case that nothing is wrong.
        .or_else(|error| problem::translate(&error, &definition(personality), &normalised))
}

/// Whether it is to be told how the command ended, even if it could not begin.
pub(crate) fn wants_epilogue(arguments: &[OsString]) -> bool {
    let wanted = ["-v", "--verbose", "--debug"];
    arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--")
        .any(|argument| argument.to_str().is_some_and(|argument| wanted.contains(&argument)))
}

/// Whether a document was asked for, even by arguments that are otherwise wrong.
pub(crate) fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition(Personality::Verity).debug_assert();
        definition(Personality::Veritysetup).debug_assert();
    }
}
