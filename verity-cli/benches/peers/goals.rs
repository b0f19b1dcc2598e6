//! What is asked of each case: the least that has to be reached, on a processor with AVX-512 and SHA extensions.

use crate::statistics::Spread;
use crate::units::{mebibytes, three};

/// What a case's figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// How many times as fast.
    Times,
    /// How many times as long.
    TimesAsLong,
    /// A share of what is possible.
    Share,
    /// Memory.
    Bytes,
}

/// What came out of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) unit: Unit,
    pub(crate) spread: Spread,
}

impl Figure {
    /// The one number that is held against a floor: of peaks the highest, else the median.
    pub(crate) fn value(&self) -> f64 {
        match self.unit {
            Unit::Bytes => self.spread.most,
            Unit::Times | Unit::TimesAsLong | Unit::Share => self.spread.median,
        }
    }

    pub(crate) fn text(&self) -> String {
        let Spread { least, median, most } = self.spread;
        match self.unit {
            Unit::Times | Unit::TimesAsLong => {
                format!("{} × ({} to {})", three(median), three(least), three(most))
            }
            Unit::Share => {
                format!("{:.0} % ({:.0} to {:.0})", median * 100.0, least * 100.0, most * 100.0)
            }
            Unit::Bytes => format!("{} MiB", mebibytes(self.value())),
        }
    }
}

/// Which side of the floor is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    AtLeast,
    AtMost,
}

/// A floor, which has to be met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Goal {
    direction: Direction,
    unit: Unit,
    floor: f64,
    /// Whether it was set for four cores, and means nothing on fewer.
    pub(crate) four_cores: bool,
}

impl Goal {
    const fn at_least(floor: f64) -> Self {
        Self { direction: Direction::AtLeast, unit: Unit::Times, floor, four_cores: false }
    }

    const fn at_most(floor: f64) -> Self {
        Self { direction: Direction::AtMost, unit: Unit::TimesAsLong, floor, four_cores: false }
    }

    const fn on_four_cores(self) -> Self {
        Self { four_cores: true, ..self }
    }

    const fn counting(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub(crate) const FORMAT: Self = Self::at_least(10.0).on_four_cores();
    pub(crate) const VERIFY: Self = Self::at_least(10.0).on_four_cores();
    pub(crate) const FORMAT_ONE_CORE: Self = Self::at_least(3.5);
    pub(crate) const FORMAT_WITHOUT_AVX512: Self = Self::at_least(6.0).on_four_cores();
    pub(crate) const FORMAT_ONE_CORE_WITHOUT_AVX512: Self = Self::at_least(2.0);
    pub(crate) const HOLES: Self = Self::at_least(100.0);
    pub(crate) const COLD: Self = Self::at_most(1.2);
    pub(crate) const UPDATE: Self = Self::at_least(20.0);
    pub(crate) const PARITY: Self = Self::at_least(50.0).on_four_cores();
    pub(crate) const PARITY_ONE_CORE: Self = Self::at_least(20.0);
    pub(crate) const PARITY_COST: Self = Self::at_most(1.5);
    pub(crate) const REPAIR: Self = Self::at_most(3.0);
    pub(crate) const LAYER_TAR: Self = Self::at_least(2.5).on_four_cores();
    pub(crate) const LAYER_TAR_GZ: Self = Self::at_least(2.0).on_four_cores();
    pub(crate) const LAYER_DECOMPRESSOR: Self = Self::at_most(1.15).on_four_cores();
    pub(crate) const LAYER_MEMORY: Self = Self::at_most((128_u64 << 20) as f64).counting(Unit::Bytes);
    pub(crate) const LAYER_PARALLEL: Self = Self::at_least(0.9).counting(Unit::Share).on_four_cores();
    pub(crate) const SHA256: Self = Self::at_least(3.3);
    pub(crate) const SHA512: Self = Self::at_least(4.5);
    pub(crate) const OVERHEAD: Self = Self::at_most(1.15);
    pub(crate) const EFFICIENCY: Self = Self::at_least(0.7).counting(Unit::Share).on_four_cores();
    pub(crate) const MEMORY: Self = Self::at_most((16_u64 << 20) as f64).counting(Unit::Bytes);

    pub(crate) fn is_met_by(&self, figure: &Figure) -> bool {
        match self.direction {
            Direction::AtLeast => figure.value() >= self.floor,
            Direction::AtMost => figure.value() <= self.floor,
        }
    }

    /// The floor as a bar's mark in a chart.
    pub(crate) fn floor(&self) -> f64 {
        self.floor
    }

    pub(crate) fn text(&self) -> String {
        let sign = match self.direction {
            Direction::AtLeast => '≥',
            Direction::AtMost => '≤',
        };
        match self.unit {
            Unit::Times | Unit::TimesAsLong => format!("{sign} {} ×", self.floor),
            Unit::Share => format!("{sign} {:.0} %", self.floor * 100.0),
            Unit::Bytes => format!("{sign} {} MiB", mebibytes(self.floor).trim_end_matches(".0")),
        }
    }
}
