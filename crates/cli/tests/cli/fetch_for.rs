//! `fetch --for`: from an empty machine to results, against a stand-in that serves tiny networks and data sets in the
//! published formats, names and layouts.

use std::path::{Path, PathBuf};

use zip::CompressionMethod;

use crate::common::{arg, root, words};
use crate::fetch::stdout;
use crate::published::{Files, Machine, Published, as_fp16, as_shards, as_torch, mini};
use crate::server::{Length, Server};
use crate::torch_file;

fn config(name: &str) -> String {
    root().join("configs/paper").join(format!("{name}.toml")).display().to_string()
}

/// A head as DINO publishes it: a checkpoint of training in the format before PyTorch 1.6 would be the same to the reader;
/// here it is an archive.
fn published_head() -> Vec<u8> {
    let mut tensors = torch_file::read(&root().join("datasets/mini/models/dino/head.safetensors"));
    tensors.iter_mut().for_each(|tensor| tensor.0.insert_str(0, "module.linear."));
    torch_file::torch_file(&tensors, |dict| {
        [b"}(".as_slice(), &torch_file::text("state_dict"), &dict, &torch_file::text("epoch"), b"K\x64u"]
            .concat()
    })
}

fn without(mut files: Files, name: &str) -> Files {
    files.remove(name);
    files
}

/// A photograph of the fixtures.
fn jpeg() -> Vec<u8> {
    std::fs::read(root().join("crates/models/tests/fixtures/image/pictures/444.jpg"))
        .expect("a committed fixture")
}

fn png(name: &str) -> Vec<u8> {
    std::fs::read(root().join("crates/tasks/tests/fixtures/gtsegs").join(name)).expect("a committed fixture")
}

/// Tiny networks under the ids of the paper's experiments, and their data.
fn published() -> Published {
    let mut published = Published::default();
    let vit = published.repository("google/vit-base-patch16-224", "apache-2.0", mini("vit"));
    vit.commit = "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3".into();
    let mut clip = as_torch(mini("clip"));
    clip.insert("tf_model.h5".into(), vec![0; 1000]);
    published.repository("openai/clip-vit-base-patch16", "mit", clip);
    let dino = as_torch(without(mini("dino"), "head.safetensors"));
    published.repository("facebook/dino-vits8", "apache-2.0", dino);
    let dinov2 = "facebook/dinov2-with-registers-small-imagenet1k-1-layer";
    published.repository(dinov2, "apache-2.0", mini("dinov2"));
    published.repository("CompVis/stable-diffusion-v1-4", "creativeml-openrail-m", as_fp16(mini("sd")));
    let sd = as_shards(mini("sd"), "unet/diffusion_pytorch_model.safetensors", 2);
    published.repository("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", sd);
    let head = "dl.fbaipublicfiles.com/dino/dino_deitsmall8_pretrain/dino_deitsmall8_linearweights.pth";
    published.web.insert(head.into(), published_head());
    let scenes = root().join("crates/tasks/tests/fixtures/parquet/scenes.parquet");
    let scenes = std::fs::read(scenes).expect("a committed fixture");
    let files = ["train-00000-of-00002", "validation-00000-of-00001"]
        .map(|name| (format!("data/{name}.parquet"), scenes.clone()));
    published.repository("datasets/ILSVRC/imagenet-1k", "other", Files::from(files)).gated = true;
    published
}

