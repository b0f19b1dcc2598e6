//! Loads the modules that the harness put into the initramfs, in the order that it found.

use std::ffi::CString;
use std::fs::{self, File};

use anyhow::Context as _;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::init::Request;

/// One module a line: `NAME FILE`, dependencies first.
const ORDER: &str = "/lib/modules/order";

/// Loads all but the unwanted ones, and what depends on those is left out by the harness's order as well as
/// by the kernel: a module whose symbols are missing is not an error here, its user's case will say so.
pub(super) fn load(request: &Request) -> anyhow::Result<()> {
    let order = fs::read_to_string(ORDER).context(ORDER)?;
    for line in order.lines() {
        let (name, file) = line.split_once(' ').with_context(|| format!("{ORDER}: bad line {line:?}"))?;
        if request.without.iter().any(|unwanted| unwanted == name) {
            continue;
        }
        let module = File::open(file).with_context(|| file.to_owned())?;
        let parameters = CString::new(parameters(&request.line, name)).context("module parameters")?;
        match finit_module(&module, &parameters, ModuleInitFlags::empty()) {
            Ok(()) => {}
            // No such device: a driver for hardware that this machine lacks, an optimised digest for another CPU.
            Err(nix::errno::Errno::ENODEV | nix::errno::Errno::EEXIST) => {}
            Err(error) if !request.without.is_empty() => eprintln!("init: module {name}: {error}"),
            Err(error) => return Err(error).with_context(|| format!("loading module {name}")),
        }
    }
    Ok(())
}

/// The parameters of one module on the kernel command line, as finit_module takes them. The kernel itself
/// hands them only to code that is built in.
fn parameters(line: &str, module: &str) -> String {
    let mut found = String::new();
    for word in line.split_ascii_whitespace() {
        let Some((owner, parameter)) = word.split_once('.') else { continue };
        // `-` and `_` are the same to the kernel.
        if owner.replace('-', "_") == module {
            if !found.is_empty() {
                found.push(' ');
            }
            found.push_str(parameter);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn parameters_reach_their_module_alone() {
        let line = "console=ttyS0 dm_verity.require_signatures=1 loop.max_loop=4 dm-verity.keyring_unsealed=1 root=a.b";
        assert_eq!(parameters(line, "dm_verity"), "require_signatures=1 keyring_unsealed=1");
        assert_eq!(parameters(line, "loop"), "max_loop=4");
        assert_eq!(parameters(line, "dm_mod"), "");
    }
}
