//! Reads `preprocessor_config.json` as the processor class that it names does.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::crop::CropRule;
use super::pixels::checked_area;
use super::preprocess::{Arithmetic, Crop, Normalize};
use super::{ImageError, Preprocessor, Resample, ResizeRule, timm_transform};
use crate::limits;
use crate::limits::MAX_PIXELS;

/// Defaults of a processor class of `transformers` 5.23.
struct Defaults {
    processor: &'static str,
    /// The `model_type`s of `config.json` that imply this class.
    model_types: &'static [&'static str],
    arithmetic: Arithmetic,
    resample: Resample,
    size: ResizeRule,
    /// Whether a bare number is the side of a square; otherwise it is the shortest edge.
    square: bool,
    do_center_crop: bool,
    crop: Option<(usize, usize)>,
    normalize: Normalize,
}

const STANDARD: Normalize = Normalize { mean: [0.5; 3], std: [0.5; 3] };
const CLIP: Normalize = Normalize {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
};
const SHORTEST_224: ResizeRule = ResizeRule::ShortestEdge { shortest: 224, longest: None };

const CLASSES: [Defaults; 6] = [
    Defaults {
        processor: "ViTImageProcessor",
        model_types: &["vit"],
        arithmetic: Arithmetic::EightBit,
        resample: Resample::Bilinear,
        size: ResizeRule::Exact { height: 224, width: 224 },
        square: true,
        do_center_crop: false,
        crop: None,
        normalize: STANDARD,
    },
    Defaults {
        processor: "DeiTImageProcessor",
        model_types: &["deit"],
        arithmetic: Arithmetic::EightBit,
        resample: Resample::Bicubic,
        size: ResizeRule::Exact { height: 256, width: 256 },
        square: true,
        do_center_crop: true,
        crop: Some((224, 224)),
        normalize: STANDARD,
    },
    Defaults {
        processor: "CLIPImageProcessor",
        model_types: &["clip", "clip_vision_model"],
        arithmetic: Arithmetic::EightBit,
        resample: Resample::Bicubic,
        size: SHORTEST_224,
        square: false,
        do_center_crop: true,
        crop: Some((224, 224)),
        normalize: CLIP,
    },
    Defaults {
        processor: "BitImageProcessor",
        model_types: &["dinov2", "dinov2_with_registers"],
        arithmetic: Arithmetic::EightBit,
        resample: Resample::Bicubic,
        size: SHORTEST_224,
        square: false,
        do_center_crop: true,
        crop: Some((224, 224)),
        normalize: CLIP,
    },
    Defaults {
        processor: "SiglipImageProcessor",
        model_types: &["siglip", "siglip_vision_model"],
        arithmetic: Arithmetic::EightBit,
        resample: Resample::Bicubic,
        size: ResizeRule::Exact { height: 224, width: 224 },
        square: false,
        do_center_crop: false,
        crop: None,
        normalize: STANDARD,
    },
    Defaults {
        processor: "DINOv3ViTImageProcessor",
        model_types: &["dinov3_vit"],
        arithmetic: Arithmetic::Float,
        resample: Resample::Bilinear,
        size: ResizeRule::Exact { height: 224, width: 224 },
        square: true,
        do_center_crop: false,
        crop: None,
        normalize: Normalize::IMAGENET,
    },
];

impl Preprocessor {
    /// Reads the preprocessing of a model directory.
    ///
    /// Reads the `image_processor` part of `processor_config.json`, which `transformers` prefers, or else
    /// `preprocessor_config.json`. If the configuration names no class, the `model_type` in `config.json` decides it. A
    /// network of timm has neither file; its transform is in `config.json`.
    ///
    /// # Errors
    /// [`ImageError::InFile`], naming the file, if it is missing, is not JSON, names an unsupported processor class, or
    /// has values that the class does not accept.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, ImageError> {
        let dir = dir.as_ref();
        let config_path = dir.join("config.json");
        let network = read_json(&config_path).ok();
        let model_type = network.as_ref().and_then(|config| config.get("model_type")?.as_str());

        let nested = dir.join("processor_config.json");
        if nested.is_file()
            && let Some(Value::Object(config)) = read_json(&nested)?.get("image_processor")
        {
            return from_object(config, model_type).map_err(|error| error.in_file(&nested));
        }
        let path = dir.join("preprocessor_config.json");
        if let Some(network) = &network
            && timm_transform::is_of_timm(network)
            && !path.exists()
        {
            return timm_transform::preprocessor(network).map_err(|error| error.in_file(&config_path));
        }
        let config = read_json(&path)?;
        from_value(&config, model_type).map_err(|error| error.in_file(&path))
    }

    /// Reads the text of a `preprocessor_config.json`; `model_type` (of `config.json`) decides the processor class if
    /// the text names none.
    ///
    /// # Errors
    /// [`ImageError::Config`], as [`Preprocessor::from_dir`] but without a file's name.
    pub fn from_json(text: &str, model_type: Option<&str>) -> Result<Self, ImageError> {
        let config = serde_json::from_str(text)
            .map_err(|error| ImageError::config(format!("not valid JSON: {error}")))?;
        from_value(&config, model_type)
    }
}

