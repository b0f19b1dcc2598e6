//! The command line itself: where options may stand, what wrong ones are told.

mod common;

use common::{FIXED, Run, Sandbox};

#[track_caller]
fn refused(run: &Run, message: &str, hint: &str) {
    run.is(1, "", &format!("verity: {message}\nhint: {hint}\n"));
}

#[test]
fn options_stand_anywhere_and_in_every_form() {
    let sandbox = Sandbox::with_data(3);
    let expected = sandbox.verity(&format!("format data hash {FIXED}")).success();
    for arguments in [
        "--uuid 01234567-89ab-cdef-0123-456789abcdef --salt 00112233 format data hash",
        "--salt=00112233 format --uuid=01234567-89ab-cdef-0123-456789abcdef data hash",
        "format -s00112233 data --uuid 01234567-89ab-cdef-0123-456789abcdef hash",
        "format data -s 00112233 hash -h SHA256 --uuid 01234567-89AB-CDEF-0123-456789ABCDEF",
        "-hsha256 format --salt 00112233 --uuid 01234567-89ab-cdef-0123-456789abcdef -- data hash",
        "--data-blocks 0 format data hash --format 1 -s 00112233 --uuid 01234567-89ab-cdef-0123-456789abcdef",
    ] {
        assert_eq!(sandbox.verity(arguments).success(), expected, "{arguments}");
    }
}

#[test]
fn a_file_may_be_named_like_an_option() {
    let sandbox = Sandbox::with_data(1);
    sandbox.verity("format data -- -h").success();
    assert_eq!(sandbox.names(), ["-h", "data"]);
    sandbox.verity("-q -- dump -h").success();
}

#[test]
fn help_is_on_standard_output() {
    let sandbox = Sandbox::new();
    let overview = sandbox.verity("--help").success();
    for command in ["format", "verify", "repair", "fec", "layer", "open", "close", "status", "dump", "list"] {
        assert!(overview.contains(&format!("\n  {command} ")), "{overview}");
        let help = sandbox.verity(&format!("help {command}")).success();
        assert!(help.contains("Usage: verity") && help.contains("Examples:") && help.contains("Exit codes:"));
        for arguments in [format!("{command} --help"), format!("-? {command}"), format!("{command} -?")] {
            assert_eq!(sandbox.verity(&arguments).success(), help, "{arguments}");
        }
    }
    assert_eq!(sandbox.verity("-?").success(), overview);
    assert_eq!(sandbox.verity("help").success(), overview);
}

#[test]
fn help_lists_every_option_of_veritysetup() {
    let sandbox = Sandbox::new();
    let of = |command: &str| sandbox.verity(&format!("help {command}")).success();
    let everywhere = ["--verbose", "--debug", "--json", "--quiet"];
    let format =
        ["--root-hash-file", "--uuid", "--data-block-size", "--hash-block-size", "--data-blocks", "--hash"];
    let format_too =
        ["--format", "--salt", "--no-superblock", "--hash-offset", "--fec-device", "--fec-offset"];
    let open =
        ["--ignore-corruption", "--restart-on-corruption", "--panic-on-corruption", "--error-as-corruption"];
    let open_too = ["--ignore-zero-blocks", "--check-at-most-once", "--use-tasklets", "--shared"];
    let signature =
        ["--root-hash-signature", "--root-hash-file", "--no-superblock", "--hash-offset", "--salt"];
    for (command, options) in [
        ("format", [&everywhere[..], &format, &format_too, &["--fec-roots", "--threads"]].concat()),
        (
            "verify",
            [&everywhere[..], &format_too, &["--root-hash-file", "--threads", "--max-findings"]].concat(),
        ),
        ("open", [&everywhere[..], &open, &open_too, &signature].concat()),
        ("close", [&everywhere[..], &["--deferred", "--cancel-deferred"]].concat()),
        ("dump", [&everywhere[..], &["--hash-offset", "--fec-device"]].concat()),
        (
            "layer adopt",
            [&everywhere[..], &["--beside", "--fec-roots", "--salt", "--uuid", "--hash"]].concat(),
        ),
        (
            "layer convert",
            [&everywhere[..], &["--to", "--from", "--root-hash-signature", "--subject"]].concat(),
        ),
        ("layer inspect", [&everywhere[..], &["--from", "--description", "--layer-digest"]].concat()),
        ("layer verify", [&everywhere[..], &["--root-hash-file", "--threads"]].concat()),
        ("repair", [&everywhere[..], &format_too, &["--in-place", "--output-data", "--partial"]].concat()),
        ("fec", [&everywhere[..], &format_too, &["--root-hash-file", "--fec-roots"]].concat()),
    ] {
        let help = of(command);
        for option in options {
            assert!(
                help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                "{command} {option}"
            );
        }
    }
}

