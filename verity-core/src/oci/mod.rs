//! Images, as the Open Container Initiative describes them: layouts and archives with an index, manifests, a configuration and layers.

pub mod annotations;
pub mod store;
