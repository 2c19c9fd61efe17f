//! The program against a machine that lacks things: a PATH with fakes only, nothing downloaded.
#![allow(clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

mod machine;

use std::fs;

use machine::{INSTALL, Machine, refusal, stderr, write_libtorch};

#[test]
fn usage_and_unknown_commands() {
    let machine = Machine::new();
    for args in [&[][..], &["--help"], &["test", "--help"]] {
        let output = machine.run(args);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("cargo xtask <COMMAND>"));
    }
    let output = machine.run(&["frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("frobnicate"));
}

#[test]
fn outside_a_checkout_it_says_so() {
    let machine = Machine::new();
    let output = machine.command(&["setup"]).current_dir(machine.dir.path()).output().unwrap();
    assert!(refusal(&output).contains("not inside a checkout"));
}

#[test]
fn setup_from_a_subfolder_then_again() {
    let machine = Machine::with_pip(INSTALL);
    let output = machine.command(&["setup"]).current_dir(machine.root().join("crates")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("downloading libtorch 2.11.0"));
    assert!(machine.root().join(".libtorch/torch/lib/libtorch_cpu.so").is_file());
    assert!(machine.leftovers().is_empty());

    let again = machine.run(&["setup"]);
    assert!(again.status.success());
    assert_eq!(stderr(&again), "libtorch 2.11.0 is in .libtorch\n");
    assert_eq!(machine.installs().len(), 1);
}

#[test]
fn cuda_replaces_a_cpu_libtorch_and_stays() {
    let machine = Machine::with_pip(INSTALL);
    assert!(machine.run(&["setup"]).status.success());
    assert!(machine.run(&["setup", "--cuda"]).status.success());
    assert!(machine.root().join(".libtorch/nvidia/cudnn").is_dir());
    for args in [&["setup", "--cuda"][..], &["setup"]] {
        let again = machine.run(args);
        assert_eq!(stderr(&again), "libtorch 2.11.0 with CUDA is in .libtorch\n");
    }
    let installs = machine.installs();
    assert_eq!(installs.len(), 2);
    assert!(installs.iter().all(|args| args.contains("--no-deps --require-hashes --requirement ")));
    assert!(machine.leftovers().is_empty());
}

#[test]
fn what_is_missing_is_one_line() {
    let machine = Machine::new();
    assert!(machine.refusal(&["setup"]).contains("python3 is not on PATH"));
    machine.program(
        "python3",
        "if [ \"$1\" = --version ]; then exit 0; fi\necho 'No module named pip' >&2; exit 1",
    );
    assert!(machine.refusal(&["setup"]).contains("python3 has no pip"));
    machine.program("python3", "if [ \"$1\" = --version ]; then exit 0; fi\necho 'pip 9.0.3 from /usr'");
    assert!(machine.refusal(&["setup"]).contains("pip 9.0 is too old"));
    machine.program("getconf", "echo glibc 2.17");
    assert!(machine.refusal(&["setup"]).contains("glibc 2.17"));
    fs::remove_file(machine.bin().join("c++")).unwrap();
    assert!(machine.refusal(&["setup"]).contains("no C++ compiler"));
}

#[test]
fn a_failing_pip_is_one_line_and_leaves_nothing() {
    let cases = [
        ("echo 'Failed to establish a new connection: [Errno 111] Connection refused'; exit 1", "no network"),
        ("/bin/mkdir -p x; echo 'OSError: [Errno 28] No space left on device' >&2; exit 1", "disk is full"),
        ("echo 'ERROR: No matching distribution found for torch==2.11.0' >&2; exit 1", "does not offer"),
        (
            "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.' >&2
             echo '    nvidia-cuda-cupti==13.0.85 from http://mirror/x.whl (from -r cpu.txt (line 10)):' >&2; exit 1",
            "nvidia-cuda-cupti==13.0.85 is not the published wheel",
        ),
        ("echo 'ERROR: something new' >&2; exit 2", "something new"),
    ];
    for (script, expected) in cases {
        let machine = Machine::with_pip(script);
        let line = machine.refusal(&["demo"]);
        assert!(line.contains(expected), "{line}");
        let log = machine.root().join("target/libtorch-setup.log");
        assert!(line.contains(&log.display().to_string()) && log.is_file(), "{line}");
        assert!(machine.leftovers().is_empty());
        assert!(!machine.root().join(".libtorch").exists());
    }
}

#[test]
fn a_wrong_version_from_pip_is_not_put_in_place() {
    let machine = Machine::with_pip(INSTALL);
    let output = machine.command(&["setup"]).env("FAKE_VERSION", "2.12.0").output().unwrap();
    assert!(refusal(&output).contains("2.12.0"));
    assert!(!machine.root().join(".libtorch").exists());
}

#[test]
fn an_interrupted_set_up_is_cleared_away_and_a_wrong_one_replaced() {
    let machine = Machine::with_pip(INSTALL);
    // Larger than any process id of Linux.
    let abandoned = machine.root().join(".libtorch.partial-99999999");
    fs::create_dir_all(abandoned.join("home")).unwrap();
    write_libtorch(&machine.root().join(".libtorch/torch"), "version.py", "__version__ = '2.9.0'\n");
    let output = machine.run(&["setup"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("libtorch 2.9.0 is in .libtorch; it will be replaced"));
    assert!(machine.leftovers().is_empty());
    assert_eq!(stderr(&machine.run(&["setup"])), "libtorch 2.11.0 is in .libtorch\n");
}

#[test]
fn a_libtorch_of_the_user_is_checked_and_never_touched() {
    let machine = Machine::new();
    let own = machine.dir.path().join("own");
    let setup = || machine.command(&["setup"]).env("LIBTORCH", &own).output().unwrap();
    assert!(refusal(&setup()).contains("is not a folder"));
    fs::create_dir_all(&own).unwrap();
    assert!(refusal(&setup()).contains("no lib/libtorch_cpu.so"));
    write_libtorch(&own, "build-version", "2.12.0+cpu\n");
    assert!(refusal(&setup()).contains("libtorch 2.12.0+cpu"));
    fs::remove_file(own.join("build-version")).unwrap();
    assert!(refusal(&setup()).contains("neither version.py nor build-version"));
    write_libtorch(&own, "build-version", "2.11.0+cpu\n");
    let good = setup();
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(stderr(&good).contains("libtorch 2.11.0+cpu is in"));
    assert!(!machine.root().join(".libtorch").exists());
}

/// A cargo that says how it was called.
const CARGO: &str = r#"echo "args: $*"; echo "libtorch: ${LIBTORCH-unset}"; echo "loader: ${LD_LIBRARY_PATH-unset}"
echo "cxx: ${CXX-unset}"; exit 7"#;

#[test]
fn demo_passes_arguments_and_the_exit_code_on() {
    let machine = Machine::with_pip(INSTALL);
    machine.program("cargo", CARGO);
    let configs = machine.root().join("configs/mini");
    fs::create_dir_all(&configs).unwrap();
    for name in ["segment.toml", "guidance.toml", "masking-vit.toml", "notes.md"] {
        fs::write(configs.join(name), "").unwrap();
    }
    fs::create_dir(configs.join("ablations")).unwrap();
    fs::write(configs.join("ablations/masking-alpha.toml"), "").unwrap();
    let output = machine.run(&["demo", "--full", "--limit", "4"]);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let command = said.lines().find(|line| line.starts_with("args: ")).expect("cargo was called");
    assert!(
        command.starts_with("args: run --package tokenrank -- run configs/mini/masking-vit.toml "),
        "{said}"
    );
    assert!(
        command.ends_with(
            " configs/mini/masking-dinov2.toml configs/mini/guidance.toml configs/mini/segment.toml \
             configs/mini/ablations/masking-alpha.toml --limit 4"
        ),
        "{said}"
    );
    assert!(said.contains("libtorch: unset\n"), "{said}");
}

#[test]
fn a_libtorch_of_the_user_and_rustflags_go_by_the_loaders_path() {
    let machine = Machine::new();
    machine.program("cargo", CARGO);
    fs::rename(machine.bin().join("c++"), machine.bin().join("clang++")).unwrap();
    let own = machine.dir.path().join("own");
    write_libtorch(&own, "version.py", "__version__ = '2.11.0'\n");
    let output = machine.command(&["test", "-p", "eval"]).env("LIBTORCH", &own).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("libtorch: {}\n", own.display())), "{said}");
    assert!(said.contains(&format!("loader: {}\n", own.join("lib").display())), "{said}");
    assert!(said.contains("cxx: clang++\n"), "{said}");

    machine.pip(INSTALL);
    let mut command = machine.command(&["test", "-p", "eval", "--", "power"]);
    let output =
        command.env("RUSTFLAGS", "-Cdebuginfo=0").env("LD_LIBRARY_PATH", "/elsewhere").output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let lib = machine.root().join(".libtorch/torch/lib");
    assert!(said.contains(&format!("loader: {}:/elsewhere\n", lib.display())), "{said}");
    assert!(stderr(&output).contains("RUSTFLAGS replaces"), "{}", stderr(&output));
}