fn read_json(path: &Path) -> Result<Value, ImageError> {
    let text = limits::read_text(path, limits::CONFIG_BYTES).map_err(|error| {
        let error = if error.kind() == ErrorKind::NotFound {
            ImageError::config(
                "no such file, but it says how images are resized and normalised for this model; copy it from where \
                 the weights came from",
            )
        } else {
            ImageError::Io(error)
        };
        error.in_file(path)
    })?;
    serde_json::from_str(&text)
        .map_err(|error| ImageError::config(format!("not valid JSON: {error}")).in_file(path))
}

fn from_value(config: &Value, model_type: Option<&str>) -> Result<Preprocessor, ImageError> {
    let object = config.as_object().ok_or_else(|| ImageError::config("a JSON object is expected"))?;
    from_object(object, model_type)
}

fn from_object(config: &Map<String, Value>, model_type: Option<&str>) -> Result<Preprocessor, ImageError> {
    let keys = Keys(config);
    let class = class_of(&keys, model_type)?;
    if keys.flag("do_pad", false)? {
        return Err(ImageError::config(
            "`do_pad` is true, but padding is not supported; none of the supported models pads",
        ));
    }

    let square = keys.flag("default_to_square", class.square)?;
    let resize = match keys.flag("do_resize", true)? {
        true => Some(keys.size("size", square)?.unwrap_or(class.size)),
        false => None,
    };
    let resample = match (&resize, keys.get("resample")) {
        (None, None) => None,
        // Also if nothing is resized, since the user may ask for another size.
        _ => keys.resample()?,
    };
    let crop = match keys.flag("do_center_crop", class.do_center_crop)? {
        true => Some(match keys.size("crop_size", true)? {
            Some(ResizeRule::Exact { height, width }) => {
                Crop { size: (height, width), rule: CropRule::Transformers }
            }
            Some(_) => return Err(ImageError::config("`crop_size` must give `height` and `width`")),
            None => class
                .crop
                .map(|size| Crop { size, rule: CropRule::Transformers })
                .ok_or_else(|| ImageError::config("`do_center_crop` is true but `crop_size` is missing"))?,
        }),
        false => None,
    };
    let rescale_factor = match keys.flag("do_rescale", true)? {
        true => Some(keys.number("rescale_factor")?.unwrap_or(1.0 / 255.0)),
        false => None,
    };
    let normalize = match keys.flag("do_normalize", true)? {
        true => {
            let mean = keys.channels("image_mean")?.unwrap_or(class.normalize.mean);
            let std = keys.channels("image_std")?.unwrap_or(class.normalize.std);
            if std.iter().any(|&std| std as f32 <= 0.0) {
                return Err(ImageError::config("`image_std` must be positive in every channel"));
            }
            Some(Normalize { mean, std })
        }
        false => None,
    };
    let (processor, arithmetic) = (class.processor, class.arithmetic);
    let resample = resample.unwrap_or(class.resample);
    if arithmetic == Arithmetic::Float {
        let problem = match resample {
            Resample::Bilinear | Resample::Bicubic => None,
            Resample::Nearest | Resample::Lanczos | Resample::Box | Resample::Hamming => {
                Some("filters other than bilinear (2) and bicubic (3)")
            }
        };
        let problem = problem.or(crop.map(|_| "`do_center_crop`"));
        let problem = problem.or(rescale_factor.is_none().then_some("`do_rescale` = false"));
        if let Some(problem) = problem {
            return Err(ImageError::config(format!(
                "{problem} is not supported for {processor}; no published model of this processor has it"
            )));
        }
    }
    Ok(Preprocessor { processor, arithmetic, resize, resample, crop, rescale_factor, normalize })
}

