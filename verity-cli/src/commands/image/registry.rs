//! How registries are spoken to: what the options and the environment say, and what is said when one gives nothing.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, Args};
use verity_core::oci::registry::{AuthFiles, Error, Helpers, Options, Origin, Proxies, Registry, Tls};
use verity_core::oci::{ImageName, RegistryName};
use verity_core::tree;

use crate::commands::engine;
use crate::failure::{Code, Failure};
use crate::interrupt;

/// How registries are spoken to; in skopeo's words.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub(super) struct RegistryOptions {
    /// The file with credentials [default: REGISTRY_AUTH_FILE, or else podman's, skopeo's and Docker's own]
    #[arg(long, alias = "src-authfile", value_name = "PATH")]
    authfile: Option<PathBuf>,

    /// Show the registry no credentials
    #[arg(long, alias = "src-no-creds", conflicts_with = "authfile")]
    no_creds: bool,

    /// A folder with authorities to trust (*.crt), and the client's own certificate (*.cert, *.key)
    #[arg(long, alias = "src-cert-dir", value_name = "DIR")]
    cert_dir: Option<PathBuf>,

    /// Whether the registry needs a certificate that is trusted; with false it may have none, or no TLS [default: true, but loopback addresses need no TLS]
    #[arg(
        long, alias = "src-tls-verify", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = ArgAction::Set
    )]
    tls_verify: Option<bool>,
}

impl RegistryOptions {
    /// Gets ready to read an image.
    pub(super) fn open(&self, name: &RegistryName) -> Result<Registry, Failure> {
        Registry::open(name, self.options()).map_err(|error| failure(&error))
    }

    /// Refuses options that would do nothing, as none of the images is in a registry: who gives them means another image.
    pub(super) fn refuse_unused<'i>(
        &self,
        mut images: impl Iterator<Item = &'i ImageName>,
    ) -> Result<(), Failure> {
        let given = [
            ("--authfile", self.authfile.is_some()),
            ("--no-creds", self.no_creds),
            ("--cert-dir", self.cert_dir.is_some()),
            ("--tls-verify", self.tls_verify.is_some()),
        ];
        let Some((option, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
        if images.any(|image| matches!(image, ImageName::Registry(_))) {
            return Ok(());
        }
        Err(Failure::argument(format_args!("{option} is for registries, and no image is in one"))
            .hint("name the image docker://[HOST/]NAME, or leave the option out"))
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        options.auth_files = self.auth_files();
        options.helpers = Helpers::Run;
        options.tls = match self.tls_verify {
            None => Tls::Usual,
            Some(true) => Tls::Required,
            Some(false) => Tls::Any,
        };
        options.certificates.clone_from(&self.cert_dir);
        options.proxies = proxies();
        options.cancelled = Some(Arc::new(|| interrupt::received().is_some()));
        options
    }

    fn auth_files(&self) -> AuthFiles {
        if self.no_creds {
            return AuthFiles::Nothing;
        }
        match self.authfile.clone().or_else(|| path("REGISTRY_AUTH_FILE")) {
            Some(path) => AuthFiles::Given(path),
            None => AuthFiles::Usual(usual_auth_files()),
        }
    }
}

/// A variable of the environment that says something.
fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where containers-auth.json(5) has them, in that order.
fn usual_auth_files() -> Vec<PathBuf> {
    let user = nix::unistd::geteuid();
    let run = path("XDG_RUNTIME_DIR")
        .map_or_else(|| PathBuf::from(format!("/run/containers/{user}")), |folder| folder.join("containers"));
    let home = path("HOME");
    let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let config = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = path("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let files = [
        Some(run.join("auth.json")),
        config.map(|folder| folder.join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ];
    files.into_iter().flatten().collect()
}

fn proxies() -> Proxies {
    let text = |names: [&str; 2]| {
        names.into_iter().find_map(|name| env::var(name).ok().filter(|text| !text.is_empty()))
    };
    Proxies {
        http: text(["HTTP_PROXY", "http_proxy"]),
        https: text(["HTTPS_PROXY", "https_proxy"]),
        direct: text(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
    }
}

/// The failure that is inside of an error of reading, if a registry's is.
pub(crate) fn reading_failure(error: &io::Error) -> Option<Failure> {
    error.get_ref()?.downcast_ref().map(failure)
}

/// What went wrong, with what to do.
pub(super) fn failure(error: &Error) -> Failure {
    let failure = Failure::new(Code::General, error);
    match error {
        Error::UnknownHost { .. } => {
            failure.code(Code::NoDevice).hint("check the registry's name, and this machine's DNS")
        }
        Error::Refused { .. } => failure
            .code(Code::NoDevice)
            .hint("check the host and the port; a registry on another port is HOST:PORT/NAME"),
        Error::Tls { certificate: true, .. } => failure
            .code(Code::Refused)
            .hint("give the registry's authority with --cert-dir; --tls-verify=false trusts anybody"),
        Error::Tls { .. } => failure.hint("if it is a registry without TLS, give --tls-verify=false"),
        Error::Denied { origin: Origin::Nowhere, .. } => failure
            .code(Code::Refused)
            .hint("log in ('skopeo login', 'podman login') or give --authfile; a name that does not exist may be denied, too"),
        Error::Denied { .. } => failure
            .code(Code::Refused)
            .hint("check the name, and whether this user may see it; log in anew if the password has changed"),
        Error::Token { .. } => failure.code(Code::Refused).hint("log in anew, or try --no-creds"),
        Error::NotFound { .. } => {
            failure.code(Code::NoDevice).hint("check the name; 'skopeo list-tags' shows the tags that there are")
        }
        Error::RateLimited { .. } => {
            failure.code(Code::Busy).hint("wait, or log in: registries allow more to those whom they know")
        }
        Error::Digest { .. } => {
            failure.code(Code::Refused).hint("do not use this image; what came was damaged or replaced on its way")
        }
        Error::MediaType { .. } => failure.hint(
            "is it an image? those in Docker's format 1 have to be copied first, with 'skopeo copy --format oci'",
        ),
        Error::Length { .. } | Error::Range { .. } => {
            failure.hint("the registry, or what stands before it, is broken; try again, or another one")
        }
        Error::Connection { .. } | Error::TimedOut { .. } | Error::Slow { .. } | Error::GivenUp { .. } => {
            failure.hint("check the network, and try again")
        }
        Error::Status { status, .. } if *status >= 500 => failure.hint("the registry is in trouble; try again later"),
        Error::AuthFileRead { source, .. } => {
            failure.code(Code::of(source)).hint("check the path and its permissions; --no-creds uses none")
        }
        Error::AuthFile { .. } => failure.hint("mend it, or log in anew; --no-creds uses none"),
        Error::Helper { .. } => {
            failure.hint("install the helper, or log in with 'skopeo login', which needs none; --no-creds uses none")
        }
        Error::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        _ => failure,
    }
}
