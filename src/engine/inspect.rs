//! Finding out what a name is.

use super::{ContainerView, Engine, EngineError, ImageView};

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A container.
    Container(Box<ContainerView>),
    /// An image.
    Image(Box<ImageView>),
}

impl Engine {
    /// The container or image of this name; a container first, as docker does. `only` narrows it to one type.
    pub fn inspect(&self, name: &str, only: Option<&str>) -> Result<Object, EngineError> {
        if !matches!(only, None | Some("container" | "image")) {
            return Err(EngineError::ObjectType { kind: only.unwrap_or_default().to_owned() });
        }
        if only != Some("image") {
            match self.container(name) {
                Ok(view) => return Ok(Object::Container(Box::new(view))),
                Err(error) if only.is_some() || !error.is_not_found() => return Err(error),
                Err(_) => {}
            }
        }
        match self.find_image(name, &[]) {
            Ok(view) => Ok(Object::Image(Box::new(view))),
            Err(error) if error.is_not_found() || error.kind_is_input() => {
                Err(EngineError::NoObject { name: name.to_owned(), only: only.map(str::to_owned) })
            }
            Err(error) => Err(error),
        }
    }
}
