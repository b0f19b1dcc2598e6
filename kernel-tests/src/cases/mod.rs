//! The cases, one file a theme.

mod algorithms;
mod attributes;
mod baseline;
mod closing;
mod commands;
mod conformance;
mod corruption;
mod demo;
mod erofs;
mod fec;
mod foreign;
mod image;
mod images;
mod interop;
mod lacking;
mod layers;
mod limits;
mod listing;
mod loops;
mod mount_races;
mod mounts;
mod naming;
mod options;
mod power;
mod queries;
mod races;
mod reading;
mod refusals;
mod rollback;
mod signatures;
mod tools;
mod udev;
mod unmounts;
mod veritytab;

#[cfg(feature = "host")]
pub(crate) use demo::case as demo;
#[cfg(feature = "host")]
pub(crate) use power::cases as power;

use crate::case::Case;

/// Every case there is.
pub(crate) fn all() -> Vec<Case> {
    [
        baseline::cases(),
        loops::cases(),
        options::cases(),
        corruption::cases(),
        rollback::cases(),
        algorithms::cases(),
        limits::cases(),
        queries::cases(),
        udev::cases(),
        commands::cases(),
        interop::cases(),
        conformance::cases(),
        erofs::cases(),
        fec::cases(),
        refusals::cases(),
        naming::cases(),
        closing::cases(),
        races::cases(),
        reading::cases(),
        lacking::cases(),
        mounts::cases(),
        foreign::cases(),
        images::cases(),
        unmounts::cases(),
        attributes::cases(),
        mount_races::cases(),
        signatures::cases(),
        veritytab::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The case of this name, the demo and the halves of a cut of the power among them.
pub(crate) fn find(name: &str) -> Option<Case> {
    all().into_iter().chain([demo::case()]).chain(power::cases()).find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_have_a_theme() {
        let cases = super::all();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for name in names {
            assert_eq!(name.split('/').count(), 2, "{name}");
        }
    }
}
