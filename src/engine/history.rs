//! The steps that made an image.

use serde_json::Value;

use super::{Engine, EngineError};
use crate::model::{Digest, Platform, Timestamp};

/// One step, the last first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image that it made, where that is known: the last step's.
    pub image: Option<Digest>,
    /// When.
    pub created: Option<Timestamp>,
    /// By what.
    pub created_by: String,
    /// What was said about it.
    pub comment: String,
    /// Bytes of its layer, unpacked; 0 if it made none.
    pub size: u64,
}

impl Engine {
    /// The history of an image, the last step first.
    pub fn history(&self, typed: &str, platform: Option<&Platform>) -> Result<Vec<HistoryStep>, EngineError> {
        let wanted: Vec<Platform> = platform.into_iter().cloned().collect();
        let stored = self.find_image(typed, &wanted).map_err(|error| match error {
            EngineError::MissingImage { name } => EngineError::NoImage { name },
            other => other,
        })?;
        let image = stored.image;
        let layers = self.store()?.layers();
        let mut left = image.layers.iter();
        let mut steps = Vec::new();
        let text =
            |step: &Value, key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        for step in &image.history {
            let empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or(false);
            let layer = if empty { None } else { left.next() };
            steps.push(HistoryStep {
                image: None,
                created: text(step, "created").parse().ok(),
                created_by: text(step, "created_by"),
                comment: text(step, "comment"),
                size: layer.map_or(Ok(0), |layer| layers.unpacked_size(&layer.diff_id))?,
            });
        }
        // An image that tells less than it has: what it does not tell is shown as steps without words.
        for layer in left {
            steps.push(HistoryStep {
                image: None,
                created: image.created,
                created_by: String::new(),
                comment: String::new(),
                size: layers.unpacked_size(&layer.diff_id)?,
            });
        }
        steps.reverse();
        if let Some(last) = steps.first_mut() {
            last.image = Some(image.id);
        }
        Ok(steps)
    }
}
