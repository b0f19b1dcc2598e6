//! What a handful of measurements say: a median, and how far they lie apart.

/// The middle of some measurements with their extremes. All of them count: no outlier is dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` if there are no samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let (&least, &most) = (samples.first()?, samples.last()?);
        let middle = samples.len() / 2;
        let median = if samples.len() % 2 == 1 {
            samples[middle]
        } else {
            f64::midpoint(samples[middle - 1], samples[middle])
        };
        Some(Self { least, median, most })
    }
}

/// One measured piece of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// Seconds of processor time over all cores, where a process of its own did the work.
    pub(crate) cpu: Option<f64>,
}

/// The same work by us and by the peer, one after the other, several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs(Vec<(Sample, Sample)>);

impl Pairs {
    pub(crate) fn push(&mut self, ours: Sample, peer: Sample) {
        self.0.push((ours, peer));
    }

    pub(crate) fn ours(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(ours, _)| ours.wall))
    }

    pub(crate) fn peer(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(_, peer)| peer.wall))
    }

    /// Processor time, where every sample has it: ours, and the peer's.
    pub(crate) fn cpu(&self) -> [Option<Spread>; 2] {
        let of = |side: fn(&(Sample, Sample)) -> Option<f64>| {
            self.0.iter().map(side).collect::<Option<Vec<f64>>>().and_then(Spread::of)
        };
        [of(|(ours, _)| ours.cpu), of(|(_, peer)| peer.cpu)]
    }

    /// How many processors we used on average, where every sample of ours has its processor time.
    pub(crate) fn processors(&self) -> Option<Spread> {
        let of = |(ours, _): &(Sample, Sample)| ours.cpu.map(|cpu| cpu / ours.wall);
        self.0.iter().map(of).collect::<Option<Vec<f64>>>().and_then(Spread::of)
    }

    /// How many times as long as we the peer takes. A ratio is taken within each pair: what disturbs the machine for
    /// a while disturbs both sides of a pair alike.
    pub(crate) fn speed_up(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(ours, peer)| peer.wall / ours.wall))
    }

    /// How many times as long as the peer we take.
    pub(crate) fn cost(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(ours, peer)| ours.wall / peer.wall))
    }
}
