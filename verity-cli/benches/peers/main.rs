//! `./x bench`: verity against its peers, in pairs, with every answer checked.
//!
//! What is measured and why is told in `docs/performance.md`, which this program also writes its table into.

mod arguments;
mod cases;
mod chart;
mod child;
mod goals;
mod machine;
mod noise;
mod page;
mod pairs;
mod programs;
mod publish;
mod report;
mod statistics;
mod stop;
mod units;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use cases::{Bench, Case};
use machine::{Machine, Moment};
use programs::Program;
use report::{Outcome, Row};
use stop::{Result, Stop};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = cases::helper(&arguments) {
        return code;
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed(why) | Stop::Skipped(why)) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new(arguments, Machine::look()?)?;
    let cases = selected(cases::all(&bench), &arguments.cases)?;
    if arguments.list {
        for Case { name, title, .. } in &cases {
            println!("{name:<28} {title}");
        }
        return Ok(());
    }
    let about = about(&bench)?;
    for line in &about {
        println!("# {line}");
    }
    if let Some(warning) = bench.machine.warning() {
        eprintln!("bench: warning: {warning}");
    }

    let begin = Moment::now()?;
    let mut rows = Vec::new();
    let outcome = measure(&bench, &cases, arguments.quick, &mut rows);
    if !rows.is_empty() {
        println!("\n{}", report::text(&rows));
    }
    outcome?;
    let others =
        format!("others used {:.1} % of the processors' time meanwhile", begin.others_since()? * 100.0);
    println!("# {others}");
    if arguments.write {
        let command =
            [&["made by `./x bench --write".to_owned()], arguments.cases.as_slice()].concat().join(" ");
        publish::publish(&rows, &[about, vec![others, format!("{command}`")]].concat(), &bench)?;
    }
    if arguments.check_floors { check_floors(&rows) } else { Ok(()) }
}

/// The cases of these names, or where there is none of a name, all whose names begin so.
fn selected(cases: Vec<Case>, wanted: &[String]) -> Result<Vec<Case>> {
    let exact: Vec<bool> = wanted.iter().map(|name| cases.iter().any(|case| case.name == *name)).collect();
    let fits = |case: &Case, (name, exact): (&String, &bool)| {
        if *exact { case.name == *name } else { case.name.starts_with(name) }
    };
    for pattern in wanted.iter().zip(&exact) {
        if !cases.iter().any(|case| fits(case, pattern)) {
            return Err(Stop::failed(format_args!("there is no case {:?} here; see --list", pattern.0)));
        }
    }
    let is_wanted =
        |case: &Case| wanted.is_empty() || wanted.iter().zip(&exact).any(|pattern| fits(case, pattern));
    Ok(cases.into_iter().filter(is_wanted).collect())
}

/// What has to be known about a run to make anything of its figures.
fn about(bench: &Bench) -> Result<Vec<String>> {
    let peer = match Program::veritysetup() {
        Ok(program) => program.version()?,
        Err(_) => "no veritysetup".to_owned(),
    };
    let pairs = bench.repetition.pairs;
    Ok(vec![
        bench.machine.description(),
        bench.machine.load(),
        format!(
            "{} against {peer}, sha2 crate {}; medians of {pairs} pairs",
            Program::verity().version()?,
            locked("sha2")
        ),
    ])
}

/// The version of a crate that this program was built with.
fn locked(name: &str) -> &'static str {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let package = LOCK.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")));
    package
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .unwrap_or("of an unknown version")
}

/// Fills `rows` until all is done or something is wrong.
fn measure(bench: &Bench, cases: &[Case], quick: bool, rows: &mut Vec<Row>) -> Result<()> {
    let right_machine = Machine::has_avx512_and_sha_ni() && !quick;
    for Case { name, title, goal, work } in cases {
        eprint!("{name:<28} ");
        let outcome = match work(bench) {
            Ok(measured) => Outcome::Measured(measured),
            Err(Stop::Skipped(why)) => Outcome::Skipped(why),
            Err(Stop::Failed(why)) => {
                eprintln!("FAILED");
                return Err(Stop::failed(format_args!("{name}: {why}")));
            }
        };
        bench.repetition.interrupts.check()?;
        match &outcome {
            Outcome::Measured(measured) => eprintln!("{}", measured.figure.text()),
            Outcome::Skipped(why) => eprintln!("skipped: {why}"),
        }
        let enough_cores = |goal: &goals::Goal| !goal.four_cores || bench.machine.cores >= 4;
        let applies = right_machine && goal.as_ref().is_some_and(enough_cores);
        rows.push(Row { title: title.clone(), goal: *goal, applies, outcome });
    }
    Ok(())
}

/// A floor that was not measured counts as one that is not met.
fn check_floors(rows: &[Row]) -> Result<()> {
    let missed: Vec<_> = rows
        .iter()
        .filter(|row| row.applies && row.met() != Some(true))
        .map(|row| row.title.as_str())
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Stop::failed(format_args!("floors that are not met: {}", missed.join("; "))))
}
