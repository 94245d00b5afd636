//! Events: what happened to a container, an image, a volume or a network, in docker's words.
//!
//! An event is recorded by the transaction that makes the change, or right after a change that no record shows. What is
//! said of a container always has its labels, its image and its name; an attribute of the event's own wins over a label of
//! the same name, so that an image cannot make up an exit status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Container, ContainerId, Digest, Timestamp};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The build cache.
    Builder,
}

impl EventType {
    /// Docker's word.
    pub fn text(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Builder => "builder",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it is about.
    pub kind: EventType,
    /// What happened: `create`, `die`, `exec_start: sh`, ….
    pub action: String,
    /// Whom it happened to: an id, or a volume's name. Empty where it is about many (`prune`).
    pub id: String,
    /// What more there is to say.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

impl Event {
    /// An event of now.
    pub fn new(kind: EventType, action: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind,
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
            time: Timestamp::now(),
        }
    }

    /// One of a container, with what is always said of it.
    pub fn container(container: &Container, action: impl Into<String>) -> Self {
        let mut event = Self::new(EventType::Container, action, container.id.as_str());
        event.attributes.clone_from(&container.config.labels);
        event.with("image", container.image_name.as_str()).with("name", container.name.as_str())
    }

    /// One of an image; `name` is the one it was called by, its id where it has none.
    pub fn image(id: &Digest, action: &str, name: &str) -> Self {
        Self::new(EventType::Image, action, id.as_str()).with("name", name)
    }

    /// One of a volume.
    pub fn volume(name: &str, action: &str) -> Self {
        Self::new(EventType::Volume, action, name).with("driver", "local")
    }

    /// One of a network and a container; `driver` is docker's word for the network's type.
    pub fn network(
        id: &str,
        action: &str,
        name: &str,
        driver: &str,
        container: Option<&ContainerId>,
    ) -> Self {
        let event = Self::new(EventType::Network, action, id).with("name", name).with("type", driver);
        match container {
            Some(id) => event.with("container", id.as_str()),
            None => event,
        }
    }

    /// What nobody used was removed.
    pub fn prune(kind: EventType, reclaimed: u64) -> Self {
        Self::new(kind, "prune", "").with("reclaimed", reclaimed.to_string())
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }

    /// The same at another time.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.time = time;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_does_not_hide_what_happened() {
        let mut event = Event::new(EventType::Container, "die", "x");
        event.attributes = [("exitCode".to_owned(), "0".to_owned())].into();
        let event = event.with("exitCode", "7");
        assert_eq!(event.attributes["exitCode"], "7");
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
