//! The scripts of `verity-cli/tests/conformance/kernel`, each under the C tool and under the command line as the C tool:
//! what is printed, returned, written and left has to be the same, but for what `docs/veritysetup.md` lists.

#[path = "../../../verity-cli/tests/conformance/compare.rs"]
mod compare;
#[path = "../../../verity-cli/tests/conformance/script.rs"]
mod script;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::case::{Body, Case};
use crate::guest::{Context, KernelObjects, Program, install_tools};

use compare::{Seen, compare, files, table};
use script::Script;

/// The C tool's release that the list of differences was made with.
const COMPARED_WITH: &str = "2.6.1";

/// Both programs, by the folder in which each is `veritysetup`.
const PROGRAMS: [(&str, &str); 2] = [("theirs", "/bin/veritysetup"), ("ours", "/bin/verity")];

const NOBODY: u32 = 65534;

macro_rules! scripts {
    ($($name:literal: $claim:literal,)*) => {
        pub(super) fn cases() -> Vec<Case> {
            let cases: Vec<(&str, &str, Body)> = vec![$((
                concat!("conformance/", $name),
                $claim,
                |context| {
                    let text = include_str!(concat!("../../../verity-cli/tests/conformance/kernel/", $name, ".sh"));
                    run(context, &Script::parse($name, text))
                },
            )),*];
            cases.into_iter().map(|(name, claim, body)| Case::new(name, claim, body).limit(300)).collect()
        }
    };
}

scripts! {
    "opening": "scripts that open devices see no difference",
    "tables": "scripts that open trees of every kind see no difference",
    "closing": "scripts that close devices see no difference",
    "status": "scripts that look at devices see no difference",
    "sharing": "scripts that open many devices see no difference",
    "foreign": "scripts that meet devices of another kind see no difference",
    "nobody": "scripts that are not root's see no difference",
}

/// Runs all cases of a script under both programs; fails where a difference is not listed.
fn run(context: &mut Context, script: &Script) -> anyhow::Result<()> {
    install_tools()?;
    for (folder, program) in PROGRAMS {
        let folder = context.path(folder);
        fs::create_dir(&folder).context("a folder for a program")?;
        symlink(program, folder.join("veritysetup")).context("linking veritysetup")?;
    }
    let version = Program::new("/bin/veritysetup").arg("--version").succeed()?;
    let strict = version.stdout.split_whitespace().nth(1) == Some(COMPARED_WITH);
    let mut rows = Vec::new();
    for case in &script.cases {
        let title = script.title(case);
        let [theirs, ours] = PROGRAMS.map(|(folder, _)| {
            run_one(context, folder, script.name == "nobody", &script.text(case))
                .with_context(|| format!("{title}, {folder}"))
        });
        rows.push((title, compare(case, &theirs?, &ours?, strict)));
    }
    for line in table(&rows).lines() {
        context.say(line)?;
    }
    let unexpected: Vec<_> = rows
        .iter()
        .filter_map(|(title, row)| Some(format!("{title}\n{}", row.unexpected.as_ref()?)))
        .collect();
    ensure!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    Ok(())
}

/// Runs a script in a folder that has the same path for both programs.
fn run_one(context: &Context, program: &str, as_nobody: bool, text: &str) -> anyhow::Result<Seen> {
    let before = KernelObjects::now()?;
    let work = context.path("work");
    fs::create_dir(&work).context("the script's folder")?;
    let path = format!("{}:/bin:/sbin:/usr/bin:/usr/sbin", context.path(program).display());
    let mut shell = Program::new("/bin/sh")
        .args(["-c", text])
        .folder(&work)
        .variable("PATH", &path)
        .variable("LC_ALL", "C");
    if as_nobody {
        chown(&work, Some(NOBODY), Some(NOBODY)).context("the script's folder")?;
        shell = shell.user(NOBODY);
    }
    let output = shell.run()?;
    // An applet that does not know what the script asks of it would fail alike under both programs.
    ensure!(!output.stderr.contains("BusyBox v"), "the script means another tool: {output}");
    let seen = Seen { code: output.code, files: files(&work)?, stdout: output.stdout, stderr: output.stderr };
    let left = before.leaks();
    ensure!(left.is_empty(), "the script left {}: {seen:?}", left.join(", "));
    remove(&work)?;
    Ok(seen)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}
