use partykit_core::runtime::{Attachment, AttachmentError};

/// Reads bytes as a connection's attachment, and what can be read once more.
///
/// # Panics
///
/// When what was read is written as something else, or does not fit where a platform keeps it.
pub fn attachment(bytes: &[u8]) {
    match Attachment::decode(bytes) {
        Ok(attachment) => {
            let encoded = attachment.encode();
            assert!(encoded.len() <= 16_384, "{} bytes", encoded.len());
            assert_eq!(Attachment::decode(&encoded), Ok(attachment));
        }
        Err(AttachmentError::Version(version)) => assert_eq!(bytes.first(), Some(&version)),
        Err(_) => {}
    }
}
