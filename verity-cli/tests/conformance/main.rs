//! The same scripts under the real veritysetup and under `verity` called as `veritysetup`: what is printed, returned and
//! written has to be the same, but for what `docs/veritysetup.md` lists with a reason.
//!
//! These are the scripts that need no privilege; those for devices run in the kernel tests, `conformance/*`.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod document;
mod script;
mod self_test;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use compare::{Comparison, Seen, compare, files, table};
use script::{Case, Script};

tests! {
    scripts_are_read_as_they_are_meant: [];
    differences_are_seen: [];
    every_difference_is_documented: [];
    needs_veritysetup_scripts_see_no_difference: [Veritysetup];
}

/// The release that the list of differences was made with. With another one, a difference may be missing.
const COMPARED_WITH: &str = "2.6.1";

/// A user who may nothing, if the tests run as root.
const NOBODY: u32 = 65534;

fn host_scripts() -> Vec<Script> {
    [
        ("actions", include_str!("host/actions.sh")),
        ("options", include_str!("host/options.sh")),
        ("numbers", include_str!("host/numbers.sh")),
        ("format", include_str!("host/format.sh")),
        ("verify", include_str!("host/verify.sh")),
        ("superblocks", include_str!("host/superblocks.sh")),
        ("scraping", include_str!("host/scraping.sh")),
        ("files", include_str!("host/files.sh")),
        ("fec", include_str!("host/fec.sh")),
    ]
    .map(|(name, text)| Script::parse(name, text))
    .into()
}

fn kernel_scripts() -> Vec<Script> {
    [
        ("opening", include_str!("kernel/opening.sh")),
        ("tables", include_str!("kernel/tables.sh")),
        ("closing", include_str!("kernel/closing.sh")),
        ("status", include_str!("kernel/status.sh")),
        ("sharing", include_str!("kernel/sharing.sh")),
        ("foreign", include_str!("kernel/foreign.sh")),
        ("nobody", include_str!("kernel/nobody.sh")),
    ]
    .map(|(name, text)| Script::parse(name, text))
    .into()
}

fn scripts_are_read_as_they_are_meant() {
    self_test::check_parser();
}

fn differences_are_seen() {
    self_test::check_compare();
}

fn every_difference_is_documented() {
    let scripts: Vec<_> = host_scripts().into_iter().chain(kernel_scripts()).collect();
    document::check(&scripts);
}

/// A folder in which both programs run the scripts, and the folders in which each is `veritysetup`.
struct Stage {
    folder: tempfile::TempDir,
    /// Whether the scripts must be kept from root's powers.
    as_nobody: bool,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nobody has to get in, and to the program, which may lie where nobody may look.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stage = Self { folder, as_nobody: nix::unistd::geteuid().is_root() };
        let programs = [
            ("theirs", common::requirements::veritysetup().unwrap()),
            ("ours", env!("CARGO_BIN_EXE_verity").into()),
        ];
        for (name, program) in programs {
            fs::create_dir(stage.path(name)).unwrap();
            fs::copy(program, stage.path(name).join("veritysetup")).unwrap();
        }
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a case under both programs, in folders that have the same name while it runs.
    fn run(&self, number: usize, script: &Script, case: &Case, strict: bool) -> Comparison {
        let place = self.path(&format!("place{number}"));
        let text = script.text(case);
        let [theirs, ours] = ["theirs", "ours"].map(|program| {
            let work = place.join("work");
            fs::create_dir_all(&work).unwrap();
            let seen = self.run_one(&self.path(program), &work, &text);
            fs::rename(&work, place.join(program)).unwrap();
            seen
        });
        let comparison = compare(case, &theirs, &ours, strict);
        fs::remove_dir_all(place).unwrap();
        comparison
    }

    fn run_one(&self, program: &Path, work: &Path, text: &str) -> Seen {
        let mut command = Command::new("timeout");
        let system = std::env::var("PATH").unwrap_or_default();
        command
            .args(["60", "sh", "-c", text])
            .current_dir(work)
            .env_clear()
            .env("PATH", format!("{}:{system}", program.display()))
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        if self.as_nobody {
            std::os::unix::fs::chown(work, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Seen {
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            code: output.status.code(),
            files: files(work).unwrap(),
        }
    }
}

fn needs_veritysetup_scripts_see_no_difference() {
    let version = common::requirements::veritysetup_version();
    let strict = version == COMPARED_WITH;
    let stage = Stage::new();
    let scripts = host_scripts();
    let cases: Vec<_> =
        scripts.iter().flat_map(|script| script.cases.iter().map(move |case| (script, case))).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        std::iter::from_fn(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (script, case) = cases.get(number)?;
            Some((number, (script.title(case), stage.run(number, script, case, strict))))
        })
        .collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut rows: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    rows.sort_by_key(|(number, _)| *number);
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();

    println!("\nveritysetup {version} and verity called as veritysetup\n\n{}", table(&rows));
    let unexpected: Vec<_> = rows
        .iter()
        .filter_map(|(title, row)| Some(format!("{title}\n{}", row.unexpected.as_ref()?)))
        .collect();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}
