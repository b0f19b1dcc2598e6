//! `verity man`: the manual pages, from the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::Resettable;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

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
    add_pages(&mut pages, "verity", &definition)?;
    Ok(pages)
}

/// The pages of the commands below one.
fn add_pages(pages: &mut Vec<Page>, parent: &str, command: &clap::Command) -> Result<(), Failure> {
    let shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    for command in command.get_subcommands().filter(shown) {
        let name = format!("{parent}-{}", command.get_name());
        pages.push(page(&name, command.clone())?);
        add_pages(pages, &name, command)?;
    }
    Ok(())
}

fn page(name: &str, command: clap::Command) -> Result<Page, Failure> {
    let closing = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    // The closing text gets sections of its own, which `Man` would run together.
    let command =
        command.name(name.to_owned()).display_name(name.to_owned()).after_long_help(Resettable::Reset);
    let man = Man::new(command)
        .section("8")
        .manual("System Administration")
        .source(format!("verity {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text)
        .and_then(|()| closing_sections(&closing).to_writer(&mut text))
        .map_err(|error| Failure::system("the manual page", &error))?;
    Ok((format!("{name}.8"), text))
}

/// The paragraphs below a help page: notes, and what is headed as examples or exit codes line by line.
fn closing_sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut notes = false;
    for paragraph in text.trim().split("\n\n") {
        let (heading, lines) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let section = match heading {
            "Examples:" => "EXAMPLES",
            "Exit codes:" => "EXIT STATUS",
            _ => {
                roff.control(if notes { "PP" } else { "SH" }, (!notes).then_some("NOTES"));
                notes = true;
                roff.text([roman(paragraph)]);
                continue;
            }
        };
        roff.control("SH", [section]).control("nf", []);
        for line in lines.lines() {
            roff.text([roman(line.trim_start())]);
        }
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let names: Vec<_> = pages().unwrap().into_iter().map(|(name, _)| name).collect();
        for command in
            ["format", "verify", "open", "close", "status", "dump", "list", "layer", "layer-verify", "man"]
        {
            assert!(names.contains(&format!("verity-{command}.8")), "{names:?}");
        }
        assert_eq!(names[0], "verity.8");
    }

    #[test]
    fn examples_and_exit_codes_have_their_sections() {
        let text = closing_sections(
            "A note\nof two lines.\n\nExamples:\n  verity list\n  verity man\n\nExit codes:\n  0  done",
        );
        let expected = ".SH NOTES\nA note\nof two lines.\n.SH EXAMPLES\n.nf\nverity list\nverity man\n.fi\n\
                        .SH \"EXIT STATUS\"\n.nf\n0  done\n.fi\n";
        assert!(text.to_roff().ends_with(expected), "{}", text.to_roff());
    }
}
