//! What all commands share: how much to say, in which form, and how to work.

use serde_json::Value;
use verity_core::tree::{Options, Threads};

use crate::failure::{Code, Failure};
use crate::output::images_progress::LayersProgress;
use crate::output::{self, progress::Progress};
use crate::personality::Personality;

/// One run of a command.
pub(crate) struct Session {
    pub(crate) personality: Personality,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) debug: bool,
    pub(crate) json: bool,
    /// Standard output is for data, and nothing else may be printed there.
    pub(crate) data_on_stdout: bool,
}

impl Session {
    pub(crate) fn is_veritysetup(&self) -> bool {
        self.personality.is_veritysetup()
    }

    /// Prints a result in the form that was asked for.
    pub(crate) fn print(
        &self,
        human: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        let text = if self.json { output::json::document(&json()) } else { human() };
        output::write_result(&text)
    }

    /// The same, where there are colours in the text.
    pub(crate) fn print_styled(
        &self,
        human: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        if self.json { self.print(String::new, json) } else { output::write_styled(&human()) }
    }

    /// Prints a remark that is neither result nor error.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.is_veritysetup() {
            output::note(text);
        }
    }

    /// Prints what is being done, for `--debug`.
    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        if self.debug {
            output::debug(&text(), self.is_veritysetup() && !self.json);
        }
    }

    /// Prints how the command ended, for `--verbose`.
    pub(crate) fn epilogue(&self, code: Code) {
        if !self.verbose || self.json {
            return;
        }
        let text = epilogue(code, self.personality);
        if self.data_on_stdout {
            output::plain(&text);
        } else {
            // What ended the command has been told already.
            let _ = output::write_result(&(text + "\n"));
        }
    }

    /// Who draws the progress of work and sees signals.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.draws_progress())
    }

    /// The same for work on several layers at once.
    pub(crate) fn layers_progress(&self) -> LayersProgress {
        LayersProgress::new(self.draws_progress())
    }

    fn draws_progress(&self) -> bool {
        !self.quiet && !self.debug && !self.is_veritysetup()
    }
}

/// The engine's options for this run.
pub(crate) fn engine_options(progress: &Progress, threads: Option<Threads>) -> Options<'_> {
    Options { threads: threads.unwrap_or_default(), observer: progress, ..Options::default() }
}

/// How a command ended, in a line.
pub(crate) fn epilogue(code: Code, personality: Personality) -> String {
    match (code, personality) {
        (Code::Success, _) => "Command successful.".to_owned(),
        (Code::Refused, Personality::Verity) => {
            "Command failed with code -2 (verification failed, or no permission).".to_owned()
        }
        (code, _) => format!("Command failed with code -{} ({}).", code.number(), code.veritysetup_text()),
    }
}
