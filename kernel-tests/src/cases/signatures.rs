//! Root hashes that the kernel takes only with a signature.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use verity_core::device::{Activation, Error, Kind, Refusal, Step, Steps, activate, activate_with, query};
use verity_core::params::Params;
use verity_core::signature::Signature;

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, KernelObjects, Output, Program};

use super::image::{self, expect_absent, expect_refusal, remove, side_by_side};
use super::tools::{Image, Key, Tool, drop_in, expect_refused, expect_silence, other_digit};

/// The guest's kernel refuses what is not signed.
const REQUIRED: &str = "dm_verity.require_signatures=1";

/// It leaves its own keyring open for whoever boots.
const UNSEALED: &str = "dm_verity.keyring_unsealed=1";

pub(super) fn cases() -> Vec<Case> {
    let uefi = |arguments| OwnBoot { uefi: true, arguments, ..OwnBoot::default() };
    let bios = |arguments| OwnBoot { arguments, ..OwnBoot::default() };
    vec![
        Case::new(
            "signatures/no-key",
            "a signature by a key that the kernel does not have is refused as such",
            no_key,
        ),
        Case::new(
            "signatures/required",
            "where signatures are required an unsigned device is refused, and which setting it is is told",
            required,
        )
        .own_boot(bios(&[REQUIRED])),
        Case::new(
            "signatures/firmware-unused",
            "before 6.12 Debian's kernels do not ask the firmware's keys",
            firmware_unused,
        )
        .before(6, 12)
        .own_boot(uefi(&[REQUIRED])),
        Case::new(
            "signatures/firmware",
            "what the firmware's key signed opens, by either tool; unsigned, for another root hash, by another key or \
             damaged it does not",
            firmware,
        )
        .since(6, 12)
        .own_boot(uefi(&[REQUIRED])),
        Case::new(
            "signatures/dm-verity-keyring",
            "the same with a key in .dm-verity, from the moment when that is restricted",
            dm_verity_keyring,
        )
        .since(7, 0)
        .own_boot(bios(&[REQUIRED, UNSEALED])),
        Case::new(
            "signatures/rollback",
            "whichever step of a signed activation fails or panics, neither device nor key is left, and threads that \
             sign side by side do not disturb each other",
            rollback,
        )
        .since(6, 12)
        .own_boot(uefi(&[REQUIRED])),
    ]
}

/// What opens an image with a signature.
fn open(tool: Tool, image: &Image, signature: &Path) -> Program {
    image.open(tool, "layer").arg("--root-hash-signature").arg(signature)
}

fn no_key(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for key in [Key::Trusted, Key::Stranger] {
        let signature = key.sign(context, &image.root)?;
        expect_refused(open(Tool::Verity, &image, &signature), 2, "in none of its keyrings")?;
        expect_same_refusal(context, &image, &signature, "Required key not available")?;
    }
    // Nobody requires it here.
    expect_silence(image.open(Tool::Verity, "layer"))?;
    expect_silence(Tool::Verity.run("close layer"))
}

fn required(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let refused = expect_refused(image.open(Tool::Verity, "layer"), 2, "requires a signature")?;
    ensure!(refused.stderr.contains("dm_verity.require_signatures"), "the setting is not named by {refused}");
    let theirs = image.open(Tool::Veritysetup, "layer").run()?.expect_code(4)?;
    let ours = image.open_with(drop_in(context, "open")?, "layer", &image.root).run()?.expect_code(4)?;
    expect_same(&theirs, &ours)
}

fn firmware_unused(context: &mut Context) -> anyhow::Result<()> {
    let keys = fs::read_to_string("/proc/keys").context("/proc/keys")?;
    ensure!(keys.contains("kernel-tests:"), "the firmware's certificate is not among the keys: {keys}");
    no_key_here(context, &Image::new(context)?)
}

fn no_key_here(context: &Context, image: &Image) -> anyhow::Result<()> {
    let signature = Key::Trusted.sign(context, &image.root)?;
    let refused = expect_refused(open(Tool::Verity, image, &signature), 2, "in none of its keyrings")?;
    ensure!(refused.stderr.contains(".dm-verity"), "the keyrings are not named by {refused}");
    Ok(())
}

