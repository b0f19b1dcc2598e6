//! What veritysetup's command line takes beyond `verity`'s: options that the action does not need, and arguments
//! behind the last one. Both are ignored, as veritysetup ignores them.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Options that veritysetup takes with every action, and whether they have a value.
const ANYWHERE: [(&str, Option<char>, bool); 13] = [
    ("check-at-most-once", None, false),
    ("data-block-size", None, true),
    ("data-blocks", None, true),
    ("fec-device", None, true),
    ("fec-offset", None, true),
    ("fec-roots", None, true),
    ("format", None, true),
    ("hash", Some('h'), true),
    ("hash-block-size", None, true),
    ("hash-offset", None, true),
    ("no-superblock", None, false),
    ("salt", Some('s'), true),
    ("uuid", None, true),
];

/// veritysetup's actions; the others are this program's own.
const ACTIONS: [&str; 8] = ["format", "verify", "open", "create", "close", "remove", "status", "dump"];

/// Whether veritysetup has such an action.
pub(super) fn is_action(action: &str) -> bool {
    ACTIONS.contains(&action)
}

/// Adds what is missing, hidden, and hides what there is too much of.
pub(super) fn tolerate(cli: Command) -> Command {
    cli.disable_help_subcommand(true).mut_subcommands(|mut command| {
        if !is_action(command.get_name()) {
            return command.hide(true);
        }
        for (long, short, value) in ANYWHERE {
            if !command.get_arguments().any(|argument| argument.get_long() == Some(long)) {
                let action = if value { ArgAction::Set } else { ArgAction::SetTrue };
                command = command.arg(
                    Arg::new(format!("ignored-{long}")).long(long).short(short).action(action).hide(true),
                );
            }
        }
        let surplus = Arg::new("surplus")
            .num_args(0..)
            .action(ArgAction::Append)
            .value_parser(clap::value_parser!(OsString))
            .hide(true);
        command.arg(surplus)
    })
}
