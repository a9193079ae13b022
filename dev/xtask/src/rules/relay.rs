//! The first screen: a relay stays short and knows nothing but the facade.

use std::collections::BTreeSet;

use super::{File, Violation, lexer};
use crate::command::Failure;

pub(super) const PATH: &str = "examples/relay/src/lib.rs";

/// Lines that hold code: neither blank nor only comment.
const MAX_LINES: usize = 25;

/// Where a path may start. `std` is not among them: the first screen needs nothing from it.
const ROOTS: &[&str] = &["partykit", "crate", "self", "super", "Self"];

/// Words that a path may follow without being a part of it.
const KEYWORDS: &[&str] =
    &["use", "as", "for", "in", "impl", "dyn", "return", "mut", "match", "if"];

pub(super) fn check(file: &File) -> Result<Vec<Violation>, Failure> {
    let tokens = lexer::tokens(file)?;
    let mut violations = Vec::new();

    let lines: BTreeSet<usize> =
        tokens.iter().flat_map(|token| token.line..=token.last_line).collect();
    if lines.len() > MAX_LINES {
        let what = format!("{} lines of code, at most {MAX_LINES} allowed", lines.len());
        violations.push(Violation::new(&file.path, 1, what));
    }

    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut depth_in_list = 0_u32;
    for (index, token) in tokens.iter().enumerate() {
        let before = |back: usize| index.checked_sub(back).map_or("", text);
        match text(index) {
            "{" if before(1) == "::" || depth_in_list > 0 => depth_in_list += 1,
            "}" => depth_in_list = depth_in_list.saturating_sub(1),
            _ => {}
        }
        let names_crate = match before(1) {
            _ if depth_in_list > 0 || KEYWORDS.contains(&text(index)) => false,
            "." => false,
            "use" => true,
            "crate" => before(2) == "extern",
            "::" => is_global(before(2), before(3)),
            _ => text(index + 1) == "::" && token.text.starts_with(char::is_lowercase),
        };
        if lexer::is_word(&token.text) && names_crate && !ROOTS.contains(&&*token.text) {
            let what = format!("`{}` is not of `partykit`", token.text);
            violations.push(Violation::new(&file.path, token.line, what));
        }
    }
    Ok(violations)
}

/// Whether a `::` starts a path from the list of crates, judged by the two tokens before it, the
/// nearest first: it does unless it goes on with a path or follows a `<T as Trait>`.
fn is_global(before: &str, further: &str) -> bool {
    match before {
        ">" => further == "-",
        before => KEYWORDS.contains(&before) || !lexer::is_word(before),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = r#"
        //! A relay.
        use partykit::{Connection, Message, Options, Result, Room, Server};

        /// tokio::spawn is only a word here.
        #[derive(Default)]
        pub struct Relay;

        impl Server for Relay {
            fn options() -> Options {
                Options::new().hibernate(true) // std::process::abort()
            }

            async fn on_message(&mut self, room: &Room, sender: &Connection, said: Message) -> Result {
                let list = said.iter().collect::<Vec<_>>();
                room.broadcast(said).except(sender).send();
                Ok("http::Request")
            }
        }

        partykit::workers::export!(Relay as "main");
    "#;

    fn check_text(text: &str) -> Vec<String> {
        let violations = check(&File::new(PATH, text)).unwrap();
        violations.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_short_relay_of_partykit_alone_is_fine() {
        assert_eq!(check_text(RELAY), Vec::<String>::new());
        let nested = "use partykit::{http::{Body, uri::Uri}, Room};";
        assert_eq!(check_text(nested), Vec::<String>::new());
    }

    #[test]
    fn foreign_imports_are_found() {
        for root in ["std", "http", "tokio"] {
            let what = [format!("`{root}` is not of `partykit`")];
            assert_eq!(check_text(&format!("use {root}::thing;")), what);
            assert_eq!(check_text(&format!("pub use {root}::{{a, b::c}};")), what);
            assert_eq!(check_text(&format!("use {root} as partykit;")), what);
            assert_eq!(check_text(&format!("extern crate {root};")), what);
            assert_eq!(check_text(&format!("fn f() {{ {root}::thing(); }}")), what);
            assert_eq!(check_text(&format!("fn f(a: &{root}::a::Thing) {{}}")), what);
            assert_eq!(check_text(&format!("#[{root}::main] fn f() {{}}")), what);
            assert_eq!(check_text(&format!("fn f() {{ <A as {root}::B>::c() }}")), what);
        }
    }

    #[test]
    fn global_paths_are_found() {
        assert_eq!(check_text("use ::std::thing;"), ["`std` is not of `partykit`"]);
        assert_eq!(check_text("fn f() { ::std::thing() }"), ["`std` is not of `partykit`"]);
        assert_eq!(check_text("fn f() -> ::std::A {}"), ["`std` is not of `partykit`"]);
        assert_eq!(check_text("use ::partykit::Room;"), Vec::<String>::new());
    }

    #[test]
    fn lines_of_code_are_counted_without_blanks_and_comments() {
        let fits = format!("// a\n\n/// b\n{}", "fn f() {}\n".repeat(MAX_LINES));
        assert_eq!(check_text(&fits), Vec::<String>::new());
        let too_long = ["26 lines of code, at most 25 allowed"];
        assert_eq!(check_text(&format!("{fits}fn g() {{}}")), too_long);
        assert_eq!(check_text(&format!("fn f() {{ \"{}\" }}", "\n".repeat(25))), too_long);
    }
}