/// Files of the working folder, relative to it.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below").display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The masking column of every network, as published: safetensors at a pinned commit, pickles, a head at a web address.
#[test]
fn the_masking_experiments_run_on_what_was_fetched() {
    let (machine, server) = (Machine::new(), published().serve());
    let mini_classes =
        format!("model.zero_shot.descriptor={}", root().join("datasets/mini/mini.toml").display());
    for (name, more) in [
        ("masking-vit", &[][..]),
        ("masking-clip", &[mini_classes.as_str()]),
        ("masking-dinov1", &[]),
        ("masking-dinov2", &[]),
    ] {
        let file = config(name);
        let mut sets = vec!["--set", "dataset.parquet.subset.count=3"];
        sets.extend(more.iter().flat_map(|set| ["--set", set]));
        let fetch = [&["fetch", "--yes"][..], &sets, &["--for", &file]].concat();
        let first = words(&machine.run(&server, &fetch, 0));
        assert!(
            first.contains("what") && first.contains("to download:") && first.contains("free in"),
            "{first}"
        );
        let asked = server.requests().len();
        let run = [&["run", &file, "--limit", "2"][..], &sets].concat();
        let output = machine.run(&server, &run, 0);
        assert!(stdout(&output).contains("TokenRank"), "{name}: {}", words(&output));
        assert_eq!(server.requests().len(), asked, "{name}: a run went to the network");
    }
    let work = tree(&machine.work());
    assert!(work.contains(&"checkpoints/dino_deitsmall8_linearweights.pth".to_owned()), "{work:?}");
    let lock = std::fs::read_to_string(machine.work().join("models.lock.toml")).expect("a lock file");
    for word in [
        "facebook/dino-vits8",
        "pytorch_model.bin",
        "linearweights.pth",
        "unverified = true",
        "[dataset.\"ILSVRC/imagenet-1k\"",
    ] {
        assert!(lock.contains(word), "{word} is not in {lock}");
    }
    assert!(!lock.contains("train-00000"), "another split was fetched: {lock}");
    // What was fetched once is not fetched again.
    let asked = server.requests().iter().filter(|request| request.method == "GET").count();
    let file = config("masking-dinov1");
    machine.run(&server, &["fetch", "--yes", "--for", &file], 0);
    assert_eq!(server.requests().iter().filter(|request| request.method == "GET").count(), asked);
}

/// Archives of data sets in their published layouts.
fn archives() -> Published {
    let mut published = published();
    let images: Vec<(String, Vec<u8>)> =
        ["000000000139", "000000000285"].map(|id| (format!("val2017/{id}.jpg"), jpeg())).to_vec();
    let maps: Vec<(String, Vec<u8>)> =
        ["train2017/000000000009", "val2017/000000000139", "val2017/000000000285"]
            .map(|id| (format!("{id}.png"), grey_map()))
            .to_vec();
    published.web.insert("images.cocodataset.org/zips/val2017.zip".into(), zip(&images));
    let stuff =
        "calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip";
    published.web.insert(stuff.into(), zip(&maps));
    let gtsegs = root().join("crates/tasks/tests/fixtures/gtsegs/gtsegs.mat");
    published.web.insert(
        "calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat".into(),
        std::fs::read(gtsegs).expect("a committed fixture"),
    );
    published
}

/// A grey PNG as large as [`jpeg`], with one class everywhere.
fn grey_map() -> Vec<u8> {
    let image = models::image::Rgb8::decode(&jpeg()).expect("a picture");
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("in memory");
    writer.write_image_data(&vec![3; image.width * image.height]).expect("in memory");
    writer.finish().expect("in memory");
    bytes
}

fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<(&str, &[u8])> =
        entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    torch_file::archive(&entries, CompressionMethod::Deflated)
}

