//! `cargo xtask crash` runs this.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let result: Result<(), String> = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["scribe", script] => partykit_crash::scribe(script).map_err(|e| e.to_string()),
        ["self-test"] => (|| {
            let program = env::current_exe().map_err(|e| e.to_string())?;
            partykit_crash::self_test(&program, &partykit_crash::shim().map_err(|e| e.to_string())?)
        })(),
        _ => Err("?".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
