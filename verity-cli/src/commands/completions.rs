//! `verity completions`: a script that completes this command line in a shell.

use clap::Args;
use clap_complete::Shell;

use crate::cli;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output;
use crate::personality::Personality;
use crate::session::Session;

const HELP: &str = "\
Examples:
  verity completions bash > /usr/share/bash-completion/completions/verity
  verity completions zsh > /usr/local/share/zsh/site-functions/_verity
  verity completions fish > ~/.config/fish/completions/verity.fish";

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,

    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let mut script = Vec::new();
    let mut definition = cli::definition(Personality::Verity);
    clap_complete::generate(arguments.shell, &mut definition, "verity", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let shell = arguments.shell.to_string();
    session.print(|| script.clone(), || output::json::completions(&shell, &script))?;
    Ok(Code::Success)
}