#[test]
fn the_version_is_told_anywhere() {
    let sandbox = Sandbox::new();
    let expected = concat!("verity ", env!("CARGO_PKG_VERSION"), "\n");
    for arguments in ["-V", "--version", "format -V", "--salt ab format data --version hash"] {
        sandbox.verity(arguments).is(0, expected, "");
    }
}

#[test]
fn wrong_commands() {
    let sandbox = Sandbox::new();
    let help = "'verity help' lists the commands";
    refused(&sandbox.verity(""), "no command given", help);
    refused(&sandbox.verity("-v"), "no command given", help);
    refused(&sandbox.verity("fromat data hash"), "command \"fromat\" is unknown", help);
    refused(&sandbox.verity("help bogus"), "command \"bogus\" is unknown", help);
    refused(&sandbox.verity("--fromat"), "option --fromat is unknown", help);
}

#[test]
fn wrong_arguments() {
    let sandbox = Sandbox::new();
    let help = |command: &str| format!("'verity help {command}' lists the arguments and options");
    for (arguments, message) in [
        ("format", "format: <DATA>, <HASH> missing"),
        ("format data", "format: <HASH> missing"),
        ("open data name", "open: <HASH> missing"),
        ("format data hash more", "format: argument \"more\" is one too many"),
        ("format data hash --salt", "--salt needs a value"),
        ("format data hash --slat ab", "format: option --slat is unknown"),
        ("format data hash -x", "format: option -x is unknown"),
        ("format data hash --no-superblock=1", "--no-superblock takes no value"),
        ("format data hash --salt ab --salt cd", "--salt is given twice"),
        (
            "dump hash --salt ab",
            "option --salt does not go with dump, only with format, verify, cat, extract, update, repair, fec, layer adopt, open",
        ),
        ("close name --deferred --cancel-deferred", "--deferred and --cancel-deferred exclude each other"),
        (
            "open data name hash --ignore-corruption --panic-on-corruption",
            "--ignore-corruption and --panic-on-corruption exclude each other",
        ),
    ] {
        let command = arguments.split(' ').next().unwrap();
        refused(&sandbox.verity(arguments), message, &help(command));
    }
}

#[test]
fn a_flag_may_be_said_twice() {
    let sandbox = Sandbox::with_data(1);
    let told = sandbox.verity("format data hash -v -v --no-superblock --no-superblock").success();
    assert!(told.ends_with("Command successful.\n"), "{told}");
}

#[test]
fn errors_are_documents_where_documents_are_asked_for() {
    let sandbox = Sandbox::new();
    for arguments in ["format --json", "dump nothing --json", "--json frobnicate"] {
        let run = sandbox.verity(arguments);
        let document = run.json();
        assert_eq!(document["error"]["exit_code"], run.code.unwrap(), "{arguments}");
        let message = document["error"]["message"].as_str().unwrap();
        assert!(run.stderr.starts_with(&format!("verity: {message}\n")), "{run:?}");
    }
    let run = sandbox.drop_in("dump nothing --json");
    assert_eq!(run.json()["error"]["kind"], "no-device", "{run:?}");
}

#[test]
fn manual_and_completions_come_from_the_same_definition() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("man")).unwrap();
    sandbox.verity("man man").is(0, "", "");
    let page = String::from_utf8(sandbox.read("man/verity-open.8")).unwrap();
    assert!(page.contains("ignore\\-corruption") && page.contains("no permission"), "{page}");
    assert!(sandbox.verity("man").success().contains("verity"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(sandbox.verity(&format!("completions {shell}")).success().contains("restart-on-corruption"));
    }
    assert_eq!(sandbox.verity("man missing").code, Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let (sandbox, _) = Sandbox::formatted(1);
    for arguments in ["dump hash", "--help", "help open", "man", "completions bash", "format data hash"] {
        let mut child = sandbox
            .verity_command(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        Run::from(child.wait_with_output().unwrap()).is(0, "", "");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let (sandbox, _) = Sandbox::formatted(1);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = Run::of(sandbox.verity_command("dump hash").stdout(full));
    run.is(1, "", "verity: standard output cannot be written: No space left on device\n");
}
