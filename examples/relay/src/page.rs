//! The page: one document, with everything in it.

pub(crate) fn html() -> String {
    format!(
        include_str!("page/index.html"),
        style = include_str!("page/style.css"),
        client = include_str!("page/client.js"),
        panels = include_str!("page/panels.js"),
        room = include_str!("page/room.js"),
    )
}
