//! The programs of Wasm images: what is in them, for `image inspect`, and compiling them before they are run.

use std::io::{self, Read};
use std::path::Path;

use cap_std::fs::Dir;

use super::progress::{Phase, Progress};
use super::{Engine, EngineError};
use crate::executor::wasm::{self, Caches, CodeUsage, Contents, Programs};
use crate::model::{Image, Kind as _, Packaging, chain};

/// A program larger than this is not described.
const MOST: u64 = 512 << 20;

/// Where an image's program is; `None` where it is no Wasm program.
fn program(image: &Image) -> Option<String> {
    if image.packaging != Packaging::Image {
        return Some(Image::WASM_FILE.to_owned());
    }
    let named = image.config.entrypoint.iter().chain(&image.config.cmd).next()?;
    let name = named.split('#').next().unwrap_or(named);
    if !image.platform.is_wasi() && Path::new(name).extension().is_none_or(|end| end != "wasm") {
        return None;
    }
    Some(if name.starts_with('/') { name.to_owned() } else { format!("{}/{name}", image.config.working_dir) })
}

impl Engine {
    /// What the image's program is, imports, exports and would need to be granted; `None` where it is no Wasm program, or where
    /// its file is not found or not understood: what a program is must not stand in the way of looking at its image.
    pub fn wasm_contents(&self, image: &Image) -> Result<Option<Contents>, EngineError> {
        let Some(program) = program(image) else { return Ok(None) };
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

    /// Compiles the image's program, if it has one, so that the first run need not. A program that does not compile is no failure
    /// here: whoever runs it is told.
    pub(super) fn compile(&self, image: &Image, progress: &dyn Progress) {
        let Some(program) = program(image) else { return };
        let Ok(store) = self.store() else { return };
        for layer in image.layers.iter().rev() {
            let short = layer.digest.short();
            let mut compiling = || progress.layer(short, Phase::Compiling);
            match wasm::prepare(
                &self.caches(),
                &store.layers().path(&layer.diff_id),
                &program,
                &mut compiling,
            ) {
                Ok(true) => {
                    progress.layer(short, Phase::Compiled);
                    self.trim_compiled();
                    return;
                }
                Ok(false) => return,
                Err(error) if error.kind() == crate::model::ErrorKind::CommandNotFound => {}
                Err(error) => {
                    tracing::info!(error = chain(&error), program, "compiling the program of an image");
                    return;
                }
            }
        }
    }

    fn caches(&self) -> Caches {
        Caches { dir: self.root.join("cache"), interpreted: self.interpreted() }
    }

    /// What compiled modules take; what cannot be read counts as nothing.
    pub(super) fn compiled(&self) -> CodeUsage {
        wasm::usage(&self.caches()).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "measuring compiled modules");
            CodeUsage::default()
        })
    }

    fn trim_compiled(&self) {
        let Some(budget) = self.config.wasm.cache else { return };
        if let Err(error) = wasm::trim(&self.caches(), budget) {
            tracing::warn!(error = chain(&error), "keeping compiled modules to their budget");
        }
    }

    /// Removes compiled modules that no image has; tells how many bytes went.
    pub(super) fn free_compiled(&self) -> u64 {
        let freed = self.programs().and_then(|programs| Ok(wasm::keep_only(&self.caches(), &programs)?));
        freed.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "removing compiled modules that no image has");
            0
        })
    }

    /// The programs of all images, wherever they may be.
    fn programs(&self) -> Result<Programs, EngineError> {
        let store = self.store()?;
        let mut programs = Programs::new();
        for view in self.images()? {
            let Some(program) = program(&view.image) else { continue };
            let layers = view.image.layers.iter().map(|layer| store.layers().path(&layer.diff_id));
            programs.extend(layers.map(|layer| (layer, program.clone())));
        }
        Ok(programs)
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
