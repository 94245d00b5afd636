//! Containers: their records, and the state that their supervisors write.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Database, Durable, Failure, StateError, decode, encode, events};
use crate::model::{Container, ContainerConfig, ContainerId, Event, HostConfig, RunState, RuntimeStatus};

const WHAT: &str = "a container";

const HAS: &str = "SELECT 1 FROM containers WHERE id = ?1";

/// The rest of [`select`]'s statement for one container.
const BY_ID: &str = "WHERE id = ?1";

const DELETE: &str = "DELETE FROM containers WHERE id = ?1";

const SET_STATE: &str = "UPDATE containers SET status = ?2, state = ?3 WHERE id = ?1";

fn status(status: RuntimeStatus) -> &'static str {
    match status {
        RuntimeStatus::Created => "created",
        RuntimeStatus::Running => "running",
        RuntimeStatus::Exited => "exited",
    }
}

fn selecting(rest: &str) -> String {
    format!("SELECT record, state FROM containers {rest}")
}

fn select(
    connection: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Container>, Failure> {
    let mut statement = connection.prepare_cached(&selecting(rest))?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // The record is written once; what its supervisor writes has a column of its own and wins.
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let mut container: Container = decode(WHAT, text(0)?)?;
        container.state = decode(WHAT, text(1)?)?;
        found.push(container);
    }
    Ok(found)
}

/// A record without what is as it is by default. Most of a record is that, and a list of a thousand containers reads every one:
/// so short, a row lies in its page whole.
fn sparse(container: &Container) -> Result<String, Failure> {
    let failed = |source| StateError::Record { what: WHAT, source };
    let mut record = serde_json::to_value(container).map_err(failed)?;
    let default = serde_json::to_value(HostConfig::default()).map_err(failed)?;
    let config = serde_json::to_value(ContainerConfig::default()).map_err(failed)?;
    // Only what is read back with its default when it is missing.
    for part in ["resources", "security", "log"] {
        leave_out(&mut record["host"][part], &default[part]);
    }
    leave_out(&mut record["host"], &default);
    leave_out(&mut record["config"], &config);
    if let Some(fields) = record.as_object_mut() {
        // It has a column of its own.
        fields.remove("state");
    }
    encode(WHAT, &record)
}

fn leave_out(value: &mut serde_json::Value, default: &serde_json::Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|key, field| default.get(key) != Some(field));
    }
}

/// Refuses a name that another container has.
fn refuse_taken(t: &rusqlite::Transaction<'_>, container: &Container) -> Result<(), Failure> {
    let holder: Option<String> = t
        .prepare_cached("SELECT id FROM containers WHERE name = ?1 AND id <> ?2")?
        .query_row([container.name.as_str(), container.id.as_str()], |row| row.get(0))
        .optional()?;
    match holder {
        None => Ok(()),
        Some(text) => {
            let holder = text.parse().map_err(|_| StateError::Malformed { text })?;
            Err(StateError::NameTaken { name: container.name.clone(), holder }.into())
        }
    }
}

