//! Images that note an orientation: turned where masks of one's own are laid over them, as they are stored elsewhere.

use models::notes;
use png::ColorType::{Grayscale, Rgb};
use serde_json::json;
use tasks::dataset::Sourced;
use tempfile::TempDir;

use super::{dataset, folder, listed, load, load_refusal, png};

const SIZE: (usize, usize) = (3, 2);
/// Where each pixel of the upright image is stored, by orientation; the stored pixels are 0 to 5.
const UPRIGHT: [(u8, usize, [u8; 6]); 8] = [
    (1, 3, [0, 1, 2, 3, 4, 5]),
    (2, 3, [2, 1, 0, 5, 4, 3]),
    (3, 3, [5, 4, 3, 2, 1, 0]),
    (4, 3, [3, 4, 5, 0, 1, 2]),
    (5, 2, [0, 3, 1, 4, 2, 5]),
    (6, 2, [3, 0, 4, 1, 5, 2]),
    (7, 2, [5, 2, 4, 1, 3, 0]),
    (8, 2, [2, 5, 1, 4, 0, 3]),
];

/// A PNG of grey pixels 0 to 5 as RGB, with its orientation.
fn noted(orientation: u8) -> Vec<u8> {
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    let mut info = png::Info::with_size(SIZE.0 as u32, SIZE.1 as u32);
    (info.color_type, info.bit_depth, info.exif_metadata) = (Rgb, png::BitDepth::Eight, Some(exif.into()));
    let mut writer =
        png::Encoder::with_info(&mut bytes, info).expect("an encoder").write_header().expect("a header");
    let samples: Vec<u8> = (0..6).flat_map(|grey| [grey; 3]).collect();
    writer.write_image_data(&samples).expect("samples");
    writer.finish().expect("a picture");
    bytes
}

/// One such image with an upright mask of this width.
fn masked(orientation: u8, width: usize) -> TempDir {
    folder(&[
        ("labels.csv", b"file,name\na.png,cat\n".to_vec()),
        ("images/a.png", noted(orientation)),
        ("masks/a.png", png(width, Grayscale, &[1, 0, 0, 0, 0, 0])),
    ])
}

#[test]
fn images_are_rotated_before_user_masks_are_applied() {
    for (orientation, width, pixels) in UPRIGHT {
        let dir = masked(orientation, width);
        let masks = dataset("masks", json!({ "root": dir.path() }));
        let found = load(&listed(&masks)[0]);
        assert_eq!((found.rgb.width, found.rgb.height), (width, 6 / width), "{orientation}");
        assert_eq!(found.labels.dim(), (6 / width, width), "{orientation}");
        let grey: Vec<u8> = found.rgb.data.iter().step_by(3).copied().collect();
        assert_eq!(grey, pixels, "{orientation}");
        // With a class for every pixel it is the same image.
        let dense = masks.labelled_pixels().expect("a dataset").items[0].load().expect("an image");
        assert_eq!((dense.rgb, dense.labels), (found.rgb, found.labels), "{orientation}");
        // What an item is made from is told without decoding it.
        assert_eq!(listed(&masks)[0].sha256().expect("readable"), found.sha256);
        assert_eq!(dense.sha256, found.sha256);
    }
    // A mask that was drawn on the stored pixels.
    let dir = masked(6, 3);
    let message = load_refusal(&listed(&dataset("masks", json!({ "root": dir.path() })))[0]);
    for word in ["3×2", "2×3", "EXIF orientation 6", "draw the mask on the upright image"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
}

#[test]
fn published_data_and_images_with_a_label_are_read_as_they_are_stored() {
    let dir = folder(&[
        ("ImageSets/Segmentation/val.txt", b"a\n".to_vec()),
        // PNG for all its name: only the bytes count.
        ("JPEGImages/a.jpg", noted(6)),
        ("SegmentationClass/a.png", png(3, Grayscale, &[1, 0, 0, 0, 0, 0])),
        ("labels.csv", b"file,label\nJPEGImages/a.jpg,0\n".to_vec()),
    ]);
    let voc = dataset("pascal-voc", json!({ "root": dir.path() }));
    let found = load(&listed(&voc)[0]);
    assert_eq!((found.rgb.width, found.rgb.height), SIZE);
    let images = dataset("folder", json!({ "root": dir.path() })).items(1).expect("a dataset");
    let image = images[0].load().expect("an image");
    assert_eq!(image.rgb, found.rgb);
    assert_eq!(images[0].sha256().expect("readable"), image.sha256);
    let said = notes::take();
    let ours = said.iter().filter(|line| line.contains("JPEGImages"));
    assert_eq!(ours.count(), 1, "{said:?}");
    assert!(said[0].contains("carries an EXIF orientation: it is ignored"), "{said:?}");
}