fn firmware(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_signed_opens(context, &image)?;
    expect_others_refused(context, &image)
}

fn dm_verity_keyring(context: &mut Context) -> anyhow::Result<()> {
    const KEYRING: &str = "%:.dm-verity";
    let keyctl = |words: &str| Program::new("keyctl").words(words).arg(KEYRING);
    let image = Image::new(context)?;
    no_key_here(context, &image).context("before there is a key")?;

    let certificate = fs::read(Key::Trusted.file("der")).context("the certificate")?;
    Program::new("keyctl").args(["padd", "asymmetric", "", KEYRING]).input(certificate).succeed()?;
    no_key_here(context, &image).context("before the keyring is restricted")?;

    keyctl("restrict_keyring").succeed()?;
    expect_signed_opens(context, &image)?;
    expect_others_refused(context, &image)?;
    // It would count as left behind.
    keyctl("clear").succeed().map(drop)
}

/// Whatever opened it, the device is whole, and both tools say that it is signed.
fn expect_signed_opens(context: &Context, image: &Image) -> anyhow::Result<()> {
    let signature = Key::Trusted.sign(context, &image.root)?;
    for program in [
        open(Tool::Verity, image, &signature),
        open(Tool::Veritysetup, image, &signature),
        image
            .open_with(drop_in(context, "open")?, "layer", &image.root)
            .arg("--root-hash-signature")
            .arg(&signature),
    ] {
        expect_silence(program)?;
        image.expect_whole("layer")?;
        for tool in Tool::ALL {
            let status = tool.run("status layer").succeed()?;
            let found = status.field("status:")?;
            ensure!(found == "verified (with signature)", "{found:?} in {status}");
        }
        let status = Tool::Verity.run("status layer --json").succeed()?;
        let document: serde_json::Value = serde_json::from_str(&status.stdout)?;
        let key = document["signature_key"].as_str().unwrap_or_default();
        ensure!(document["status"] == "verified" && key.starts_with("cryptsetup:"), "{status}");
        ensure!(key.ends_with("-layer"), "{key}");
        expect_silence(Tool::Verity.run("close layer"))?;
    }
    Ok(())
}

fn expect_others_refused(context: &Context, image: &Image) -> anyhow::Result<()> {
    expect_refused(image.open(Tool::Verity, "layer"), 2, "requires a signature")?;
    let rejected = "Key was rejected by service";
    for (key, root, text, kernels) in [
        (Key::Trusted, other_digit(&image.root), "not one of this root hash", rejected),
        (Key::Impostor, image.root.clone(), "not one of this root hash", rejected),
        (Key::Stranger, image.root.clone(), "in none of its keyrings", "Required key not available"),
    ] {
        let signature = key.sign(context, &root)?;
        expect_refused(open(Tool::Verity, image, &signature), 2, text).with_context(|| format!("{key:?}"))?;
        expect_same_refusal(context, image, &signature, kernels)?;
    }
    expect_damaged_refused(context, image)
}

/// Damage that can be seen is told before the kernel is asked; what cannot, the kernel sees.
fn expect_damaged_refused(context: &Context, image: &Image) -> anyhow::Result<()> {
    let whole = fs::read(Key::Trusted.sign(context, &image.root)?).context("the signature")?;
    let file = context.path("damaged.p7s");
    for (bytes, text) in [
        (&b"garbage"[..], "no PKCS#7 signature in DER"),
        (&whole[..whole.len() - 1], "no PKCS#7 signature in DER"),
        (&[], "is empty"),
        (image.root.as_bytes(), "no PKCS#7 signature in DER"),
    ] {
        fs::write(&file, bytes).context("writing a signature")?;
        expect_refused(open(Tool::Verity, image, &file), 1, text)?;
    }
    let mut damaged = whole.clone();
    damaged[whole.len() - 100] ^= 1;
    fs::write(&file, damaged).context("writing a signature")?;
    expect_refused(open(Tool::Verity, image, &file), 2, "not one of this root hash")?;
    Ok(())
}

