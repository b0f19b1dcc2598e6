//! Options may stand anywhere, before the action too: this brings the action to the front, where clap wants it.

use std::collections::HashMap;
use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Which options there are, over all commands, and which of them take a value.
struct Known {
    long: HashMap<String, bool>,
    short: HashMap<char, bool>,
}

impl Known {
    fn of(cli: &Command) -> Self {
        let mut known = Self { long: HashMap::new(), short: HashMap::new() };
        known.add(cli);
        known
    }

    /// Takes the options of all commands below one.
    fn add(&mut self, command: &Command) {
        for command in command.get_subcommands() {
            for argument in command.get_arguments() {
                let value = takes_value(argument);
                self.long.extend(argument.get_long().map(|long| (long.to_owned(), value)));
                self.short.extend(argument.get_short().map(|short| (short, value)));
            }
            self.add(command);
        }
    }

    /// Whether the argument after this one is its value.
    fn wants_next(&self, argument: &str) -> bool {
        if let Some(long) = argument.strip_prefix("--") {
            return self.long.get(long).copied().unwrap_or(false);
        }
        let mut rest = argument.chars().skip(1);
        while let Some(short) = rest.next() {
            if self.short.get(&short).copied().unwrap_or(false) {
                return rest.next().is_none();
            }
        }
        false
    }
}

pub(super) fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// The arguments (without the program's name) with the action first, and `--version` alone if it is among them.
pub(super) fn normalise(cli: &Command, arguments: &[OsString]) -> Vec<OsString> {
    let known = Known::of(cli);
    let mut rest = Vec::with_capacity(arguments.len());
    let mut actions: Vec<OsString> = Vec::new();
    // The command whose commands an action can be.
    let mut command = Some(cli);
    let mut only_positional = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        let option = !only_positional && text.len() > 1 && text.starts_with('-');
        if option && text == "--" {
            only_positional = true;
        } else if option && matches!(text, "--version" | "-V") {
            return vec!["--version".into()];
        } else if option && text == "--usage" {
            // What popt offers beside `--help`.
            return vec!["--help".into()];
        } else if option && known.wants_next(text) {
            rest.push(argument.clone());
            rest.extend(arguments.next().cloned());
            continue;
        } else if !option && let Some(parent) = command.filter(|command| command.has_subcommands()) {
            command = parent.find_subcommand(argument);
            actions.push(argument.clone());
            continue;
        }
        rest.push(argument.clone());
    }
    if actions.first().is_some_and(|action| action == "help") {
        // Help is told in the same way whatever else was said.
        rest.retain(|argument| !argument.to_string_lossy().starts_with('-'));
    }
    actions.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(arguments: &str) -> String {
        let cli = crate::cli::definition(crate::personality::Personality::Verity);
        let arguments: Vec<_> = arguments.split(' ').map(OsString::from).collect();
        let result = normalise(&cli, &arguments);
        result.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_action_comes_first() {
        for (given, expected) in [
            ("format d h", "format d h"),
            ("--salt ab format d h", "format --salt ab d h"),
            ("--salt=ab -v format d h", "format --salt=ab -v d h"),
            ("-s - -h sha512 format d h", "format -s - -h sha512 d h"),
            ("-hsha512 -vs ab format d h", "format -hsha512 -vs ab d h"),
            ("--data-blocks -1 format d h", "format --data-blocks -1 d h"),
            ("-v -- format d -h", "format -v -- d -h"),
            ("format d h --salt", "format d h --salt"),
            ("--debug dump -- --version", "dump --debug -- --version"),
            ("format -V d", "--version"),
            ("-v help --json open", "help open"),
            ("--json layer --to vhd convert a b", "layer convert --json --to vhd a b"),
            ("layer inspect layer", "layer inspect layer"),
            ("help layer inspect", "help layer inspect"),
        ] {
            assert_eq!(normalised(given), expected, "{given}");
        }
    }

    #[test]
    fn an_option_takes_a_value_in_all_commands_or_in_none() {
        let cli = crate::cli::definition(crate::personality::Personality::Verity);
        let mut seen = HashMap::new();
        let mut commands: Vec<&Command> = cli.get_subcommands().collect();
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            for argument in command.get_arguments() {
                if let Some(long) = argument.get_long() {
                    let value = takes_value(argument);
                    assert_eq!(*seen.entry(long.to_owned()).or_insert(value), value, "--{long}");
                }
            }
        }
    }
}
