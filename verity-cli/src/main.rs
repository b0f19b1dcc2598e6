//! The binary `verity`: makes, checks and activates dm-verity hash trees.
//!
//! Called under the name `veritysetup` it is a drop-in for that program; see `docs/veritysetup.md`.

mod cli;
mod commands;
mod failure;
mod files;
mod interrupt;
mod output;
mod personality;
mod session;

use std::process::ExitCode;

use failure::Code;
use personality::Personality;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let personality = Personality::of(arguments.first());
    let code = match cli::parse(&arguments, personality) {
        Ok(cli::Parsed::Command(command)) => command.run(&arguments, personality),
        Ok(cli::Parsed::Text(text)) => output::write_text(&text),
        Ok(cli::Parsed::Usage(text)) => {
            output::plain(text.trim_end());
            Code::Success
        }
        Err(failure) => {
            let code = output::failure(&failure, personality, cli::wants_json(&arguments));
            if failure.while_working && personality.is_veritysetup() && cli::wants_epilogue(&arguments) {
                // What ended the command has been told already.
                let _ = output::write_result(&(session::epilogue(code, personality) + "\n"));
            }
            code
        }
    };
    if code != Code::Success
        && let Some(signal) = interrupt::received()
    {
        // What was begun is cleaned up by now. The parent should see that the signal was what ended this process.
        return interrupt::end_by(signal);
    }
    ExitCode::from(code.number())
}
