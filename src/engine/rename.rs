//! Another name for a container.

use super::{Engine, EngineError};

impl Engine {
    /// Gives a container another name; names are unique in a store, and the database sees to it.
    pub fn rename(&self, query: &str, name: &str) -> Result<(), EngineError> {
        let container = self.container(query)?.container;
        if container.name == name {
            return Err(EngineError::SameName);
        }
        Ok(self.database.rename_container(&container.id, name)?)
    }
}
