//! Rust source as a flat list of words and signs: comments and the insides of strings are gone.

use proc_macro2::{Delimiter, LexError, LineColumn, Span, TokenStream, TokenTree};

use super::File;
use crate::command::Failure;

/// One token. Literals are kept as one token each; of doc comments nothing is kept.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) last_line: usize,
}

/// An identifier or keyword: what a path may consist of. (`b"x"` starts like one.)
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && !text.contains(['"', '\''])
}

/// The tokens of `file`, `::` being one; an error if it is not Rust.
pub(super) fn tokens(file: &File) -> Result<Vec<Token>, Failure> {
    let stream: TokenStream = file.text.parse().map_err(|error: LexError| {
        let line = error.span().start().line;
        Failure::new(format!("{}:{line}: {error}", file.path))
    })?;
    let mut lexer = Lexer { lines: file.text.lines().collect(), tokens: Vec::new() };
    lexer.flatten(stream);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    lines: Vec<&'a str>,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn flatten(&mut self, stream: TokenStream) {
        for tree in stream {
            if self.is_comment(tree.span()) {
                continue;
            }
            match tree {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    self.push(open.to_owned(), group.span_open());
                    self.flatten(group.stream());
                    self.push(close.to_owned(), group.span_close());
                }
                tree => self.push(tree.to_string(), tree.span()),
            }
        }
    }

    fn push(&mut self, text: String, span: Span) {
        let (line, last_line) = (span.start().line, span.end().line);
        match self.tokens.last_mut() {
            Some(last) if text == ":" && last.text == ":" => last.text.push(':'),
            _ => self.tokens.push(Token { text, line, last_line }),
        }
    }

    /// A doc comment is lexed as the attribute it stands for, every token of it at the comment.
    fn is_comment(&self, span: Span) -> bool {
        let LineColumn { line, column } = span.start();
        let mut there = self.lines.get(line - 1).map_or("", |line| line).chars().skip(column);
        there.next() == Some('/') && matches!(there.next(), Some('/' | '*'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(&File::new("a.rs", text)).unwrap().into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_go_and_strings_stay_whole() {
        let text = "//! a::b\n/// c::d\nfn f() { /* e::f */ g(\"h::i\"); } // j\n/** k::l */\nx";
        assert_eq!(
            words(text),
            ["fn", "f", "(", ")", "{", "g", "(", "\"h::i\"", ")", ";", "}", "x"]
        );
    }

    #[test]
    fn two_colons_are_one_sign() {
        assert_eq!(words("a::b: c"), ["a", "::", "b", ":", "c"]);
    }

    #[test]
    fn lines_are_counted_from_one() {
        let tokens = tokens(&File::new("a.rs", "a\n\n\"b\nc\"")).unwrap();
        assert_eq!(
            tokens.iter().map(|t| (t.line, t.last_line)).collect::<Vec<_>>(),
            [(1, 1), (3, 4)]
        );
    }

    #[test]
    fn what_is_not_rust_is_an_error() {
        let error = tokens(&File::new("a.rs", "fn f( {")).unwrap_err().to_string();
        assert!(error.starts_with("a.rs:1"), "{error}");
    }
}