fn tar(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// COCO-Stuff and the reference of guidance come from archives, Stable Diffusion from half-precision and sharded files.
/// The published size and MD5 of val2017.zip show that the stand-in's archive is another: it is refused, and the user's own
/// images are used instead.
#[test]
fn data_sets_are_unpacked_where_the_experiments_expect_them() {
    let (machine, server) = (Machine::new(), archives().serve());
    let diffseg = config("diffseg-coco-stuff");
    let message = words(&machine.run(&server, &["fetch", "--yes", "--for", &diffseg], 3));
    assert!(message.contains("val2017.zip") && message.contains("815585330"), "{message}");
    let coco = machine.work().join("datasets/coco");
    assert!(!coco.join("val2017").exists(), "{:?}", tree(&coco));

    std::fs::create_dir_all(coco.join("val2017")).expect("writable");
    for id in ["000000000139", "000000000285"] {
        std::fs::write(coco.join("val2017").join(format!("{id}.jpg")), jpeg()).expect("writable");
    }
    machine.run(&server, &["fetch", "--yes", "--for", &diffseg], 0);
    assert_eq!(
        tree(&coco),
        [
            "stuffthingmaps/val2017/000000000139.png",
            "stuffthingmaps/val2017/000000000285.png",
            "val2017/000000000139.jpg",
            "val2017/000000000285.jpg",
        ]
    );
    let list = machine.work().join("list.txt");
    std::fs::write(&list, "000000000139\n000000000285\n").expect("writable");
    let list = format!("dataset.coco-stuff.list={}", list.display());
    let sets = ["--set", &list, "--set", "task.diffseg.image_size=64", "--set", "model.dtype=f32"];
    let methods =
        "task.diffseg.methods=[{ uniform = { side = 6 } }, { tokenrank = { number = 36, radius = 1 } }]";
    let run = [&["run", &diffseg, "--limit", "2", "--set", methods][..], &sets].concat();
    let output = machine.run(&server, &run, 0);
    assert!(stdout(&output).contains("TokenRank"), "{}", words(&output));

    // Guidance: the reference is the same folder; sharded weights; the miniature's features.
    let guidance = config("guidance-sd15");
    let features = format!("metrics.features=mini:{}", root().join("datasets/mini/models/vit").display());
    machine.run(&server, &["fetch", "--yes", "--for", &guidance, "--set", &features], 0);
    let sets = ["--set", &features, "--set", "task.guidance.image_size=64", "--set", "model.dtype=f32"];
    let small = ["--set", "task.guidance.steps=2", "--set", "metrics.splits=1"];
    let kernel = ["--set", "metrics.kernel={ subsets = 2, subset_size = 2 }"];
    let run = [&["run", &guidance, "--limit", "2"][..], &sets, &small, &kernel].concat();
    machine.run(&server, &run, 0);

    // One file as it is published.
    let to = machine.work().join("datasets/imagenet-segmentation/gtsegs_ijcv.mat");
    let example = machine.work().join("segment.toml");
    let text = std::fs::read_to_string(root().join("configs/mini/segment.toml")).expect("an experiment");
    let (before, after) = text.split_once("[dataset.mini]").expect("its data");
    let (_, after) = after.split_once("[task.segment]").expect("its task");
    let dataset =
        "[dataset.imagenet-segmentation]\npath = 'datasets/imagenet-segmentation/gtsegs_ijcv.mat'\n\n";
    let before = before.replace("datasets/mini", &root().join("datasets/mini").display().to_string());
    std::fs::write(&example, format!("{before}{dataset}[task.segment]{after}")).expect("writable");
    machine.run(&server, &["fetch", "--yes", "--for", "segment.toml"], 0);
    assert!(to.is_file());
    machine.run(&server, &["run", "segment.toml", "--limit", "2", "--set", "task.segment.figures=0"], 0);
}

/// FLUX as it is published: gated, at a pinned commit, in shards.
#[test]
fn the_segmentation_experiments_run_on_a_gated_pipeline_in_shards() {
    let mut published = archives();
    let transformer = "transformer/diffusion_pytorch_model.safetensors";
    let mut flux = as_shards(as_shards(mini("flux"), transformer, 3), "text_encoder_2/model.safetensors", 2);
    // Files that the published pipeline has and that change nothing here.
    for tokenizer in ["tokenizer", "tokenizer_2"] {
        flux.entry(format!("{tokenizer}/special_tokens_map.json")).or_insert(b"{}".to_vec());
    }
    flux.insert("flux1-schnell.safetensors".into(), vec![0; 1000]);
    let repository = published.repository("black-forest-labs/FLUX.1-schnell", "apache-2.0", flux);
    repository.gated = true;
    repository.commit = "741f7c3ce8b383c54771c7003378a50191e9efe9".into();
    let (machine, server) = (Machine::new(), published.serve());
    let segment = config("segment-imagenet");
    let mut without_token = machine.command(&server, &["fetch", "--yes", "--for", &segment]);
    let refused = without_token.env_remove("HF_TOKEN").output().expect("the binary starts");
    assert_eq!(refused.status.code(), Some(3));
    let message = words(&refused);
    assert!(message.contains("Accept its terms") && message.contains("HF_TOKEN"), "{message}");
    assert!(message.contains("gtsegs_ijcv.mat"), "{message}");
    let message = words(&machine.run(&server, &["fetch", "--yes", "--for", &segment], 0));
    assert!(message.contains("terms to accept") && !message.contains("gtsegs"), "fetched already: {message}");
    let methods = "task.segment.methods=['row-select', { bounce = { steps = 2, direction = 'forward', map = 'pretty' } }]";
    let sets = [
        methods,
        "model.dtype=f32",
        "task.segment.image_size=96",
        "task.segment.text_tokens=24",
        "task.segment.layers={ dual = 'all' }",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let output = machine.run(&server, &[&["run", &segment, "--limit", "2"][..], &sets].concat(), 0);
    assert!(stdout(&output).contains("bounce") || stdout(&output).contains("Bounce"), "{}", words(&output));

    // PASCAL VOC, from the user's own folder: the published archive has a published hash, which no stand-in has.
    let message = words(&machine.run(&server, &["fetch", "--yes", "--for", &config("segment-voc")], 3));
    assert!(message.contains("HTTP 404") && message.contains("VOCtrainval_11-May-2012.tar"), "{message}");
    let voc = machine.work().join("datasets/pascal-voc/VOCdevkit/VOC2012");
    let put = |name: &str, bytes: &[u8]| {
        let path = voc.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(path, bytes).expect("writable");
    };
    put("ImageSets/Segmentation/val.txt", b"a\nb\n");
    for id in ["a", "b"] {
        put(&format!("JPEGImages/{id}.jpg"), &jpeg());
        put(&format!("SegmentationClass/{id}.png"), &grey_map());
    }
    machine.run(&server, &["fetch", "--yes", "--for", &config("segment-voc")], 0);
    machine.run(&server, &[&["run", &config("segment-voc"), "--limit", "2"][..], &sets].concat(), 0);
}

/// What is served after a registration only is named, and taken from the user's own file.
#[test]
fn archives_of_the_user_are_unpacked() {
    let (machine, server) = (Machine::new(), published().serve());
    let experiment = machine.work().join("voc.toml");
    let text = std::fs::read_to_string(root().join("configs/mini/diffseg.toml")).expect("an experiment");
    let (before, after) = text.split_once("[dataset.mini]").expect("its data");
    let (_, after) = after.split_once("[task.diffseg]").expect("its task");
    let before = before.replace("datasets/mini", &root().join("datasets/mini").display().to_string());
    let write = |dataset: &str| {
        std::fs::write(&experiment, format!("{before}{dataset}\n[task.diffseg]{after}")).expect("writable");
    };
    write("[dataset.cityscapes]\nroot = 'streets'\n");
    let message = words(&machine.run(&server, &["fetch", "--yes", "--for", "voc.toml"], 3));
    for word in ["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip", "after a registration", "--from"]
    {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    let names = |folder: &str, end: &str| -> Vec<(String, Vec<u8>)> {
        ["val", "train"]
            .map(|split| (format!("{folder}/{split}/bonn/bonn_0_1_{end}.png"), png("0-image.png")))
            .to_vec()
    };
    let own = |name: &str, bytes: Vec<u8>| -> PathBuf {
        let path = machine.dir.path().join(name);
        std::fs::write(&path, bytes).expect("writable");
        path
    };
    let images = own("leftImg8bit_trainvaltest.zip", zip(&names("leftImg8bit", "leftImg8bit")));
    let labels = own("gtFine_trainvaltest.zip", zip(&names("gtFine", "gtFine_labelIds")));
    let from = ["--from", arg(&images), "--from", arg(&labels)];
    machine.run(&server, &[&["fetch", "--for", "voc.toml", "--yes"][..], &from].concat(), 0);
    assert_eq!(
        tree(&machine.work().join("streets")),
        ["gtFine/val/bonn/bonn_0_1_gtFine_labelIds.png", "leftImg8bit/val/bonn/bonn_0_1_leftImg8bit.png"]
    );
    assert!(images.is_file(), "the user's own file was removed");

    // An archive whose hash is published must be that archive.
    write("[dataset.pascal-voc]\nroot = 'VOC2012'\n");
    let voc =
        own("VOCtrainval_11-May-2012.tar", tar(&[("VOCdevkit/VOC2012/JPEGImages/a.jpg".into(), jpeg())]));
    let message =
        words(&machine.run(&server, &["fetch", "--yes", "--for", "voc.toml", "--from", arg(&voc)], 3));
    assert!(message.contains("MD5") && message.contains("6cd6e144f989b92b3379bac3b3de84fd"), "{message}");
    // A file that no experiment lacks is a mistake.
    let other = own("other.zip", zip(&[]));
    let message =
        words(&machine.run(&server, &["fetch", "--yes", "--for", "voc.toml", "--from", arg(&other)], 2));
    assert!(message.contains("no experiment lacks a file of this name"), "{message}");
    assert!(message.contains("VOCtrainval_11-May-2012.tar"), "{message}");
}

/// Nothing is downloaded without consent, and the table comes first.
#[test]
fn a_script_must_say_yes() {
    let (machine, server) = (Machine::new(), published().serve());
    let file = config("masking-dinov1");
    let message = words(&machine.run(&server, &["fetch", "--for", &file], 2));
    for word in [
        "facebook/dino-vits8",
        "dl.fbaipublicfiles.com",
        "Apache-2.0",
        "ILSVRC/imagenet-1k",
        "terms to accept",
        "add --yes",
    ] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    let loads = |server: &Server| {
        let requests = server.requests();
        requests.iter().filter(|request| request.method == "GET" && !request.path.contains("/api/")).count()
    };
    assert_eq!(loads(&server), 0);
    assert!(tree(&machine.work()).is_empty(), "{:?}", tree(&machine.work()));
}

/// What one server refuses does not keep the others from being asked, and every refusal is said.
#[test]
fn a_server_that_refuses_does_not_stop_the_others() {
    let mut published = published();
    published.web.clear();
    let (machine, server) = (Machine::new(), published.serve());
    let file = config("masking-dinov1");
    let message = words(&machine.run(&server, &["fetch", "--yes", "--for", &file], 3));
    for word in ["dino_deitsmall8_linearweights.pth", "refused or no answer", "HTTP 404"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    let hub = machine.dir.path().join("hf/hub");
    assert!(
        hub.join("models--facebook--dino-vits8").is_dir()
            && hub.join("datasets--ILSVRC--imagenet-1k").is_dir()
    );
    server_gone(&machine, &file);
}

/// Without any server, every item is named.
fn server_gone(machine: &Machine, file: &str) {
    let server = published().serve();
    let mut command =
        machine.command(&server, &["fetch", "--yes", "--for", file, "--set", "model.id=someone/else"]);
    let nobody = "http://127.0.0.1:1";
    let output =
        command.env("HF_ENDPOINT", nobody).env("TOKENRANK_MIRROR", nobody).output().expect("an answer");
    let message = words(&output);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.matches("cannot reach http://127.0.0.1:1").count() >= 2, "{message}");
    assert!(message.contains("2 problems"), "{message}");
}

/// Any checkpoint of the hub is fetched by its id; what is none is refused before anything is loaded.
#[test]
fn any_checkpoint_is_fetched_by_its_id() {
    let mut published = published();
    published.repository("someone/my-vit", "mit", as_torch(mini("vit")));
    published.repository("someone/words", "mit", Files::from([("README.md".into(), b"# words".to_vec())]));
    let gated = published.repository("someone/gated", "other", mini("vit"));
    gated.gated = true;
    let (machine, server) = (Machine::new(), published.serve());
    machine.run(&server, &["fetch", "someone/my-vit"], 0);
    let mini_config = root().join("configs/mini/masking-vit.toml");
    let run = ["run", arg(&mini_config), "--set", "model.id=someone/my-vit", "--limit", "2"];
    machine.run(&server, &run, 0);
    let message = words(&machine.run(&server, &["fetch", "someone/words"], 3));
    assert!(message.contains("neither config.json nor model_index.json"), "{message}");
    let config = config("masking-vit");
    let fetch = ["fetch", "--yes", "--for", &config, "--set", "model.id=someone/gated"];
    let message = words(&machine.run(&server, &fetch, 0));
    assert!(message.contains("someone/gated") && message.contains("terms to accept"), "{message}");
    let message = words(&machine.run(&server, &["fetch", "someone/absent"], 3));
    assert!(message.contains("404"), "{message}");
    let message = words(&machine.run(&server, &["fetch", "inception-2015-12-05"], 3));
    assert!(message.contains("HTTP 404") && message.contains("TOKENRANK_MIRROR"), "{message}");
}

/// The token goes to the hub and to nobody else, not even after a redirect of the hub.
#[test]
fn the_token_stays_with_the_hub() {
    let elsewhere = published().serve();
    let url = elsewhere.url();
    let hub = published().serve_with(move |request, reply| {
        match request.method == "GET" && request.path.contains("pytorch_model.bin") {
            true => crate::server::Reply::status(302).with("Location", &format!("{url}{}", request.path)),
            false => reply,
        }
    });
    let machine = Machine::new();
    machine.run(&hub, &["fetch", "facebook/dino-vits8"], 0);
    assert!(!elsewhere.requests().is_empty());
    assert!(elsewhere.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    assert!(hub.requests().iter().any(|request| request.headers.contains_key("authorization")));
    // Nor to web addresses.
    let mirror = published().serve();
    let mut command = machine.command(&hub, &["fetch", "dino-vits8-linear"]);
    let output = command.env("TOKENRANK_MIRROR", mirror.url()).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(!mirror.requests().is_empty());
    assert!(mirror.requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

/// Servers that cut, that forget ranges or lengths, that are busy, and files that change meanwhile.
#[test]
fn web_addresses_are_fetched_from_poor_servers() {
    let head = "dino_deitsmall8_linearweights.pth";
    let counter = std::sync::atomic::AtomicUsize::new(0);
    let nth = move || counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    type Twist =
        Box<dyn Fn(&crate::server::Request, crate::server::Reply) -> crate::server::Reply + Send + Sync>;
    let twists: Vec<(&str, Twist)> = vec![
        (
            "cut",
            Box::new(move |request, mut reply| {
                if request.method == "GET" && nth() < 3 {
                    reply.cut_after = Some((reply.content.len() - reply.start) / 2);
                }
                reply
            }),
        ),
        (
            "no ranges",
            Box::new(|_, mut reply| {
                reply.start = 0;
                reply
            }),
        ),
        (
            "no length",
            Box::new(|_, mut reply| {
                reply.length = Length::Absent;
                reply
            }),
        ),
        ("no validator", Box::new(|_, reply| reply.without("ETag"))),
        ("other hosts", {
            let elsewhere = published().serve();
            Box::new(move |request, _| {
                crate::server::Reply::status(302)
                    .with("Location", &format!("{}{}", elsewhere.url(), request.path))
            })
        }),
    ];
    for (what, twist) in twists {
        let (machine, server) = (Machine::new(), published().serve_with(twist));
        machine.run(&server, &["fetch", "dino-vits8-linear"], 0);
        let found = std::fs::read(machine.work().join("checkpoints").join(head)).expect("the file");
        let (same, whole) =
            (found.iter().zip(published_head()).position(|(a, b)| *a != b), published_head().len());
        assert!(
            found == published_head(),
            "{what}: {} of {whole} bytes, first difference at {same:?}",
            found.len()
        );
        assert_eq!(tree(&machine.work().join("checkpoints")), [head], "{what}");
    }
    for (status, word) in
        [(401, "HTTP 401"), (403, "HTTP 403"), (404, "HTTP 404"), (429, "HTTP 429"), (500, "HTTP 500")]
    {
        let server = published().serve_with(move |_, _| crate::server::Reply::status(status));
        let machine = Machine::new();
        let message = words(&machine.run(&server, &["fetch", "dino-vits8-linear"], 3));
        assert!(message.contains(word), "{message}");
        assert!(tree(&machine.work()).is_empty());
    }
    // Another file than the first time is refused, and the first one stays.
    let (machine, server) = (Machine::new(), published().serve());
    machine.run(&server, &["fetch", "dino-vits8-linear"], 0);
    std::fs::remove_file(machine.work().join("checkpoints").join(head)).expect("the file");
    let mut other = published();
    other.web.values_mut().for_each(|content| *content.last_mut().expect("bytes") ^= 1);
    let other = other.serve();
    let message = words(&machine.run(&other, &["fetch", "dino-vits8-linear"], 3));
    assert!(message.contains("is not the pinned one") && message.contains("models.lock.toml"), "{message}");
    assert!(tree(&machine.work().join("checkpoints")).is_empty());
}

/// Four processes fetch the same archive at once; one unpacks it, the others wait.
#[test]
fn four_processes_share_one_download() {
    let (machine, server) = (
        Machine::new(),
        archives().serve_with(|_, mut reply| {
            reply.pace = Some((20_000, std::time::Duration::from_millis(2)));
            reply
        }),
    );
    let coco = machine.work().join("datasets/coco/val2017");
    std::fs::create_dir_all(&coco).expect("writable");
    std::fs::write(coco.join("000000000139.jpg"), jpeg()).expect("writable");
    let file = config("diffseg-coco-stuff");
    let args = ["fetch", "--yes", "--for", &file];
    let children: Vec<_> = (0..4)
        .map(|_| {
            machine.command(&server, &args).stdout(std::process::Stdio::null()).spawn().expect("started")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("ended").success());
    }
    let downloads = server
        .requests()
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("stuffthingmaps"))
        .count();
    assert_eq!(downloads, 1);
    assert_eq!(tree(&machine.work().join("datasets/coco/stuffthingmaps")).len(), 2);
}

/// A process that is killed at any moment leaves nothing that the next one takes for complete.
#[cfg(unix)]
#[test]
fn a_killed_fetch_of_an_archive_resumes() {
    use std::os::unix::process::ExitStatusExt;

    let (machine, server) = (
        Machine::new(),
        archives().serve_with(|_, mut reply| {
            reply.pace = Some((4_000, std::time::Duration::from_millis(3)));
            reply
        }),
    );
    let coco = machine.work().join("datasets/coco/val2017");
    std::fs::create_dir_all(&coco).expect("writable");
    std::fs::write(coco.join("000000000139.jpg"), jpeg()).expect("writable");
    let file = config("diffseg-coco-stuff");
    let args = ["fetch", "--yes", "--for", &file];
    let maps = machine.work().join("datasets/coco/stuffthingmaps/val2017");
    let mut killed = 0;
    for wait in [30, 60, 90, 120, 150, 200, 260, 320, 400] {
        let mut child = machine.command(&server, &args).spawn().expect("started");
        std::thread::sleep(std::time::Duration::from_millis(wait));
        let _ = child.kill();
        killed += usize::from(child.wait().expect("ended").signal() == Some(9));
        // It is there whole or not at all.
        assert!(!maps.exists() || tree(&maps).len() == 2, "{:?}", tree(&maps));
    }
    assert!(killed > 0, "every process was faster");
    machine.run(&server, &args, 0);
    assert_eq!(tree(&machine.work().join("datasets/coco/stuffthingmaps")).len(), 2);
    let rest = tree(&machine.work().join("datasets"));
    assert!(rest.iter().all(|name| !name.contains("/.") && !name.ends_with(".zip")), "{rest:?}");
}

/// A proxy that opens tunnels to `server`, whatever host is asked for. Returns its address and what it was asked for.
fn proxy(server: &Server) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (log, server) = (std::sync::Arc::clone(&asked), server.address);
    let tunnel = move |stream: TcpStream, log: &std::sync::Mutex<Vec<String>>| -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        log.lock().expect("no panic").push(first.trim().to_owned());
        let mut line = String::from("x");
        while !line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let mut client = stream;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let upstream = TcpStream::connect(server)?;
        let (mut up, mut down, mut back) = (upstream.try_clone()?, upstream, client);
        let there = std::thread::spawn(move || std::io::copy(&mut reader, &mut up));
        std::io::copy(&mut down, &mut back)?;
        back.shutdown(std::net::Shutdown::Both)?;
        drop(there.join());
        Ok(())
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = std::sync::Arc::clone(&log);
            std::thread::spawn(move || tunnel(stream, &log));
        }
    });
    (address, asked)
}

/// The proxies of the environment are used, except for the hosts that it excludes.
#[test]
fn proxies_are_obeyed() {
    let server = published().serve();
    let (address, asked) = proxy(&server);
    for (name, excluded, reached) in
        [("HTTP_PROXY", "", true), ("ALL_PROXY", "other.invalid", true), ("HTTP_PROXY", "hub.invalid", false)]
    {
        let machine = Machine::new();
        let mut command = machine.command(&server, &["fetch", "facebook/dino-vits8"]);
        for other in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(other).env_remove(other.to_lowercase());
        }
        command.env("HF_ENDPOINT", "http://hub.invalid").env_remove("TOKENRANK_MIRROR");
        let output =
            command.env(name, &address).env("NO_PROXY", excluded).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(if reached { 0 } else { 3 }), "{name}: {}", words(&output));
        let asked = std::mem::take(&mut *asked.lock().expect("no panic"));
        assert_eq!(asked.first().is_some_and(|line| line.starts_with("CONNECT hub.invalid:80")), reached);
    }
}
