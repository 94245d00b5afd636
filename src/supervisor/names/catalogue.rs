//! What the name server knows, read from the metadata database and read again when that has changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::ContainerId;
use crate::network::dns::zone::{Member, Place, Zone};
use crate::state::{Database, StateError};

/// After so long without a question everything is let go of.
pub(super) const REST: Duration = Duration::from_secs(5);

/// The database while questions are asked, and what it said.
pub(super) struct Catalogue {
    root: PathBuf,
    container: ContainerId,
    open: Option<Open>,
}

struct Open {
    database: Database,
    version: i64,
    zone: Zone,
    asked: Instant,
}

impl Catalogue {
    pub(super) fn new(root: &Path, container: &ContainerId) -> Self {
        Self { root: root.to_owned(), container: container.clone(), open: None }
    }

    /// The zone as it is now.
    pub(super) fn zone(&mut self) -> Result<&Zone, StateError> {
        let open = if let Some(mut open) = self.open.take() {
            // Another number only tells that something has changed.
            let version = open.database.version()?;
            if version != open.version {
                open.zone = read(&open.database, &self.container)?;
                open.version = version;
            }
            open
        } else {
            let database = Database::open(&self.root)?;
            let version = database.version()?;
            let zone = read(&database, &self.container)?;
            Open { database, version, zone, asked: Instant::now() }
        };
        let open = self.open.insert(open);
        open.asked = Instant::now();
        Ok(&open.zone)
    }

    /// Lets go of what was not asked for lately.
    pub(super) fn rest(&mut self) {
        self.open.take_if(|open| open.asked.elapsed() >= REST);
    }
}

fn read(database: &Database, container: &ContainerId) -> Result<Zone, StateError> {
    let place = |found: crate::state::Neighbourhood| Place {
        network: found.network.name,
        internal: found.network.internal,
        links: found.settings.links.into_iter().map(|link| (link.alias, link.container)).collect(),
        members: found
            .neighbours
            .into_iter()
            .map(|one| Member {
                name: one.name,
                id: one.id,
                aliases: one.aliases,
                ipv4: one.ipv4,
                ipv6: one.ipv6,
            })
            .collect(),
    };
    Ok(Zone::new(database.neighbourhoods(container)?.into_iter().map(place).collect()))
}