impl Database {
    /// Records a new container. The name is reserved by the same statement.
    pub fn insert_container(&self, container: &Container) -> Result<(), StateError> {
        self.write("record a container", Durable::Process, |t| {
            refuse_taken(t, container)?;
            let image: Option<()> = t
                .prepare_cached("SELECT 1 FROM images WHERE id = ?1")?
                .query_row([container.image.as_str()], |_| Ok(()))
                .optional()?;
            if image.is_none() {
                return Err(StateError::NoImage { id: container.image.clone() }.into());
            }
            t.prepare_cached(
                "INSERT INTO containers (id, name, image, status, record, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                container.id.as_str(),
                container.name,
                container.image.as_str(),
                status(container.state.status),
                sparse(container)?,
                encode(WHAT, &container.state)?
            ])?;
            super::volumes::attach(t, container)?;
            super::endpoints::attach(t, container)?;
            let mut add =
                t.prepare_cached("INSERT OR IGNORE INTO container_layers (container, digest) VALUES (?1, ?2)")?;
            for layer in &container.layers {
                add.execute([container.id.as_str(), layer.as_str()])?;
            }
            events::add(t, &Event::container(container, "create"))
        })
    }

    /// Whether a container is recorded, whatever its record says.
    pub fn has_container(&self, id: &ContainerId) -> Result<bool, StateError> {
        self.read("look for a container", |c| Ok(c.prepare_cached(HAS)?.exists([id.as_str()])?))
    }

    /// Reads the schema and prepares what a supervisor will say, so that this is done when there is something to say. What is wrong
    /// with the database is told by whoever uses it.
    pub fn warm_up(&self) {
        let connection = self.lock();
        let whole = selecting(BY_ID);
        for statement in [HAS, SET_STATE, events::NAME, events::ADD, &whole, DELETE] {
            let _ = connection.prepare_cached(statement);
        }
    }

    /// The container with this id.
    pub fn container(&self, id: &ContainerId) -> Result<Option<Container>, StateError> {
        self.read("read a container", |c| Ok(select(c, BY_ID, [id.as_str()])?.pop()))
    }

    /// All containers, newest first.
    pub fn containers(&self) -> Result<Vec<Container>, StateError> {
        let mut all = self.read("list containers", |c| select(c, "", []))?;
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// The containers whose record says this.
    pub fn containers_with_status(&self, wanted: RuntimeStatus) -> Result<Vec<Container>, StateError> {
        self.read("list containers", |c| select(c, "WHERE status = ?1", [status(wanted)]))
    }

    /// The containers that a user's word may mean: the one with this very name or id, else all whose id begins with it.
    pub fn containers_matching(&self, query: &str) -> Result<Vec<Container>, StateError> {
        let name = query.strip_prefix('/').unwrap_or(query);
        self.read("look up a container", |c| {
            let exact = select(c, "WHERE name = ?1 OR id = ?1", [name])?;
            let hex =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if !exact.is_empty() || !hex {
                return Ok(exact);
            }
            // `g` follows every hex digit, so this range is the prefix, and the primary key answers it.
            select(c, "WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id", [name])
        })
    }

    /// Writes what a container's supervisor saw last, and what happened.
    pub fn set_run_state(
        &self,
        id: &ContainerId,
        state: &RunState,
        news: &[Event],
    ) -> Result<(), StateError> {
        self.write("record a container's state", Durable::Process, |t| {
            let changed = t.prepare_cached(SET_STATE)?.execute(params![
                id.as_str(),
                status(state.status),
                encode(WHAT, state)?
            ])?;
            if changed == 0 {
                return Err(StateError::NoContainer { id: id.clone() }.into());
            }
            // What has ended has no addresses, from the same moment on.
            if state.status == RuntimeStatus::Exited {
                super::endpoints::release(t, id)?;
            }
            events::add_all(t, news)
        })
    }

    /// Changes how a container is confined and supervised.
    pub fn set_host_config(&self, id: &ContainerId, host: &HostConfig) -> Result<(), StateError> {
        self.change("change a container's settings", id, |container| {
            container.host = host.clone();
            Event::container(container, "update")
        })
    }

    /// Gives a container another name; one that is taken is refused.
    pub fn rename_container(&self, id: &ContainerId, name: &str) -> Result<(), StateError> {
        self.change("rename a container", id, |container| {
            let old = std::mem::replace(&mut container.name, name.to_owned());
            Event::container(container, "rename").with("oldName", format!("/{old}"))
        })
    }

    /// Changes the part of a record that is not its supervisor's; the change tells what happened.
    fn change(
        &self,
        action: &'static str,
        id: &ContainerId,
        change: impl FnOnce(&mut Container) -> Event,
    ) -> Result<(), StateError> {
        self.write(action, Durable::Process, |t| {
            let Some(mut container) = select(t, BY_ID, [id.as_str()])?.pop() else {
                return Err(StateError::NoContainer { id: id.clone() }.into());
            };
            let news = change(&mut container);
            refuse_taken(t, &container)?;
            t.prepare_cached("UPDATE containers SET name = ?2, record = ?3 WHERE id = ?1")?
                .execute(params![id.as_str(), container.name, sparse(&container)?])?;
            events::add(t, &news)
        })
    }

    /// Removes a container's record; its name is free at once. `news`: what happened to it just before.
    pub fn remove_container(&self, id: &ContainerId, news: &[Event]) -> Result<(), StateError> {
        self.write("remove a container", Durable::Process, |t| {
            let Some(container) = select(t, BY_ID, [id.as_str()])?.pop() else {
                return Err(StateError::NoContainer { id: id.clone() }.into());
            };
            events::add_all(t, news)?;
            t.prepare_cached(DELETE)?.execute([id.as_str()])?;
            events::add(t, &Event::container(&container, "destroy"))
        })
    }

    /// How many containers there are with each recorded status (`created`, `running`, `exited`).
    pub fn count_containers(&self) -> Result<BTreeMap<String, u64>, StateError> {
        self.read("count containers", |c| {
            let mut statement =
                c.prepare_cached("SELECT status, count(*) FROM containers GROUP BY status")?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mount, MountSource, NamespaceMode};

    #[test]
    fn a_record_without_its_defaults_is_read_back_as_it_was() {
        let digest: crate::model::Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let mut container = Container {
            id: ContainerId::from_bytes([7; 32]),
            name: "one".into(),
            created: crate::model::Timestamp::now(),
            image: digest.clone(),
            image_name: "image".into(),
            layers: vec![digest],
            platform: crate::model::Platform::linux_native(),
            executor: crate::model::ExecutorChoice {
                name: "linux".into(),
                reason: "test".into(),
                runtime: None,
            },
            config: ContainerConfig { cmd: vec!["true".into()], ..ContainerConfig::default() },
            host: HostConfig::default(),
            state: RunState::default(),
        };
        let text = sparse(&container).unwrap();
        assert!(text.len() < 700, "{text}");
        assert_eq!(decode::<Container>(WHAT, &text).map_err(|_| ()).unwrap(), container);
        container.host.resources.memory = Some(1);
        container.host.security.no_new_privileges = true;
        container.host.log.max_file = Some(3);
        container.host.pid = NamespaceMode::Host;
        let source = MountSource::Tmpfs { size: None, mode: None, options: Vec::new() };
        container.host.mounts.push(Mount { source, target: "/t".into(), read_only: false });
        container.config.tty = true;
        let text = sparse(&container).unwrap();
        assert_eq!(decode::<Container>(WHAT, &text).map_err(|_| ()).unwrap(), container);
    }
}
