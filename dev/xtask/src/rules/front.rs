//! The front is written once, in `partykit_core::runtime::front`: no runtime decides by itself whom a request
//! is for, asks a hook, or has an answer of its own.

use super::{File, Violation};

const RUNTIMES: &[&str] = &["partykit-runtime-tokio/src/", "partykit-runtime-workers/src/"];

/// What only the front does, and what to use in its place.
const OF_THE_FRONT: &[(&str, &str)] = &[
    ("StatusCode::", "an answer is a `Refused`"),
    ("HTTP/1.1 4", "an answer is a `Refused`"),
    ("HTTP/1.1 5", "an answer is a `Refused`"),
    ("::on_before_", "hooks are asked by `AnyServer`"),
    (".judge(", "pages are judged by `Routes::find`"),
    ("::preflight(", "preflights are answered by `Routes::find`"),
    ("Lobby::", "hooks are asked by `AnyServer`"),
];

/// What a runtime does with a status: the one that only it can give, and those of other programs.
const OF_A_RUNTIME: &[&str] = &["StatusCode::SWITCHING_PROTOCOLS", "StatusCode::from_u16"];

pub(super) fn check(file: &File) -> Vec<Violation> {
    let is_test = file.path.split('/').any(|part| part == "tests" || part == "tests.rs");
    if is_test || !RUNTIMES.iter().any(|runtime| file.path.starts_with(runtime)) {
        return Vec::new();
    }
    let lines = file.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(index, line)| {
        let rest = OF_A_RUNTIME.iter().fold(line.to_owned(), |line, own| line.replace(own, ""));
        let found = OF_THE_FRONT.iter().filter(move |(text, _)| rest.contains(text));
        found.map(move |(text, instead)| {
            Violation::new(&file.path, index + 1, format!("`{text}` in a runtime: {instead}"))
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        check(&File::new(path, text)).len()
    }

    #[test]
    fn a_runtime_has_no_answers_and_asks_no_hooks() {
        let path = "partykit-runtime-workers/src/entry.rs";
        for line in [
            "answer(StatusCode::NOT_FOUND, line)",
            "const FULL: &[u8] = b\"HTTP/1.1 503 ..\";",
            "S::on_before_connect(request, &lobby).await",
            "let visitor = origins.judge(&headers, host, true);",
        ] {
            assert_eq!(broken(path, line), 1, "{line}");
            assert_eq!(broken("partykit-core/src/runtime/front/mod.rs", line), 0);
            assert_eq!(broken("partykit-runtime-tokio/src/socket/tests/time.rs", line), 0);
            assert_eq!(broken(path, &format!("/// {line}\n#[cfg(test)]\n{line}")), 0);
        }
        assert_eq!(broken(path, "response.status() == StatusCode::SWITCHING_PROTOCOLS"), 0);
    }
}
