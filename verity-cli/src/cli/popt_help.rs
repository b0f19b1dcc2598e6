//! veritysetup's pages of help, in popt's form: scripts look in them for the options and actions that there are.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use super::normalise::takes_value;
use super::veritysetup::is_action;

/// The column at which popt begins to explain.
const COLUMN: usize = 39;
const WIDTH: usize = 79;

/// The actions with their arguments.
const ACTIONS: &str = "\
<action> is one of:
\tformat <data_device> <hash_device> - make a hash tree and print its root hash
\tverify <data_device> <hash_device> [<root_hash>] - check data and hash tree
\topen <data_device> <name> <hash_device> [<root_hash>] - activate a device as <name>
\tclose <name> - remove a device
\tstatus <name> - show an active device
\tdump <hash_device> - show what a superblock says

<name> is the device below /dev/mapper
<data_device> is the data: a file or a block device
<hash_device> is where the hash tree is, a file or a block device
<root_hash> is what format printed, in hexadecimal

Defaults:
\tHash: sha256, Data block (bytes): 4096, Hash block (bytes): 4096, Salt size: 32, Hash format: 1
";

/// What `--version` prints.
pub(super) fn version(cli: &Command) -> String {
    format!("veritysetup {}\n", cli.get_version().unwrap_or_default())
}

/// What `--help` prints.
pub(super) fn page(cli: &Command) -> String {
    let mut text = version(cli);
    text += "Usage: veritysetup [OPTION...] <action> <action-specific>\n\nHelp options:\n";
    for (names, help) in help_options() {
        text += &entry(names, help);
    }
    for argument in options(cli).values() {
        let short = argument.get_short().map_or("    ".to_owned(), |short| format!("-{short}, "));
        text += &entry(&format!("{short}{}", long(argument)), &explanation(argument));
    }
    text + "\n" + ACTIONS
}

/// What `--usage` prints.
pub(super) fn usage(cli: &Command) -> String {
    let mut words = vec!["[-?|--help]".to_owned(), "[--usage]".to_owned(), "[-V|--version]".to_owned()];
    words.extend(options(cli).values().map(|argument| {
        let short = argument.get_short().map_or(String::new(), |short| format!("-{short}|"));
        format!("[{short}{}]", long(argument))
    }));
    words.extend(["[OPTION...]", "<action>", "<action-specific>"].map(str::to_owned));
    wrapped("Usage: veritysetup", &words, 8)
}

fn help_options() -> [(&'static str, &'static str); 3] {
    [
        ("-?, --help", "Show this help"),
        ("    --usage", "Show the options in short"),
        ("-V, --version", "Show the version"),
    ]
}

/// The options that veritysetup's actions take, in the order of their names.
fn options(cli: &Command) -> BTreeMap<String, &Arg> {
    let actions = cli.get_subcommands().filter(|command| is_action(command.get_name()));
    let shown = actions.flat_map(Command::get_arguments).filter(|argument| !argument.is_hide_set());
    let named = shown.filter_map(|argument| Some((argument.get_long()?.to_owned(), argument)));
    named.filter(|(name, _)| name != "help").collect()
}

fn long(argument: &Arg) -> String {
    let name = argument.get_long().unwrap_or_default();
    match argument.get_value_names() {
        Some([value, ..]) if takes_value(argument) => format!("--{name}={}", value.to_lowercase()),
        _ => format!("--{name}"),
    }
}

fn explanation(argument: &Arg) -> String {
    argument.get_help().map(ToString::to_string).unwrap_or_default()
}

/// An option and what it does, broken into lines as popt breaks them.
fn entry(names: &str, help: &str) -> String {
    let words: Vec<_> = help.split_whitespace().map(str::to_owned).collect();
    wrapped(&format!("{:<width$}", format!("  {names}"), width = COLUMN - 1), &words, COLUMN)
}

/// Words behind `first`, the lines after the first one indented.
fn wrapped(first: &str, words: &[String], indent: usize) -> String {
    let mut text = first.to_owned();
    let mut column = first.chars().count();
    for word in words {
        let length = word.chars().count();
        if column + 1 + length > WIDTH {
            text += &format!("\n{:indent$}{word}", "");
            column = indent + length;
        } else {
            text += &format!(" {word}");
            column += 1 + length;
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personality::Personality;

    #[test]
    fn every_option_is_in_both_pages() {
        let cli = crate::cli::definition(Personality::Veritysetup);
        let (page, usage) = (page(&cli), usage(&cli));
        for option in ["--root-hash-file=path", "--use-tasklets", "-s, --salt=hex", "--uuid=uuid"] {
            assert!(page.contains(option), "{option} is not in:\n{page}");
        }
        for option in ["[--use-tasklets]", "[-s|--salt=hex]", "[-v|--verbose]"] {
            assert!(usage.contains(option), "{option} is not in:\n{usage}");
        }
        assert!(
            page.lines().filter(|line| !line.starts_with('\t')).all(|line| line.chars().count() <= WIDTH)
        );
        assert!(
            usage.lines().skip(1).all(|line| line.starts_with("        [") || line.starts_with("        <"))
        );
    }
}