/// Returns the class that the configuration names, in any of the published spellings, or else the one of the model.
fn class_of(keys: &Keys<'_>, model_type: Option<&str>) -> Result<&'static Defaults, ImageError> {
    let supported = || CLASSES.map(|class| class.processor).join(", ");
    for key in ["image_processor_type", "feature_extractor_type"] {
        let Some(value) = keys.get(key) else { continue };
        let Some(named) = value.as_str() else { return Err(keys.wrong(key, "the name of a class")) };
        let name = named.replace("FeatureExtractor", "ImageProcessor");
        let name = name.trim_end_matches("Fast").trim_end_matches("Pil");
        return CLASSES.iter().find(|class| class.processor == name).ok_or_else(|| {
            ImageError::config(format!(
                "`{key}` is `{named}`, which is not supported; supported are {}",
                supported()
            ))
        });
    }
    let Some(model_type) = model_type else {
        return Err(ImageError::config(format!(
            "there is neither an `image_processor_type` nor a `config.json` that names the model; add the key with one of {}",
            supported()
        )));
    };
    CLASSES.iter().find(|class| class.model_types.contains(&model_type)).ok_or_else(|| {
        ImageError::config(format!(
            "no `image_processor_type`, and the model type `{model_type}` implies none that is known; add the key with \
             one of {}",
            supported()
        ))
    })
}

/// The configuration's keys. As in `transformers`, a switch that is `null` is off, whatever its default. A parameter of
/// a step may be absent but not `null`.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Returns a parameter of a step.
    fn needed(&self, key: &str) -> Result<Option<&Value>, ImageError> {
        match self.0.get(key) {
            Some(Value::Null) => Err(ImageError::config(format!(
                "`{key}` is null, but a step that is done needs it, and transformers refuses such a file; give a value, or \
                 remove the key for the usual one"
            ))),
            found => Ok(found),
        }
    }

    fn wrong(&self, key: &str, expected: &str) -> ImageError {
        let found = self.0.get(key).map(Value::to_string).unwrap_or_default();
        ImageError::config(format!("`{key}` must be {expected}, but is {found}"))
    }

    fn flag(&self, key: &str, absent: bool) -> Result<bool, ImageError> {
        match self.0.get(key) {
            Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
            None => Ok(absent),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ImageError> {
        self.needed(key)?.map(|value| value.as_f64().ok_or_else(|| self.wrong(key, "a number"))).transpose()
    }

    /// Reads three numbers, or one for all channels.
    fn channels(&self, key: &str) -> Result<Option<[f64; 3]>, ImageError> {
        let Some(value) = self.needed(key)? else { return Ok(None) };
        let channels = match value.as_array() {
            Some(list) => list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>(),
            None => value.as_f64().map(|number| vec![number; 3]),
        };
        let channels = channels.and_then(|list| <[f64; 3]>::try_from(list).ok());
        channels
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a number, or three numbers, one for each of R, G, B"))
    }

    fn resample(&self) -> Result<Option<Resample>, ImageError> {
        let Some(value) = self.needed("resample")? else { return Ok(None) };
        let filter = match value.as_str() {
            Some(name) => Resample::from_name(name),
            None => value.as_u64().and_then(Resample::from_code),
        };
        filter.map(Some).ok_or_else(|| {
            self.wrong(
                "resample",
                "0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming, by number or name",
            )
        })
    }

    /// Reads `size` or `crop_size` in any of its forms. Inner keys that are `null` count as missing.
    fn size(&self, key: &str, square: bool) -> Result<Option<ResizeRule>, ImageError> {
        const FORMS: &str = "a number of pixels, {height, width}, {shortest_edge}, {shortest_edge, longest_edge} or \
                             {max_height, max_width}, each at least 1";
        let Some(value) = self.needed(key)? else { return Ok(None) };
        let wrong = || self.wrong(key, FORMS);
        let pixels = |value: &Value| {
            let side = value.as_u64().and_then(|side| usize::try_from(side).ok()).ok_or_else(wrong)?;
            // Impossible sides are refused here instead of once per image.
            checked_area(side, 1, MAX_PIXELS).map_err(|_| wrong())
        };
        let rule = match value {
            Value::Array(list) => match list.as_slice() {
                [height, width] => ResizeRule::Exact { height: pixels(height)?, width: pixels(width)? },
                _ => return Err(wrong()),
            },
            Value::Object(sides) => {
                let side =
                    |name: &str| sides.get(name).filter(|side| !side.is_null()).map(pixels).transpose();
                let known = ["height", "width", "shortest_edge", "longest_edge", "max_height", "max_width"];
                let [height, width, shortest, longest, max_height, max_width] = known.map(side);
                if sides.iter().any(|(name, side)| !side.is_null() && !known.contains(&name.as_str())) {
                    return Err(wrong());
                }
                match (height?, width?, shortest?, longest?, max_height?, max_width?) {
                    (Some(height), Some(width), None, None, None, None) => {
                        ResizeRule::Exact { height, width }
                    }
                    (None, None, Some(shortest), longest, None, None) => {
                        ResizeRule::ShortestEdge { shortest, longest }
                    }
                    (None, None, None, None, Some(max_height), Some(max_width)) => {
                        ResizeRule::Within { max_height, max_width }
                    }
                    _ => return Err(wrong()),
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) if square => {
                ResizeRule::Exact { height: pixels(value)?, width: pixels(value)? }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                ResizeRule::ShortestEdge { shortest: pixels(value)?, longest: None }
            }
        };
        Ok(Some(rule))
    }
}
