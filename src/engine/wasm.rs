//! What is in the program of a Wasm image, for `image inspect`.

use std::io::{self, Read};
use std::path::Path;

use cap_std::fs::Dir;

use super::{Engine, EngineError};
use crate::executor::wasm::{self, Contents};
use crate::model::{Image, Packaging};

/// A program larger than this is not described.
const MOST: u64 = 512 << 20;

impl Engine {
    /// What the image's program is, imports, exports and would need to be granted; `None` where it is no Wasm program, or where
    /// its file is not found or not understood: what a program is must not stand in the way of looking at its image.
    pub fn wasm_contents(&self, image: &Image) -> Result<Option<Contents>, EngineError> {
        let named = image.config.entrypoint.iter().chain(&image.config.cmd).next();
        let named = named.map(|name| name.split('#').next().unwrap_or(name).to_owned());
        let program = if image.packaging == Packaging::Image {
            let is_wasm = |name: &String| {
                image.platform.is_wasi() || Path::new(name).extension().is_some_and(|end| end == "wasm")
            };
            match named.filter(is_wasm) {
                Some(name) if name.starts_with('/') => name,
                Some(name) => format!("{}/{name}", image.config.working_dir),
                None => return Ok(None),
            }
        } else {
            Image::WASM_FILE.to_owned()
        };
        let store = self.store()?;
        let path = program.trim_start_matches('/');
        // The topmost layer that has the file has the last word.
        for layer in image.layers.iter().rev() {
            match read(&store.layers().path(&layer.diff_id), path) {
                Ok(bytes) => {
                    return Ok(wasm::inspect(&bytes)
                        .inspect_err(|error| tracing::debug!(%error, path, "describing a program"))
                        .ok());
                }
                Err(error) => tracing::debug!(%error, path, "looking for a program in a layer"),
            }
        }
        Ok(None)
    }
}

/// A regular file of a layer, through open directories.
fn read(layer: &Path, path: &str) -> io::Result<Vec<u8>> {
    let dir = Dir::open_ambient_dir(layer, cap_std::ambient_authority())?;
    if !dir.metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    dir.open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
