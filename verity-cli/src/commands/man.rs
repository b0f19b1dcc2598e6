//! `verity man`: the manual pages, from the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;

use crate::cli;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output;
use crate::personality::Personality;
use crate::session::Session;

const HELP: &str = "\
Examples:
  verity man | man -l -
  verity man /usr/local/share/man/man8";

/// Print the manual page, or write the pages of all commands into a folder
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// An existing folder for the pages verity.8, verity-format.8 and so on
    folder: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: Common,
}

/// A page's file name and its text.
type Page = (String, Vec<u8>);

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let pages = pages()?;
    let Some(folder) = &arguments.folder else {
        let overview =
            pages.first().map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        session.print(|| overview.clone(), || output::json::manual(&overview))?;
        return Ok(Code::Success);
    };
    for (name, text) in &pages {
        write(&folder.join(name), text)?;
    }
    let names: Vec<_> = pages.into_iter().map(|(name, _)| folder.join(name)).collect();
    session.print(String::new, || output::json::manual_files(&names))?;
    Ok(Code::Success)
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        Failure::system(format_args!("manual page {path:?}"), &error)
            .code(Code::General)
            .hint("give an existing folder that can be written to")
    })
}

/// All pages, the overview first.
fn pages() -> Result<Vec<Page>, Failure> {
    let mut definition = cli::definition(Personality::Verity).disable_help_subcommand(true);
    definition.build();
    let mut pages = vec![page("verity", definition.clone())?];
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages.push(page(&format!("verity-{}", command.get_name()), command.clone())?);
    }
    Ok(pages)
}

fn page(name: &str, command: clap::Command) -> Result<Page, Failure> {
    let mut text = Vec::new();
    let command = command.name(name.to_owned()).display_name(name.to_owned());
    Man::new(command)
        .section("8")
        .manual("System Administration")
        .source(format!("verity {}", env!("CARGO_PKG_VERSION")))
        .render(&mut text)
        .map_err(|error| Failure::system("the manual page", &error))?;
    Ok((format!("{name}.8"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let names: Vec<_> = pages().unwrap().into_iter().map(|(name, _)| name).collect();
        for command in ["format", "verify", "open", "close", "status", "dump", "list", "completions", "man"] {
            assert!(names.contains(&format!("verity-{command}.8")), "{names:?}");
        }
        assert_eq!(names[0], "verity.8");
    }
}
