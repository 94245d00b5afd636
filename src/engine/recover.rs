//! After an unclean end: what was in flight is looked at by whoever comes next.
//!
//! Whatever changes the store holds a lease, which is a lock of the kernel's with a row beside it. A row whose lock is free was
//! left by a process that was killed, or by a machine that lost its power: commands that change something look for one
//! first, which costs one read of a table that is otherwise empty. After a mere kill nothing can be half written under its final
//! name, and only leftovers are removed. After a restart of the machine what the lease names is read and compared as well.

use crate::model::{Digest, Layer};
use crate::store::{Depth, Flaw, LayerState};

use super::{Engine, EngineError};

impl Engine {
    /// Does something that changes the store, while a lease holds `content` and marks it as in flight.
    pub(super) fn holding<T>(
        &self,
        content: &[Digest],
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let lease = self.database.lease(content)?;
        let outcome = work();
        let released = self.database.release(lease);
        // What went wrong first is what is to be told.
        let value = outcome?;
        released?;
        Ok(value)
    }

    /// Looks at what processes that did not end well had in flight. What stands in the way of that is no reason not to go on.
    pub(super) fn recover(&self) {
        if let Err(error) = self.try_recover() {
            tracing::warn!(%error, "looking at what an unclean end left");
        }
    }

    fn try_recover(&self) -> Result<(), EngineError> {
        let abandoned = self.database.abandoned()?;
        if abandoned.is_empty() {
            return Ok(());
        }
        for lease in &abandoned {
            if lease.rebooted {
                self.reexamine(&lease.content)?;
            }
            self.database.forget(lease)?;
        }
        drop(abandoned);
        self.sweep_store()
    }

    /// Blobs and layers that were in flight when the machine stopped: what is bad goes, or is made anew from its blob.
    fn reexamine(&self, content: &[Digest]) -> Result<(), EngineError> {
        let store = self.store()?;
        for digest in content.iter().filter(|digest| store.content().has(digest)) {
            match store.check_blob(digest, None, Depth::Full) {
                None | Some(Flaw::Unreadable { .. }) => {}
                Some(flaw) => {
                    tracing::warn!(%digest, %flaw, "a blob did not survive the stop of the machine");
                    store.content().remove(std::slice::from_ref(digest))?;
                }
            }
        }
        let images = self.database.images()?;
        let known = |wanted: &Digest| -> Option<Layer> {
            images
                .iter()
                .flat_map(|stored| &stored.image.layers)
                .find(|layer| layer.diff_id == *wanted)
                .cloned()
        };
        for diff_id in content.iter().filter(|digest| store.layers().has(digest)) {
            let depth = if store.layers().seal(diff_id).is_some() { Depth::Quick } else { Depth::Full };
            if let Some(layer) = known(diff_id) {
                match store.check_layer(&layer, depth)? {
                    LayerState::Bad(flaw, Some(fresh)) => {
                        tracing::warn!(%diff_id, %flaw, "a layer did not survive the stop of the machine");
                        store.replace_layer(fresh, || !self.layer_is_busy(diff_id))?;
                    }
                    LayerState::Bad(flaw, None) => {
                        tracing::warn!(%diff_id, %flaw, "a layer did not survive; `umiak system check --repair` fetches it");
                    }
                    LayerState::Sound | LayerState::Unknown => {}
                }
                continue;
            }
            // No image has it yet. One without a seal could not be told from a good one: it is unpacked again.
            let seal = store.layers().seal(diff_id);
            if !seal.is_some_and(|seal| store.layers().looks_like(diff_id, &seal)) {
                store.layers().remove(std::slice::from_ref(diff_id))?;
            }
        }
        Ok(())
    }

    /// Whether a container that lives, or is about to, has this layer. What cannot be told counts as yes.
    pub(super) fn layer_is_busy(&self, diff_id: &Digest) -> bool {
        let Ok(all) = self.database.containers() else { return true };
        let using = all.into_iter().filter(|container| container.layers.contains(diff_id));
        using.into_iter().any(|container| crate::supervisor::is_alive(&self.run_dir(&container.id)))
    }
}