/// Called veritysetup, `verity` says of a refused signature what the real one says.
fn expect_same_refusal(context: &Context, image: &Image, signature: &Path, text: &str) -> anyhow::Result<()> {
    let theirs = open(Tool::Veritysetup, image, signature).run()?.expect_code(4)?.expect_error(text)?;
    let ours = image.open_with(drop_in(context, "open")?, "layer", &image.root);
    let ours = ours.arg("--root-hash-signature").arg(signature).run()?;
    expect_same(&theirs, &ours)
}

fn expect_same(theirs: &Output, ours: &Output) -> anyhow::Result<()> {
    let told = |output: &Output| (output.code, output.stdout.clone(), output.stderr.clone());
    ensure!(told(theirs) == told(ours), "the drop-in differs: {ours}\nfrom {theirs}");
    Ok(())
}

/// Stops, or panics, after a step.
struct After {
    step: Step,
    panic: bool,
}

impl Steps for After {
    fn done(&self, step: Step) -> std::io::Result<()> {
        match (step == self.step, self.panic) {
            (false, _) => Ok(()),
            (true, true) => panic!("the test's"),
            (true, false) => Err(std::io::Error::other("stopped by the test")),
        }
    }
}

fn rollback(context: &mut Context) -> anyhow::Result<()> {
    let image = image::Image::new(context, Params::default(), 16)?;
    let signature = |key: Key, text: &str| -> anyhow::Result<Signature> {
        let file = key.sign(context, text)?;
        Ok(Signature::from_der(fs::read(&file).with_context(|| file.display().to_string())?)?)
    };
    let root = image.root.to_string();
    let mut activation = image.activation("signed")?;
    activation.signature = Some(signature(Key::Trusted, &root)?);
    let before = KernelObjects::now()?;
    for step in Step::ALL {
        for panic in [false, true] {
            let watched = || activate_with(&activation, &After { step, panic });
            match catch_unwind(AssertUnwindSafe(watched)) {
                Err(_) if panic => {}
                Ok(Err(Error::Stopped { after, .. })) if !panic && after == step => {}
                other => bail!("after {step}: {other:?}"),
            }
            expect_absent("signed")?;
            let left = before.leaks();
            ensure!(left.is_empty(), "left behind after {step}: {}", left.join(", "));
        }
    }
    let refused = |signature, expected: &Refusal| -> anyhow::Result<()> {
        let error = expect_refusal(&Activation { signature, ..activation.clone() })?;
        ensure!(error.kind() == Kind::Verification, "{error}");
        match error {
            Error::Refused { refusal, .. } if refusal == *expected => Ok(()),
            other => bail!("expected {expected:?}, got: {other}"),
        }
    };
    refused(None, &Refusal::SignatureRequired)?;
    let strange = signature(Key::Stranger, &root)?;
    refused(Some(strange.clone()), &Refusal::NoKey)?;
    refused(Some(signature(Key::Trusted, &other_digit(&root))?), &Refusal::SignatureRejected)?;

    let names: Vec<String> = (0..24).map(|index| format!("signed{index}")).collect();
    side_by_side(&names, |name| {
        // One description for all: each thread must find its own key. Every other one finds a bad one.
        let mut own = activation.clone();
        own.name = name.parse()?;
        own.uuid = None;
        own.options.signature_key = Some("kernel-tests:same".parse()?);
        let bad = name.ends_with(['1', '3', '5', '7', '9']);
        if bad {
            own.signature = Some(strange.clone());
        }
        match activate(&own) {
            Err(Error::Refused { refusal: Refusal::NoKey, .. }) if bad => Ok(()),
            Ok(_) if !bad => {
                let table = query(&own.name)?.mapping.context("no table")?.table;
                ensure!(table.options().signature_key == own.options.signature_key, "{table}");
                remove(name)
            }
            other => bail!("{name}: {other:?}"),
        }
    })?;
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
