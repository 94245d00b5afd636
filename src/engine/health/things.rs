//! Containers, volumes, and what crashes left.

use std::collections::BTreeMap;

use crate::model::{ContainerId, RuntimeStatus, Timestamp, Volume};
use crate::supervisor;

use super::super::{Engine, EngineError};
use super::{Check, Outcome};

impl Check<'_> {
    pub(super) fn containers(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        // Files first: a container's record is there before them, and after them.
        let files = names_in(&engine.store()?.container_root())?;
        let records = engine.database.readable_containers()?;
        self.report.containers = records.len();
        for container in &records {
            let claims = container.state.status == RuntimeStatus::Running;
            if claims && !supervisor::is_alive(&engine.run_dir(&container.id)) {
                // It may have ended, or been removed, since the record was read.
                let now = engine.database.container(&container.id)?;
                if now.is_none_or(|now| now.state.status != RuntimeStatus::Running) {
                    continue;
                }
                let outcome = self.repaired("its end was recorded", || engine.reconcile());
                self.report.add(
                    "container",
                    &container.name,
                    &"it is recorded as running, and nobody runs it",
                    outcome,
                );
            }
        }
        for name in files {
            if name.starts_with("lost-") {
                let problem = "files of a container whose record could not be read; remove them when they are not needed";
                self.report.add("leftover", &format!("containers/{name}"), &problem, Outcome::Note);
                continue;
            }
            let Ok(id) = name.parse::<ContainerId>() else { continue };
            let path = engine.store()?.container_dir(&id);
            if engine.database.has_container(&id)? || !path.exists() {
                continue;
            }
            let outcome = self.repaired("it was removed", || Ok(engine.store()?.snapshots().remove(&id)?));
            self.report.add(
                "leftover",
                &format!("containers/{name}"),
                &"files of a container that is not recorded",
                outcome,
            );
        }
        Ok(())
    }

    pub(super) fn volumes(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        let files = names_in(&engine.root.join("volumes"))?;
        let records = engine.database.readable_volumes()?;
        self.report.volumes = records.len();
        for volume in &records {
            let data = engine.store()?.volumes().data(&volume.name);
            if data.is_dir() || engine.database.volume(&volume.name).is_ok_and(|now| now.is_none()) {
                continue;
            }
            let outcome = self.repaired("its files were brought back, or an empty directory made", || {
                engine.restore_volume(&volume.name)
            });
            self.report.add("volume", &volume.name, &"its files are missing", outcome);
        }
        for name in files {
            if let Some(retired) = name.strip_prefix(".gone-") {
                let volume = retired.rsplit_once('-').map_or(retired, |(volume, _)| volume);
                // One that is still recorded was dealt with above, or is being removed just now.
                if engine.database.volume(volume)?.is_none() {
                    let outcome = self.removed(&engine.root.join("volumes").join(&name));
                    self.report.add(
                        "leftover",
                        &format!("volumes/{name}"),
                        &"files of a removed volume",
                        outcome,
                    );
                }
                continue;
            }
            let known = records.iter().any(|volume| volume.name == name);
            if known || engine.database.volume(&name).is_ok_and(|now| now.is_some()) {
                continue;
            }
            if !engine.store()?.volumes().data(&name).is_dir() {
                continue;
            }
            let outcome = self.repaired("it was recorded again", || engine.adopt_volume(&name));
            self.report.add("volume", &name, &"it has files and no record", outcome);
        }
        Ok(())
    }

    /// Temporary files of crashes are removed whatever they are; what nothing explains is only told.
    pub(super) fn leftovers(&mut self) -> Result<(), EngineError> {
        let engine = self.engine;
        let store = engine.store()?;
        let found = store.leftovers()?;
        let outcome = if self.options.repair {
            self.repaired("it was removed", || engine.sweep_store())
        } else {
            Outcome::Note
        };
        for name in found {
            self.report.add("leftover", &name, &"a process that was killed left it", outcome.clone());
        }
        let abandoned = engine.database.abandoned()?.len();
        if abandoned > 0 {
            if self.options.repair {
                engine.recover();
            }
            let outcome =
                if self.options.repair { Outcome::Repaired("it was released") } else { Outcome::Note };
            self.report.add(
                "leftover",
                &format!("{abandoned} leases"),
                &"their processes were killed",
                outcome,
            );
        }
        for name in store.strangers()? {
            self.report.add("leftover", &name, &"nothing is known of it", Outcome::Note);
        }
        self.unreferenced()
    }

    fn removed(&self, path: &std::path::Path) -> Outcome {
        if !self.options.repair {
            return Outcome::Note;
        }
        self.repaired("it was removed", || match std::fs::remove_dir_all(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::Path { path: path.to_owned(), source })
            }
            _ => Ok(()),
        })
    }
}

impl Engine {
    /// Records a volume whose files are there: they are somebody's.
    pub(super) fn adopt_volume(&self, name: &str) -> Result<(), EngineError> {
        let volume = Volume::new(name, Timestamp::now(), BTreeMap::new(), false)?;
        Ok(self.database.put_volume(&volume)?)
    }

    /// Brings back the files of a volume whose removal was not finished; without any, makes it empty.
    fn restore_volume(&self, name: &str) -> Result<(), EngineError> {
        let all = self.root.join("volumes");
        let retired = names_in(&all)?.into_iter().find(|found| {
            found
                .strip_prefix(".gone-")
                .and_then(|rest| rest.rsplit_once('-'))
                .is_some_and(|(own, _)| own == name)
        });
        if let Some(retired) = retired {
            let to = all.join(name);
            std::fs::rename(all.join(retired), &to)
                .map_err(|source| EngineError::Path { path: to, source })?;
        }
        self.make_volume_files(name)
    }
}

/// The names in a directory; none where there is none.
fn names_in(directory: &std::path::Path) -> Result<Vec<String>, EngineError> {
    let failed = |source| EngineError::Path { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}
