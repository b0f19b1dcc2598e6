//! Which credentials an image's registry is shown.

use std::io;

use super::error::{Error, Origin};
use super::{AuthFiles, Helpers, Options, helper, read_bounded};
use crate::oci::RegistryName;
use crate::oci::auth::{AuthFile, AuthFileError, Credentials, Found};

/// Credentials, and where they are from.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) credentials: Option<Credentials>,
    pub(super) origin: Origin,
}

/// Looks for them.
pub(super) fn find(name: &RegistryName, options: &Options) -> Result<Known, Error> {
    let (paths, required) = match &options.auth_files {
        AuthFiles::Nothing => return Ok(Known::default()),
        AuthFiles::Given(path) => (std::slice::from_ref(path), true),
        AuthFiles::Usual(paths) => (paths.as_slice(), false),
    };
    for path in paths {
        let bytes = match read_bounded(path, AuthFile::MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => continue,
            Err(source) => return Err(Error::AuthFileRead { path: path.clone(), source }),
            Ok(bytes) => bytes,
        };
        let found = bytes
            .ok_or(AuthFileError::TooLarge)
            .and_then(|bytes| AuthFile::parse(&bytes)?.find(&name.host, &name.repository))
            .map_err(|source| Error::AuthFile { path: path.clone(), source })?;
        let path = path.clone();
        let (name, server, needed) = match found {
            None => continue,
            Some(Found::Credentials { key, credentials }) => {
                let origin = Origin::File { path, key };
                return Ok(Known { credentials: Some(credentials), origin });
            }
            Some(Found::Helper { name, server, required }) => (name, server, required),
        };
        if options.helpers == Helpers::Refused {
            let problem = "credential helpers are not run here".to_owned();
            return Err(Error::Helper { path, name, problem });
        }
        match helper::ask(&name, &server, &|| options.cancelled()) {
            Ok(credentials) => {
                let origin = Origin::Helper { path, name };
                return Ok(Known { credentials: Some(credentials), origin });
            }
            // It was asked since it might have some.
            Err(helper::Problem::Unknown) if !needed => {}
            Err(helper::Problem::Unknown) => {
                let problem = format!("it has no credentials for {server:?}");
                return Err(Error::Helper { path, name, problem });
            }
            Err(helper::Problem::Failed(problem)) => return Err(Error::Helper { path, name, problem }),
            Err(helper::Problem::Cancelled) => return Err(Error::Cancelled),
        }
    }
    Ok(Known::default())
}
