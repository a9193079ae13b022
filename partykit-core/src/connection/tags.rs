use crate::value::limits;

/// The tags of a connection beside its id: none is empty, too long, or there twice.
#[derive(Debug, Default)]
pub(crate) struct Tags(Box<[Box<str>]>);

impl Tags {
    /// What `connection_tags` gave for the connection of this id.
    ///
    /// # Errors
    ///
    /// When a tag is empty or too long, or there are too many.
    pub(crate) fn new(id: &str, tags: Vec<String>) -> Result<Self, TagError> {
        let mut own: Vec<Box<str>> = Vec::new();
        for tag in tags {
            match tag.len() {
                0 => return Err(TagError::Empty),
                len if len > limits::TAG => return Err(TagError::TooLong(len)),
                _ if tag == id || own.iter().any(|known| **known == *tag) => {}
                _ => own.push(tag.into()),
            }
        }
        if own.len() + 1 > limits::TAGS {
            return Err(TagError::TooMany(own.len() + 1));
        }
        Ok(Self(own.into()))
    }

    /// Tags that were checked when the connection came.
    pub(crate) fn known<'a>(tags: impl Iterator<Item = &'a str>) -> Self {
        Self(tags.map(Into::into).collect())
    }

    pub(crate) fn as_slice(&self) -> &[Box<str>] {
        &self.0
    }
}

/// Tags over the limits.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TagError {
    #[error("a tag is empty")]
    Empty,
    #[error("a tag has {0} bytes; at most {max} fit", max = limits::TAG)]
    TooLong(usize),
    #[error("the connection has {0} tags, its id included; at most {max} fit", max = limits::TAGS)]
    TooMany(usize),
    #[error("the attachments of the room's connections would have {0} bytes; at most {max} fit", max = limits::ATTACHMENTS)]
    RoomTooLarge(usize),
}
