//! The arguments behind a command: `--name value`, or `--name` alone.

use std::{slice, str::FromStr};

/// What is left of them.
#[derive(Debug)]
pub(crate) struct Arguments<'a>(slice::Iter<'a, String>);

impl<'a> Arguments<'a> {
    pub(crate) fn new(all: &'a [String]) -> Self {
        Self(all.iter())
    }

    /// The next name.
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        self.0.next().map(String::as_str)
    }

    /// The value of the argument `name`.
    ///
    /// # Errors
    ///
    /// When it is missing, or is not a `T`.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        let word = self.name().ok_or_else(|| format!("{name} needs a value"))?;
        word.parse().map_err(|_| format!("{name} does not take {word}"))
    }
}

/// The error about an argument that a command does not have.
pub(crate) fn unknown(name: &str) -> String {
    format!("{name} is not understood here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_follows_its_name() {
        let all = ["--rooms", "7", "--seconds", "many", "--seed"].map(str::to_owned);
        let mut rest = Arguments::new(&all);
        assert_eq!(rest.name(), Some("--rooms"));
        assert_eq!(rest.value("--rooms"), Ok(7));
        assert_eq!(rest.name(), Some("--seconds"));
        let wrong = rest.value::<u64>("--seconds").unwrap_err();
        assert_eq!(wrong, "--seconds does not take many");
        assert_eq!(rest.name(), Some("--seed"));
        assert_eq!(rest.value::<u64>("--seed").unwrap_err(), "--seed needs a value");
        assert_eq!(rest.name(), None);
    }
}
