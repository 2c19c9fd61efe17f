//! The program outside a checkout: the experiments, descriptors and licences that it carries.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use insta::assert_snapshot;

use crate::common::{arg, root, scratch, tokenrank, words};
use crate::experiments::{ALL, assert_same};

/// The program in another folder than a checkout.
fn outside(folder: &Path) -> Command {
    let mut command = tokenrank();
    command.current_dir(folder).env("HF_HUB_CACHE", folder.join("hub"));
    command
}

#[track_caller]
fn run(folder: &Path, args: &[&str], code: i32) -> Output {
    let output = outside(folder).args(args).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", words(&output));
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives a folder the miniature networks, where experiments look for them.
fn with_miniatures(folder: &Path) {
    std::fs::create_dir_all(folder.join("datasets/mini")).expect("writable");
    let models = root().canonicalize().expect("a folder").join("datasets/mini/models");
    std::os::unix::fs::symlink(models, folder.join("datasets/mini/models")).expect("writable");
}

#[test]
fn texts_are_listed_and_shown() {
    let dir = scratch();
    let listed = stdout(&run(dir.path(), &["ls"], 0));
    for line in [
        "  paper/masking-vit  ",
        "  mini/segment  ",
        "  examples/sweep-vit-tiny  ",
        "  datasets/imagenet/imagenet.toml  ",
        "  LICENSE-MIT  ",
    ] {
        let line = line.trim_end();
        assert!(
            listed.lines().any(|found| found.starts_with(&format!("{line} "))),
            "{line} is not in\n{listed}"
        );
    }
    assert!(!listed.contains("models.toml") && !listed.contains("cannot be read"), "{listed}");
    for (name, file) in [
        ("paper/masking-vit", "configs/paper/masking-vit.toml"),
        ("configs/schema.json", "configs/schema.json"),
        ("datasets/imagenet/imagenet.toml", "datasets/imagenet/imagenet.toml"),
        ("eval/tables/masking.toml", "eval/tables/masking.toml"),
        ("LICENSE-APACHE", "LICENSE-APACHE"),
    ] {
        let text = std::fs::read_to_string(root().join(file)).expect("a file of the repository");
        assert_eq!(stdout(&run(dir.path(), &["ls", "--show", name], 0)), text, "{name}");
    }
    let message = words(&run(dir.path(), &["ls", "--show", "paper/masking"], 2));
    assert!(message.contains("no text of the name `paper/masking`"), "{message}");
    // Files come first, and the rest of the program's experiments stays.
    std::fs::create_dir_all(dir.path().join("configs/paper")).expect("writable");
    let copy = dir.path().join("configs/paper/masking-vit.toml");
    std::fs::copy(root().join("configs/paper/masking-vit.toml"), copy).expect("writable");
    let listed = stdout(&run(dir.path(), &["ls", "experiments"], 0));
    assert_eq!(listed.matches("paper/masking-vit").count(), 1, "{listed}");
    assert!(listed.contains("  configs/paper/masking-vit.toml ") && listed.contains("  paper/masking-clip "));
    let listed = stdout(&run(&root(), &["ls", "experiments"], 0));
    assert!(listed.contains("  configs/paper/masking-vit.toml ") && !listed.contains("  paper/"), "{listed}");
}

#[test]
fn a_run_by_name_equals_one_from_the_file() {
    let (dir, small) = (scratch(), &ALL[0]);
    with_miniatures(dir.path());
    let [whole, out, apart] = ["whole", "out", "apart"].map(|name| dir.path().join(name));
    let args = |out: &Path, more: &[&str]| {
        let mut args = small.args(out, more);
        args[1] = "mini/masking-vit".into();
        args
    };
    let call = |folder: &Path, args: Vec<String>| {
        run(folder, &args.iter().map(String::as_str).collect::<Vec<_>>(), 0)
    };
    // In a checkout the name means the file.
    let table = stdout(&call(&root(), args(&whole, &[])));
    assert_eq!(stdout(&call(dir.path(), args(&out, &[]))), table);
    assert_same(&whole, &out);
    let told = words(&call(dir.path(), args(&out, &[])));
    assert!(told.contains("all items were already done"), "{told}");
    // The same from shards, and what reads finished runs.
    for shard in ["1/2", "2/2"] {
        call(dir.path(), args(&apart, &["--shard", shard]));
    }
    assert_eq!(stdout(&run(dir.path(), &["merge", arg(&apart)], 0)), table);
    assert_same(&whole, &apart);
    run(dir.path(), &["compare", arg(&out), arg(&whole)], 0);
    run(dir.path(), &["report", arg(&out)], 0);
}

#[test]
fn an_interrupted_run_by_name_is_resumed_by_the_printed_command() {
    let (dir, small) = (scratch(), &ALL[3]);
    with_miniatures(dir.path());
    let out = dir.path().join("run");
    let mut args = small.args(&out, &[]);
    args[1] = "mini/diffseg".into();
    let mut child =
        outside(dir.path()).args(args).stderr(std::process::Stdio::piped()).spawn().expect("starts");
    while !out.join("records.jsonl").metadata().is_ok_and(|file| file.len() > 0) {
        assert!(child.try_wait().expect("a child").is_none(), "it was over before it could be seen");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    let output = child.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(5), "{}", words(&output));
    let told = String::from_utf8(output.stderr).expect("text");
    let command = told.lines().last().expect("a command");
    assert!(command.contains(" run mini/diffseg "), "{command}");
    let resumed = Command::new("sh").args(["-c", command]).current_dir(dir.path()).output().expect("a shell");
    assert!(resumed.status.success(), "{command}: {}", words(&resumed));
    assert!(out.join("results.json").exists());
}

#[test]
fn descriptors_in_the_program_give_classes() {
    let dir = scratch();
    with_miniatures(dir.path());
    let ready = stdout(&run(dir.path(), &["validate", "mini/masking-clip"], 0));
    assert!(ready.contains("mini/masking-clip: ready, 500 items"), "{ready}");
    // Labels above the miniature's ten classes are possible only with the classes of ImageNet.
    let descriptor = "model.zero_shot.descriptor=datasets/imagenet/imagenet.toml";
    run(
        dir.path(),
        &["run", "mini/masking-clip", "--limit", "2", "--set", descriptor, "--out", "imagenet"],
        0,
    );
    let header = std::fs::read_to_string(dir.path().join("imagenet/run.json")).expect("a header");
    assert!(header.contains("tench"), "{header}");
    // A file of that name comes first.
    let file = dir.path().join("datasets/imagenet/imagenet.toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
    std::fs::write(&file, "classes = 3").expect("writable");
    let message = words(&run(dir.path(), &["validate", "mini/masking-clip", "--set", descriptor], 3));
    assert!(message.contains("not a descriptor"), "{message}");
}

#[test]
fn files_come_first_and_a_file_with_another_text_is_named() {
    let dir = scratch();
    with_miniatures(dir.path());
    let text = std::fs::read_to_string(root().join("configs/mini/masking-vit.toml")).expect("an experiment");
    let validate = || run(dir.path(), &["validate", "mini/masking-vit"], 0);
    let write = |path: PathBuf, count: &str| {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(path, text.replace("count = 500", count)).expect("writable");
    };
    assert!(stdout(&validate()).contains("500 items"));
    write(dir.path().join("configs/mini/masking-vit.toml"), "count = 500");
    assert!(words(&validate()).is_empty());
    write(dir.path().join("configs/mini/masking-vit.toml"), "count = 7");
    let output = validate();
    assert!(stdout(&output).contains("7 items"), "{}", stdout(&output));
    let note = "taken from configs/mini/masking-vit.toml, which differs from the program's own";
    assert!(words(&output).contains(note), "{}", words(&output));
    write(dir.path().join("mini/masking-vit"), "count = 8");
    assert!(stdout(&validate()).contains("8 items"));
}

#[test]
fn errors_name_the_experiment_and_its_neighbours() {
    let dir = scratch();
    let text = |args: &[&str], code| String::from_utf8(run(dir.path(), args, code).stderr).expect("text");
    let unknown = text(&["run", "paper/maskin-vit"], 2);
    let folder = dir.path().canonicalize().expect("a folder").display().to_string();
    let unknown =
        unknown.split_whitespace().collect::<Vec<_>>().join(" ").replace(" │", "").replace(&folder, "FOLDER");
    assert_snapshot!(unknown, @"× experiment paper/maskin-vit: no such file, and the program has no experiment of this name (looked for at FOLDER/paper/maskin-vit: relative paths count from the current folder); nearest: paper/masking-vit, paper/masking-clip, mini/masking-vit; `tokenrank ls experiments` lists them all");
    let wrong = text(&["validate", "paper/masking-vit", "--set", "task.masking.alfa=1"], 2);
    assert!(wrong.contains("experiment paper/masking-vit:") && !wrong.contains("looked for at"), "{wrong}");
    let missing = text(&["validate", "paper/masking-vit"], 3);
    assert!(missing.contains("tokenrank fetch"), "{missing}");
    assert_eq!(text(&["run", "./paper/masking-vit"], 2).matches("no such file").count(), 1);
}

#[test]
fn the_scripts_of_a_cluster_have_the_name() {
    let dir = scratch();
    with_miniatures(dir.path());
    let args = ["slurm", "mini/masking-vit", "--nodes", "2", "--limit", "40", "--out", "run"];
    run(dir.path(), &args, 0);
    let script = std::fs::read_to_string(dir.path().join("run/slurm/array.sbatch")).expect("a script");
    assert!(script.contains(" run mini/masking-vit "), "{script}");
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    let dir = scratch();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(dir.path(), &["completions", shell], 0));
        for word in ["validate", "assert-nothing", "teleport"] {
            assert_eq!(script.contains(word), word != "assert-nothing", "{shell}: {word}");
        }
    }
    let script = dir.path().join("tokenrank.bash");
    std::fs::write(&script, run(dir.path(), &["completions", "bash"], 0).stdout).expect("writable");
    let complete = "source tokenrank.bash; COMP_WORDS=(tokenrank va); COMP_CWORD=1; \
                    _tokenrank tokenrank va tokenrank; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", complete]).current_dir(dir.path()).output().expect("bash");
    assert_eq!(stdout(&output), "validate\n", "{}", words(&output));
    run(dir.path(), &["man", "man1"], 0);
    for page in ["tokenrank.1", "tokenrank-run.1", "tokenrank-slurm.1"] {
        let text = std::fs::read_to_string(dir.path().join("man1").join(page)).expect(page);
        assert!(text.contains(".SH NAME"), "{page}");
    }
}
