//! One virtual machine: started, talked to, watched to its end.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::case::Ending;
use crate::protocol::{self, FromGuest, ToGuest};

use super::accel::Accelerator;
use super::firmware::Firmware;
use super::monitor::{Monitor, Report};

/// The program.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Older ones emulate a processor on which Linux 6.12 panics with double faults.
const OLDEST: u32 = 10;

/// A QEMU process connects to its sockets at once or never.
const CONNECT: Duration = Duration::from_secs(60);

/// Fails unless QEMU is there and recent enough.
pub(super) fn check() -> anyhow::Result<()> {
    let advice = "install QEMU 10 or newer (Debian 12 has it in bookworm-backports: qemu-system-x86)";
    let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {QEMU}: {advice}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    let major =
        major_version(first).with_context(|| format!("{QEMU} does not tell its version: {first:?}"))?;
    ensure!(major >= OLDEST, "{first} emulates recent kernels so badly that they crash: {advice}");
    Ok(())
}

fn major_version(line: &str) -> Option<u32> {
    line.strip_prefix("QEMU emulator version ")?.split('.').next()?.parse().ok()
}

/// A disk of the machine.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// The image, raw.
    pub(super) image: PathBuf,
    /// Whether the guest is kept from writing.
    pub(super) read_only: bool,
}

/// What a machine is made of.
pub(super) struct Plan<'a> {
    /// The bzImage.
    pub(super) kernel: &'a Path,
    /// The initramfs.
    pub(super) initramfs: &'a Path,
    /// Added to the kernel command line.
    pub(super) arguments: Vec<String>,
    /// In order: `/dev/vda`, `/dev/vdb`, ...
    pub(super) disks: Vec<Disk>,
    /// How its processor is run.
    pub(super) accelerator: Accelerator,
    /// What it starts through, if not a BIOS. Its variables are this machine's own.
    pub(super) firmware: Option<Firmware>,
    /// The state of a like machine, to go on from it instead of booting.
    pub(super) state: Option<&'a Path>,
}

impl Plan<'_> {
    /// QEMU with all arguments but those that say where its serial ports lead.
    ///
    /// `setpriv` is util-linux's, and has the kernel kill the machine when the harness dies by whatever signal.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        match &self.firmware {
            None => command.args(["-machine", "q35"]),
            Some(Firmware { code, variables }) => command
                .args([
                    "-blockdev",
                    &flash("code", code, true),
                    "-blockdev",
                    &flash("variables", variables, false),
                ])
                .args(["-machine", "q35,pflash0=code,pflash1=variables"]),
        };
        command.args(self.accelerator.arguments());
        command.args(["-smp", "2", "-m", "768"]);
        // An end is an end: a restart stops QEMU, as a panic does, and each says which it was.
        command.args(["-no-reboot", "-device", "pvpanic-pci", "-action", "panic=shutdown"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        // On a busy machine an emulated timer can come too late for the kernel's check at boot, which is a panic.
        let mut line = "console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check".to_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(argument);
        }
        command.arg("-append").arg(line);
        for (index, disk) in self.disks.iter().enumerate() {
            let node = json!({
                "driver": "raw",
                "node-name": format!("disk{index}"),
                "read-only": disk.read_only,
                // The harness changes images under running guests.
                "file": { "driver": "file", "filename": disk.image, "locking": "off" },
            });
            command.arg("-blockdev").arg(node.to_string());
            command.arg("-device").arg(format!("virtio-blk-pci,drive=disk{index}"));
        }
        if self.state.is_some() {
            // Which one, the monitor tells: by then somebody hears when it runs.
            command.args(["-incoming", "defer"]);
        }
        command
    }
}

/// A flash memory, as QEMU is told of it.
fn flash(name: &str, image: &Path, read_only: bool) -> String {
    let file = json!({ "driver": "file", "filename": image });
    json!({ "driver": "raw", "node-name": name, "read-only": read_only, "file": file }).to_string()
}

/// What comes from a machine.
#[derive(Debug)]
pub(super) enum Event {
    /// A message of the guest program.
    Guest(FromGuest),
    /// A line on the guest's port that is no message.
    Garbage(String),
    /// What QEMU reports of it.
    Machine(Report),
    /// The QEMU process is gone.
    Gone,
}

/// A machine that runs. Dropping it kills it.
pub(super) struct Machine {
    child: Child,
    channel: UnixStream,
    monitor: Monitor,
    events: Receiver<Event>,
    console: PathBuf,
    errors: PathBuf,
    images: Vec<PathBuf>,
    reason: Option<String>,
}

