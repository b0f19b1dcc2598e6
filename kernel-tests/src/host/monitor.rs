//! QEMU's monitor: what it reports of a machine, and how the state of one becomes another's.
//!
//! One JSON object a line (QMP). Replies to commands carry no news but errors, so nobody waits for them; what counts
//! are the events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

/// What QEMU reports.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The machine runs.
    Running,
    /// The machine's state is saved; the machine stands still.
    Saved,
    /// The machine has stopped for good, and why.
    Stopped(String),
    /// Something that was asked for did not work.
    Refused(String),
}

/// The harness's end of the monitor.
pub(super) struct Monitor(UnixStream);

impl Monitor {
    /// Opens the conversation.
    pub(super) fn new(stream: UnixStream) -> anyhow::Result<Self> {
        let monitor = Self(stream);
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// The reports, until QEMU is gone.
    pub(super) fn reports(&self) -> anyhow::Result<impl Iterator<Item = Report> + use<>> {
        let stream = self.0.try_clone().context("QEMU's monitor")?;
        Ok(BufReader::new(stream).lines().map_while(Result::ok).filter_map(|line| report(&line)))
    }

    /// Has the machine's state written to a file; [`Report::Saved`] follows.
    pub(super) fn save(&self, to: &Path) -> anyhow::Result<()> {
        let events = json!({"capabilities": [{"capability": "events", "state": true}]});
        self.ask("migrate-set-capabilities", &events)?;
        // It is slowed down for the sake of networks if nothing else is said.
        self.ask("migrate-set-parameters", &json!({"max-bandwidth": u32::MAX}))?;
        self.ask("migrate", &json!({"uri": uri(to)?}))
    }

    /// Has a machine that waits for a state read one; [`Report::Running`] follows.
    pub(super) fn restore(&self, from: &Path) -> anyhow::Result<()> {
        self.ask("migrate-incoming", &json!({"uri": uri(from)?}))
    }

    fn ask(&self, command: &str, arguments: &Value) -> anyhow::Result<()> {
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        (&self.0).write_all(line.as_bytes()).context("QEMU's monitor")
    }
}

fn uri(path: &Path) -> anyhow::Result<String> {
    Ok(format!("file:{}", path.to_str().with_context(|| format!("{path:?} is not UTF-8"))?))
}

fn report(line: &str) -> Option<Report> {
    let message: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    if let Some(error) = message.get("error") {
        return Some(Report::Refused(text(&error["desc"])));
    }
    let data = &message["data"];
    match message["event"].as_str()? {
        "RESUME" => Some(Report::Running),
        "SHUTDOWN" => Some(Report::Stopped(text(&data["reason"]))),
        "MIGRATION" if data["status"] == "completed" => Some(Report::Saved),
        "MIGRATION" if data["status"] == "failed" => Some(Report::Refused("the migration failed".to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_that_count_are_told_from_the_rest() {
        let event = |name: &str, data: Value| {
            report(
                &json!({"timestamp": {"seconds": 1, "microseconds": 2}, "event": name, "data": data})
                    .to_string(),
            )
        };
        let stopped = |reason: &str| Some(Report::Stopped(reason.to_owned()));
        assert_eq!(
            event("SHUTDOWN", json!({"guest": true, "reason": "guest-reset"})),
            stopped("guest-reset")
        );
        assert_eq!(event("RESUME", json!({})), Some(Report::Running));
        assert_eq!(event("MIGRATION", json!({"status": "active"})), None);
        assert_eq!(event("MIGRATION", json!({"status": "completed"})), Some(Report::Saved));
        assert!(matches!(event("MIGRATION", json!({"status": "failed"})), Some(Report::Refused(_))));
        assert_eq!(event("RESET", json!({})), None);
        assert_eq!(report("garbage"), None);
        assert_eq!(report(r#"{"return": {}}"#), None);
        let refused = report(r#"{"error": {"class": "GenericError", "desc": "no such file"}}"#);
        assert_eq!(refused, Some(Report::Refused("no such file".to_owned())));
    }
}
