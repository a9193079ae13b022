//! Everything a contributor runs: `cargo xtask help`.
//!
//! A step is a row of a table in [`steps`]; `cargo xtask test` runs them all ([`lanes`]), and each of
//! them is a subcommand too. CI runs the same thing through `.ci/run`. What `test` does not run is a
//! row of [`steps::TOOLS`].

mod api;
mod autobahn;
mod bench;
mod book;
mod charts;
mod command;
mod crash;
mod deploy;
mod fuzz;
mod image;
mod lanes;
mod package;
mod pages;
mod parts;
mod report;
mod rules;
mod steps;
mod tools;
mod workers;
mod yjs;

use std::{env, path::PathBuf, process::ExitCode};

use steps::{Step, TOOLS, Tool};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((tool, rest)) = tool(&arguments) {
        return match (tool.run)(&root(), rest) {
            Ok(_) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let (flags, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with('-'));
    if names.is_empty() || names == ["help"] || flags.contains(&"--help") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = flags.iter().find(|flag| **flag != "--keep-going") {
        eprintln!("unknown option {unknown}\n\n{}", help());
        return ExitCode::from(2);
    }
    let keeps_going = flags.contains(&"--keep-going");
    if names == ["test"] {
        return lanes::all(root(), keeps_going);
    }
    match select(&names) {
        Ok(steps) => lanes::only(root(), keeps_going, &steps),
        Err(unknown) => {
            eprintln!("unknown step {unknown}\n\n{}", help());
            ExitCode::from(2)
        }
    }
}

/// The root of the repository, wherever the command was given.
fn root() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.ancestors().nth(2).expect("xtask is dev/xtask of the repository").to_path_buf()
}

/// The tool that is asked for, and its arguments. A step of the same name is what is asked for when all of them
/// are other steps, or `--keep-going`.
fn tool(arguments: &[String]) -> Option<(&'static Tool, &[String])> {
    let (name, rest) = arguments.split_first()?;
    let tool = TOOLS.iter().find(|tool| tool.name == name)?;
    let is_step = |word: &String| steps::all().any(|step| step.name == word);
    let is_told = rest.iter().any(|word| word != "--keep-going" && !is_step(word));
    (!is_step(name) || is_told).then_some((tool, rest))
}

/// The steps that `names` ask for, in the order asked; `Err` is the first name that no step has.
fn select<'a>(names: &[&'a str]) -> Result<Vec<&'static Step>, &'a str> {
    names
        .iter()
        .map(|name| steps::all().find(|step| step.name == *name).ok_or(*name))
        .collect::<Result<_, _>>()
}

fn help() -> String {
    let mut text = String::from(
        "cargo xtask test [--keep-going]    every step below, some beside others\n\
         cargo xtask STEP.. [--keep-going]  only these, in this order\n\n\
         The first failure ends the run, unless --keep-going is given.\n\n",
    );
    for step in steps::all() {
        text.push_str(&format!("  {:<10}{}\n", step.name, step.about));
    }
    text.push_str("\nBeside them, each alone and with arguments of its own:\n\n");
    for tool in TOOLS {
        text.push_str(&format!("  {:<10}{}\n", tool.name, tool.about));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_selected_by_name_and_unknown_ones_refused() {
        let names = ["unit", "autobahn", "fmt"];
        let some: Vec<_> = select(&names).unwrap().iter().map(|s| s.name).collect();
        assert_eq!(some, names);
        assert_eq!(select(&["fmt", "nonsense"]).err(), Some("nonsense"));
    }

    #[test]
    fn help_names_every_step() {
        let help = help();
        for step in steps::all() {
            assert!(help.contains(step.name) && help.contains(step.about));
        }
        for tool in TOOLS {
            assert!(help.contains(tool.name) && help.contains(tool.about));
        }
    }

    #[test]
    fn a_tool_with_the_name_of_a_step_is_meant_when_it_has_arguments_of_its_own() {
        let meant = |line: &str| {
            let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            tool(&arguments).map(|(tool, rest)| (tool.name, rest.len()))
        };
        assert_eq!(meant("crash --kills 200"), Some(("crash", 2)));
        for line in ["crash model", "crash controls", "crash history", "crash yjs", "api nonsense"]
        {
            assert_eq!(meant(line), line.split_once(' ').map(|(name, _)| (name, 1)), "{line}");
        }
        assert_eq!(meant("crash model --keep-going"), Some(("crash", 2)));
        assert_eq!(meant("bench"), Some(("bench", 0)));
        for line in ["crash", "crash --keep-going", "crash deny", "fmt crash", "fmt model", ""] {
            assert_eq!(meant(line), None, "{line}");
        }
    }
}
