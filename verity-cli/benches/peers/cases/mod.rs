//! What is measured, in the order of the table.

mod cold;
mod hashing;
mod layers;
mod limits;
mod memory;
mod parity;
mod trees;
mod update;

pub(crate) use memory::helper;

use crate::arguments::Arguments;
use crate::goals::{Figure, Goal, Unit};
use crate::machine::Machine;
use crate::pairs::Repetition;
use crate::report::Measured;
use crate::statistics::{Pairs, Spread};
use crate::stop::{Interrupts, Result, Stop};
use crate::units::{self, GIB, MIB, TIB};
use crate::workspace::Workspace;

/// How large everything is.
pub(crate) struct Sizes {
    /// The file of noise.
    pub(crate) data: u64,
    /// The file of holes for the comparison.
    holes: u64,
    /// Data for peaks of memory, from small to large; the small one is no larger than the noise.
    peaks: [u64; 3],
    /// How long one sample of work in this process takes, in seconds.
    sample: f64,
}

const FULL: Sizes = Sizes { data: 2 * GIB, holes: 8 * GIB, peaks: [GIB, 64 * GIB, TIB], sample: 0.2 };
const QUICK: Sizes =
    Sizes { data: 64 * MIB, holes: 256 * MIB, peaks: [64 * MIB, GIB, 4 * GIB], sample: 0.01 };

/// What every case needs.
pub(crate) struct Bench {
    pub(crate) sizes: Sizes,
    pub(crate) machine: Machine,
    pub(crate) repetition: Repetition,
    /// Where nothing waits for a disk.
    memory: Workspace,
    /// Where reading can be made to wait for a disk.
    disk: Workspace,
}

impl Bench {
    pub(crate) fn new(arguments: &Arguments, machine: Machine) -> Result<Self> {
        let (sizes, pairs) = if arguments.quick { (QUICK, 3) } else { (FULL, 11) };
        let interrupts = Interrupts::watch()?;
        Ok(Self {
            memory: Workspace::new(arguments.memory_dir.clone(), sizes.data),
            disk: Workspace::new(arguments.dir.clone(), sizes.data),
            sizes,
            machine,
            repetition: Repetition { pairs: arguments.pairs.map_or(pairs, usize::from), interrupts },
        })
    }
}

type Work = Box<dyn Fn(&Bench) -> Result<Measured>>;

/// One line of the table.
pub(crate) struct Case {
    /// What it is called on the command line.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) goal: Option<Goal>,
    pub(crate) work: Work,
}

impl Case {
    fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        goal: impl Into<Option<Goal>>,
        work: impl Fn(&Bench) -> Result<Measured> + 'static,
    ) -> Self {
        Self { name: name.into(), title: title.into(), goal: goal.into(), work: Box::new(work) }
    }
}

/// All that this machine's processor can run.
pub(crate) fn all(bench: &Bench) -> Vec<Case> {
    let mut cases = trees::cases(bench);
    cases.extend(cold::cases(bench));
    cases.extend(update::cases(bench));
    cases.extend(parity::cases(bench));
    cases.extend(layers::cases(bench));
    cases.extend(hashing::cases());
    cases.extend(limits::cases(bench));
    cases.extend(memory::cases(bench));
    cases
}

/// Which side's time is divided by the other's.
#[derive(Clone, Copy)]
enum Ratio {
    /// How many times as fast we are.
    SpeedUp,
    /// How many times as long we take.
    Cost,
}

/// A comparison of times, as the table has it. Each side's median is put into words by `text`.
fn compared(pairs: &Pairs, ratio: Ratio, peer: &str, text: impl Fn(f64) -> String) -> Result<Measured> {
    let (unit, spread) = match ratio {
        Ratio::SpeedUp => (Unit::Times, pairs.speed_up()),
        Ratio::Cost => (Unit::TimesAsLong, pairs.cost()),
    };
    let [our_cpu, peer_cpu] = pairs.cpu().map(|cpu| match cpu {
        Some(cpu) => format!(" (CPU {})", units::seconds(cpu.median)),
        None => String::new(),
    });
    let median = |side: Option<Spread>| side.map(|side| text(side.median)).ok_or_else(no_pairs);
    Ok(Measured {
        ours: format!("{}{our_cpu}", median(pairs.ours())?),
        peer: format!("{peer} {}{peer_cpu}", median(pairs.peer())?),
        figure: Figure { unit, spread: spread.ok_or_else(no_pairs)? },
    })
}

fn no_pairs() -> Stop {
    Stop::failed("not one pair was measured")
}
