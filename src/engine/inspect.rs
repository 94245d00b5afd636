//! Finding out what a name is.

use super::{ContainerView, Engine, EngineError, ImageView, NetworkView};

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A container.
    Container(Box<ContainerView>),
    /// An image.
    Image(Box<ImageView>),
    /// A network.
    Network(Box<NetworkView>),
}

impl Engine {
    /// The container, image or network of this name; the first that there is, as docker does. `only` narrows it to one type.
    pub fn inspect(&self, name: &str, only: Option<&str>) -> Result<Object, EngineError> {
        if !matches!(only, None | Some("container" | "image" | "network")) {
            return Err(EngineError::ObjectType { kind: only.unwrap_or_default().to_owned() });
        }
        if matches!(only, None | Some("container")) {
            match self.container(name) {
                Ok(view) => return Ok(Object::Container(Box::new(view))),
                Err(error) if only.is_some() || !error.is_not_found() => return Err(error),
                Err(_) => {}
            }
        }
        if matches!(only, None | Some("image")) {
            match self.find_image(name, &[]) {
                Ok(view) => return Ok(Object::Image(Box::new(view))),
                Err(error) if error.is_not_found() || error.kind_is_input() => {}
                Err(error) => return Err(error),
            }
        }
        if matches!(only, None | Some("network")) {
            match self.network_view(name) {
                Ok(view) => return Ok(Object::Network(Box::new(view))),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::NoObject { name: name.to_owned(), only: only.map(str::to_owned) })
    }
}
