//! Decodes the JPEG files of a folder for every line of stdin, and answers with the number of milliseconds for an image.
//!
//! `cargo run --release --package models --example bench_jpeg -- DIR`; `tools/bench_jpeg.py` times Pillow in turn with it.

use std::path::Path;
use std::time::Instant;

use models::image::Rgb8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("give a folder of JPEG files")?;
    let mut paths: Vec<_> =
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let is_jpeg = |path: &Path| {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        ending == "jpeg" || ending == "jpg"
    };
    paths.retain(|path| is_jpeg(path));
    paths.sort();
    let files = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        for file in &files {
            std::hint::black_box(Rgb8::decode(file)?);
        }
        println!("{}", start.elapsed().as_secs_f64() * 1e3 / files.len() as f64);
    }
    Ok(())
}