/// A cargo that has built the test binaries of these names, and runs documentation tests that pass.
fn cargo_of_tests(machine: &Machine, names: &[&str]) {
    let messages = names.iter().map(|name| {
        let (path, package) = (machine.bin().join(name), machine.root().join("crates").join(name));
        fs::create_dir_all(&package).unwrap();
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"{}","target":{{"kind":["test"],"name":"{name}"}},"profile":{{"test":true}},"executable":"{}"}}"#,
            package.join("Cargo.toml").display(),
            path.display()
        )
    });
    let messages: Vec<String> = messages.map(|message| format!("echo '{message}'")).collect();
    machine.program(
        "cargo",
        &format!(
            "echo \"$@\" >> {log}\nfor arg in \"$@\"; do if [ \"$arg\" = --doc ]; then echo 'test lib.rs - a ... ok'; echo 'test lib.rs - b - compile ... ok'; exit 0; fi; done\n{}",
            messages.join("\n"),
            log = machine.root().join("calls").display()
        ),
    );
}

#[test]
fn test_runs_every_binary_and_names_what_failed_and_was_skipped() {
    let machine = Machine::with_pip(INSTALL);
    cargo_of_tests(&machine, &["good", "skips", "fails", "dies"]);
    machine.program("good", "echo \"in $PWD with $*\"; echo 'test one ... ok'; echo 'test two ... ok'");
    machine.program(
        "skips",
        "echo 'skipped: three: no browser' >&2; echo 'test three ... ok'; echo 'test four ... ignored'",
    );
    machine.program("fails", "echo 'test five ... FAILED'; exit 101");
    machine.program("dies", "kill -9 $$");
    let output = machine.run(&["test", "--", "--nocapture"]);
    assert_eq!(output.status.code(), Some(101), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let package = machine.root().join("crates/good");
    assert!(said.contains(&format!("in {} with --nocapture\ntest one ... ok", package.display())), "{said}");
    let (_, end) = said.split_once("== skipped\n").expect("a summary");
    let (skipped, failed) = end.split_once("== failed\n").expect("failures");
    for line in ["skips/tests/skips: three: no browser", "skips/tests/skips: four: marked #[ignore]"] {
        assert!(skipped.contains(line), "{said}");
    }
    assert!(
        failed.contains("fails/tests/fails: five")
            && failed.contains("dies/tests/dies: (ended with signal: 9"),
        "{said}"
    );
    assert!(said.ends_with("== 3 tests passed, 2 failed, 2 skipped; 1 examples compiled only\n"), "{said}");
    let list = fs::read_to_string(machine.root().join("target/skipped.txt")).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");

    let calls = fs::read_to_string(machine.root().join("calls")).unwrap();
    let mut calls: Vec<&str> = calls.lines().collect();
    calls.sort();
    assert_eq!(
        calls,
        [
            "test --workspace --doc --no-fail-fast -- --nocapture",
            "test --workspace --lib --bins --tests --no-run --message-format=json-render-diagnostics",
        ]
    );
}

#[test]
fn test_without_failures_succeeds_and_a_build_that_fails_ends_it() {
    let machine = Machine::with_pip(INSTALL);
    cargo_of_tests(&machine, &["good"]);
    machine.program("good", "echo 'test one ... ok'");
    let output = machine.run(&["test"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    machine.program("cargo", "exit 101");
    assert_eq!(machine.run(&["test"]).status.code(), Some(101));
}

#[test]
fn tests_that_are_picked_are_run_by_cargo() {
    let machine = Machine::with_pip(INSTALL);
    machine.program("cargo", "echo \"args: $*\"; exit 101");
    let output = machine.run(&["test", "-p", "eval", "--", "power"]);
    assert_eq!(output.status.code(), Some(101));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "args: test --no-fail-fast -p eval -- power\n");
}

#[test]
fn bench_runs_beside_torch_where_a_python_has_it() {
    let machine = Machine::new();
    machine.program("cargo", "echo \"cargo: $*\"");
    machine.program("python-with-torch", "if [ \"$1\" = -c ]; then exit 0; fi; echo \"peer: $*\"; exit 5");
    machine.program("python3", "exit 1");

    let alone = machine.run(&["bench", "--threads", "2"]);
    assert!(alone.status.success());
    assert!(stderr(&alone).contains("peers skipped"), "{}", stderr(&alone));
    let said = String::from_utf8(alone.stdout).unwrap();
    assert_eq!(said, "cargo: run --release --package markov-core --example bench_heads -- --threads 2\n");

    write_libtorch(&machine.root().join(".libtorch/torch"), "version.py", "__version__ = '2.11.0'\n");
    let python = machine.bin().join("python-with-torch");
    let both =
        machine.command(&["bench", "--threads", "2"]).env("TOKENRANK_PYTHON", python).output().unwrap();
    assert_eq!(both.status.code(), Some(5));
    let said = String::from_utf8(both.stdout).unwrap();
    let (build, peer) = said.split_once('\n').unwrap();
    assert_eq!(
        build,
        "cargo: build --release --workspace --bin tokenrank --example bench_heads --example bench_jpeg --example diffseg_bench \
         --example report_bench"
    );
    assert!(peer.starts_with("peer: tools/bench.py --bin /"), "{peer}");
    assert!(peer.ends_with("/release --threads 2\n"), "{peer}");
}
