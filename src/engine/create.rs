//! Making a container's record: image, executor, configuration, name.

use crate::executor::{self, Workload};
use crate::model::{
    Container, ContainerId, HostConfig, Image, ImageConfig, Packaging, Platform, RunState, Timestamp,
};
use crate::names;
use crate::reference::Reference;
use crate::state::{StateError, StoredImage};

use super::progress::Progress;
use super::{Engine, EngineError, Wishes, merge};

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always ask the registry.
    Always,
    /// When it is not in the store.
    #[default]
    Missing,
    /// Not at all.
    Never,
}

/// What the user wishes for a new container.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The image, as typed.
    pub image: String,
    /// What runs in it.
    pub wishes: Wishes,
    /// Its id, which nothing else has; a random one otherwise.
    pub id: Option<ContainerId>,
    /// Its name; a random one otherwise.
    pub name: Option<String>,
    /// The wanted platform; what this host prefers otherwise.
    pub platform: Option<Platform>,
    /// The wanted executor.
    pub runtime: Option<String>,
    /// When to pull.
    pub pull: PullPolicy,
    /// How it is confined, limited and supervised. A volume without a name is anonymous and gets one.
    pub host: HostConfig,
}

/// How often a random name is drawn before the engine gives up.
const NAME_TRIES: u32 = 20;

impl Engine {
    /// Makes a container's record (state *created*), pulling the image when the policy says so.
    pub fn create(
        &self,
        options: &CreateOptions,
        progress: &dyn Progress,
    ) -> Result<(Container, Image), EngineError> {
        super::check_host(&options.host)?;
        let (reference, stored) = self.image_for(options, progress)?;
        let image = stored.image;
        let config = merge(&own_program(&image), &options.wishes)?;
        let args = config.args();
        if args.is_empty() {
            return Err(EngineError::NoCommand);
        }
        let workload = Workload {
            platform: image.platform.clone(),
            packaging: image.packaging,
            program: args.first().cloned(),
            wants: super::wants::wants(&options.host, &options.wishes),
        };
        let entries = executor::entries();
        let choice = match executor::runtimes::find(options.runtime.as_deref(), &self.config.runtimes)? {
            Some(runtime) => executor::select_installed(&entries, &workload, runtime)?,
            None => executor::select(&entries, &workload, options.runtime.as_deref())?.1,
        };
        let mut container = Container {
            id: options.id.clone().map_or_else(random_id, Ok)?,
            name: options.name.clone().unwrap_or_default(),
            created: Timestamp::now(),
            image: image.id.clone(),
            image_name: reference,
            layers: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            platform: image.platform.clone(),
            executor: choice,
            config,
            host: options.host.clone(),
            state: RunState::default(),
        };
        self.foretell(&container);
        // What was to remove itself and could not gives its name back. What cannot be removed is no reason not to go on.
        if let Err(error) = self.reconcile() {
            tracing::warn!(%error, "clearing away what lost supervisors left");
        }
        self.resolve_joins(&mut container)?;
        self.resolve_networks(&mut container)?;
        self.resolve_mounts(&mut container)?;
        let lock = self.assign_ids(&mut container)?;
        self.insert(&mut container)?;
        drop(lock);
        Ok((container, image))
    }

    fn insert(&self, container: &mut Container) -> Result<(), EngineError> {
        if !container.name.is_empty() {
            return Ok(self.database.insert_container(container)?);
        }
        for attempt in 0.. {
            container.name = names::random(&random_bytes()?, attempt);
            match self.database.insert_container(container) {
                Err(StateError::NameTaken { .. }) if attempt < NAME_TRIES => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(())
    }

    /// The image to run, and how to show its name.
    fn image_for(
        &self,
        options: &CreateOptions,
        progress: &dyn Progress,
    ) -> Result<(String, StoredImage), EngineError> {
        let wanted = options.platform.clone().map_or_else(executor::default_platforms, |one| vec![one]);
        if options.pull != PullPolicy::Always {
            match self.find_image(&options.image, &wanted) {
                Ok(found) => return Ok((self.shown(&options.image, &found), found)),
                Err(error) if !error.is_missing_image() => return Err(error),
                Err(error) if options.pull == PullPolicy::Never => return Err(error),
                Err(_) => {}
            }
        }
        let reference = self.reference(&options.image)?;
        // The demo image is carried along: nothing is fetched.
        if options.pull == PullPolicy::Missing && reference.registry() != crate::demo::REGISTRY {
            progress.missing(&reference.to_string());
        }
        self.pull(&reference, &wanted, progress)?;
        let found = self.find_image(&options.image, &wanted)?;
        Ok((self.shown(&options.image, &found), found))
    }

    /// The image's name as `ps` shows it: what was typed, in familiar form, or the id it resolved to.
    fn shown(&self, typed: &str, found: &StoredImage) -> String {
        match self.reference(typed) {
            Ok(reference) if found.names.contains(&reference.canonical()) => typed.to_owned(),
            _ if found.image.id.hex().starts_with(typed) => found.image.id.short().to_owned(),
            _ => typed.to_owned(),
        }
    }

    /// A typed name with aliases applied.
    pub(super) fn reference(&self, typed: &str) -> Result<Reference, EngineError> {
        Ok(self.config.reference(typed)?)
    }
}

/// The image's config with its program named. A raw WebAssembly layer is the program: artifacts name none, and images of this
/// shape name a file that exists nowhere, so only the arguments that follow the name are theirs.
fn own_program(image: &Image) -> ImageConfig {
    let mut config = image.config.clone();
    if image.packaging != Packaging::Image {
        let program = format!("/{}", Image::WASM_FILE);
        let named = if config.entrypoint.is_empty() { &mut config.cmd } else { &mut config.entrypoint };
        if !named.is_empty() {
            named.remove(0);
        }
        config.entrypoint.insert(0, program);
    }
    config
}

pub(super) fn random_bytes() -> Result<[u8; 32], EngineError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|source| EngineError::Random { source })?;
    Ok(bytes)
}

/// A new id. Docker draws again while the short form is all digits, since a host name of digits confuses programs.
pub(super) fn random_id() -> Result<ContainerId, EngineError> {
    loop {
        let id = ContainerId::from_bytes(random_bytes()?);
        if id.short().bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_raw_wasm_layer_is_the_layer() {
        let demo = crate::demo::layout();
        let mut image = demo.variants.into_iter().find(|v| v.image.platform.is_wasi()).unwrap().image;
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (entrypoint, cmd, then_entrypoint, then_cmd) in [
            (text(&[]), text(&[]), text(&["/module.wasm"]), text(&[])),
            (text(&["/app.wasm", "-v"]), text(&["x"]), text(&["/module.wasm", "-v"]), text(&["x"])),
            (text(&[]), text(&["/app.wasm", "x"]), text(&["/module.wasm"]), text(&["x"])),
        ] {
            (image.config.entrypoint, image.config.cmd) = (entrypoint, cmd);
            let config = own_program(&image);
            assert_eq!((config.entrypoint, config.cmd), (then_entrypoint, then_cmd));
        }
        image.packaging = Packaging::Image;
        image.config.entrypoint = text(&["/app"]);
        assert_eq!(own_program(&image), image.config);
    }
}