impl Machine {
    /// Starts it. Sockets, console log and QEMU's own errors go to `folder`, which must be new.
    pub(super) fn start(plan: &Plan<'_>, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = |name: &str| folder.join(name);
        let (console, errors) = (path("console.log"), path("qemu.log"));
        let listen =
            |name: &str| UnixListener::bind(path(name)).with_context(|| path(name).display().to_string());
        let (channel, monitor) = (listen("channel")?, listen("monitor")?);
        let mut command = plan.command();
        command.arg("-chardev").arg(format!("file,id=console,path={}", console.display()));
        command.arg("-chardev").arg(format!("socket,id=channel,path={}", path("channel").display()));
        command.arg("-chardev").arg(format!("socket,id=monitor,path={}", path("monitor").display()));
        command.args([
            "-serial",
            "chardev:console",
            "-serial",
            "chardev:channel",
            "-mon",
            "chardev=monitor,mode=control",
        ]);
        let log = File::create(&errors).with_context(|| errors.display().to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting setpriv and QEMU")?;

        let connected =
            accept(&channel, &mut child).and_then(|channel| Ok((channel, accept(&monitor, &mut child)?)));
        let (channel, monitor) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                // It may have died by itself, which is what the error says then.
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read_to_string(&errors).unwrap_or_default();
                return Err(error.context(format!("{QEMU} did not start: {}", said.trim())));
            }
        };
        let monitor = Monitor::new(monitor)?;
        let events = listen_to(&channel, &monitor)?;
        let images = plan.disks.iter().map(|disk| disk.image.clone()).collect();
        let machine = Self { child, channel, monitor, events, console, errors, images, reason: None };
        if let Some(state) = plan.state {
            machine.monitor.restore(state)?;
        }
        Ok(machine)
    }

    /// Saves its state to a file. The machine is no more.
    pub(super) fn save(mut self, to: &Path, deadline: Instant) -> anyhow::Result<()> {
        self.monitor.save(to)?;
        self.wait_for(&Report::Saved, deadline)
    }

    /// Waits for a report, while the guest has nothing to say.
    pub(super) fn wait_for(&mut self, report: &Report, deadline: Instant) -> anyhow::Result<()> {
        loop {
            match self.next(deadline) {
                Some(Event::Machine(found)) if found == *report => return Ok(()),
                // That it runs, it reports at its start, too.
                Some(Event::Machine(Report::Running)) => {}
                Some(other) => bail!("unexpected {other:?}"),
                None => bail!("nothing happens"),
            }
        }
    }

    /// The next event; `None` where there was none in time.
    pub(super) fn next(&mut self, deadline: Instant) -> Option<Event> {
        let event = match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Event::Gone,
        };
        if let Event::Machine(Report::Stopped(reason)) = &event {
            self.reason = Some(reason.clone());
        }
        Some(event)
    }

    /// Tells the guest something.
    pub(super) fn send(&self, message: &ToGuest) -> anyhow::Result<()> {
        protocol::send(&self.channel, message).context("the guest's port")
    }

    /// Flips the lowest bit of a byte of a disk, in its image.
    pub(super) fn flip(&self, disk: usize, offset: u64) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let image = self.images.get(disk).with_context(|| format!("the machine has no disk {disk}"))?;
        let flip = || -> io::Result<()> {
            let file = File::options().read(true).write(true).open(image)?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset)?;
            byte[0] ^= 1;
            file.write_all_at(&byte, offset)
        };
        flip().with_context(|| format!("flipping byte {offset} of {}", image.display()))
    }

    /// How the guest ended, once [`Event::Gone`] was seen; an error where QEMU itself failed.
    pub(super) fn ending(&mut self) -> anyhow::Result<Ending> {
        let status = self.child.wait().context("waiting for QEMU")?;
        let console = fs::read(&self.console).unwrap_or_default();
        match ending(self.reason.as_deref(), &String::from_utf8_lossy(&console)) {
            Some(ending) => Ok(ending),
            None => {
                let said = fs::read_to_string(&self.errors).unwrap_or_default();
                bail!("QEMU ended by itself ({status}; {:?}): {}", self.reason, said.trim())
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the ends of a guest apart, from QEMU's reason for stopping and what the kernel said last.
fn ending(reason: Option<&str>, console: &str) -> Option<Ending> {
    match reason? {
        "guest-shutdown" => Some(Ending::PowerOff),
        "guest-panic" => Some(Ending::Panic),
        // A kernel without the pvpanic driver resets the machine after a panic, because of `panic=-1`.
        "guest-reset" if console.contains("Kernel panic - not syncing") => Some(Ending::Panic),
        "guest-reset" => Some(Ending::Restart),
        _ => None,
    }
}

fn accept(listener: &UnixListener, child: &mut Child) -> anyhow::Result<UnixStream> {
    listener.set_nonblocking(true).context("a socket")?;
    let deadline = Instant::now() + CONNECT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("a socket")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("a socket"),
        }
        if let Some(status) = child.try_wait().context("waiting for QEMU")? {
            bail!("it ended at once, {status}");
        }
        ensure!(Instant::now() < deadline, "it did not open its sockets within {} s", CONNECT.as_secs());
        thread::sleep(Duration::from_millis(2));
    }
}

/// One thread reads the guest's messages, one QEMU's; both end with the process.
fn listen_to(channel: &UnixStream, monitor: &Monitor) -> anyhow::Result<Receiver<Event>> {
    let (events, received) = mpsc::channel();
    let mut guest = BufReader::new(channel.try_clone().context("a socket")?);
    let from_guest = events.clone();
    let guest_reader = thread::spawn(move || {
        loop {
            let event = match protocol::receive(&mut guest) {
                Ok(Some(message)) => Event::Guest(message),
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Event::Garbage(error.to_string()),
                Err(_) => return,
            };
            if from_guest.send(event).is_err() {
                return;
            }
        }
    });
    let reports = monitor.reports()?;
    thread::spawn(move || {
        for report in reports {
            // Nobody listens any more: the machine is being dropped.
            if events.send(Event::Machine(report)).is_err() {
                return;
            }
        }
        // What the guest said before the end comes before the end.
        let _ = guest_reader.join();
        let _ = events.send(Event::Gone);
    });
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            major_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)"),
            Some(10)
        );
        assert_eq!(major_version("QEMU emulator version 7.2.19"), Some(7));
        assert_eq!(major_version("something else"), None);
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(ending(Some("guest-shutdown"), ""), Some(Ending::PowerOff));
        assert_eq!(ending(Some("guest-reset"), "reboot: Restarting system"), Some(Ending::Restart));
        assert_eq!(ending(Some("guest-reset"), "Kernel panic - not syncing: x"), Some(Ending::Panic));
        assert_eq!(ending(Some("guest-panic"), ""), Some(Ending::Panic));
        assert_eq!(ending(Some("host-signal"), ""), None);
        assert_eq!(ending(None, ""), None);
    }
}
