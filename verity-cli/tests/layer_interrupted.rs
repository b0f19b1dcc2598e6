//! The layer commands, ended by signals: nothing that is half there has a name that anybody looks for, and what a killed run leaves
//! disturbs no later one.

mod common;
#[path = "../../verity-core/tests/common/raw_tar.rs"]
#[allow(dead_code)] // Each test program uses a part of this.
mod raw_tar;

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Run, Sandbox, pattern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raw_tar::RawTar;

/// More than can be hashed with the slowest algorithm before a signal arrives.
const BYTES: usize = 48 << 20;
/// The slowest algorithm.
const SLOW: &str = "--hash whirlpool";

/// With an image, a layer of it, and a layer out of a tar; the root hashes of both layers.
fn sandbox() -> (Sandbox, String, String) {
    let sandbox = Sandbox::new();
    let content = pattern(BYTES);
    sandbox.write("layer.tar", &RawTar::default().file("a", &content).end());
    sandbox.write("image", &content);
    let root = |run: Run| {
        assert_eq!(run.code, Some(0), "{run:?}");
        run.stdout.trim().to_owned()
    };
    let adopted = root(sandbox.verity(&format!("layer adopt --quiet image adopted {SLOW}")));
    let built = root(sandbox.verity(&format!("layer build --quiet layer.tar built {SLOW}")));
    (sandbox, adopted, built)
}

/// Starts a run, and waits until it has a temporary file. Its handlers are set before it makes anything.
fn start(sandbox: &Sandbox, arguments: &str, names: &[String]) -> Child {
    let mut child = sandbox
        .interruptible(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(120);
    while !sandbox.names().iter().any(|name| !names.contains(name)) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it began");
        assert!(Instant::now() < patience, "it has not begun");
        sleep(Duration::from_millis(2));
    }
    child
}

fn end(child: Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.signal), (None, Some(signal as i32)), "{run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
}

#[test]
fn signals_leave_nothing_that_is_half_there() {
    let (sandbox, adopted, built) = sandbox();
    let names = sandbox.names();
    for (command, made) in [
        (format!("layer build layer.tar out {SLOW} --threads 1"), vec!["out"]),
        (format!("layer extract built {built} out"), vec!["out"]),
        (format!("layer extract built {built} out --file a"), vec!["out"]),
        (format!("layer adopt image out {SLOW} --threads 1"), vec!["out"]),
        (
            format!("layer convert adopted out.raw {adopted} --to systemd --hash-offset {BYTES} --threads 1"),
            vec!["out.raw", "out.roothash", "out.verity"],
        ),
    ] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            end(start(&sandbox, &command, &names), signal);
            assert_eq!(sandbox.names(), names, "{command}: {signal}");
        }
        // Nobody cleans up behind that; what is left is named after what it was to be.
        end(start(&sandbox, &command, &names), Signal::SIGKILL);
        let left: Vec<_> = sandbox.names().into_iter().filter(|name| !names.contains(name)).collect();
        assert!(!left.is_empty(), "{command}");
        for name in &left {
            let of = made.iter().find(|made| name.starts_with(&format!(".{made}.verity-")));
            assert!(of.is_some() && name.ends_with(".tmp"), "{command}: {name}");
        }
        // A later run of the same takes its place.
        let run = sandbox.verity(&command.replace("--threads 1", ""));
        assert_eq!(run.code, Some(0), "{command}: {run:?}");
        let made_now: Vec<_> = sandbox.names().into_iter().filter(|name| !names.contains(name)).collect();
        assert_eq!(made_now, made, "{command}");
        for name in made_now {
            std::fs::remove_file(sandbox.path(&name)).unwrap();
        }
    }
}
