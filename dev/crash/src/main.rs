//! `cargo xtask crash` runs this.

use std::{collections::BTreeSet, env, path::Path, process::ExitCode};

use partykit::Result;
use partykit_crash::{
    Command, HELP, Lives, ModelPlan, Plan, Recovery, Soak, Timetables, Whose, bells, live, lives,
    logs, model, parse, recover, run, run_timetables, scribe, self_test, serve, shim, short_life,
    soak, timetables,
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("faults") => return code(judge_lives(&arguments[1..]).await),
        Some("alarms") => return code(judge_alarms(&arguments[1..]).await),
        Some("history") => return code(judge_history(&arguments[1..]).await),
        Some("log") => return code(logs(&arguments[1..]).await),
        Some("schedules") => return code(judge_schedules(&arguments[1..]).await),
        Some("timetables") => return code(timetables(&arguments[1..]).await),
        Some("bells") => return code(bells(&arguments[1..]).await),
        Some("short-life") => {
            let has = |flag: &str| arguments.iter().any(|it| it == flag);
            let directory = arguments.get(1).map(Path::new).unwrap_or(Path::new("."));
            return code(short_life(directory, has("--dies"), has("--forgets")).await);
        }
        _ => {}
    }
    let command = match parse(env::args().skip(1)) {
        Ok(command) => command,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Run(plan) => judge(&plan).await,
        Command::Controls { seed } => controls(seed).await,
        Command::Model(plan) => judge_model(&plan),
        Command::Life(life) => live(&life).await,
        Command::Serve(storing) => serve(&storing).await,
        Command::Scribe(script) => scribe(&script).map_err(Into::into),
    };
    code(done)
}

fn code(done: Result) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn judge(plan: &Plan) -> Result {
    println!("{plan:?}");
    if plan.power_loss {
        self_test(&env::current_exe()?, &shim()?)?;
        println!("the shim loses what was not synced, and nothing else");
    }
    let report = run(plan).await?;
    println!("{report}");
    if report.kills < plan.kills || !report.violations.is_empty() {
        eprintln!("{}", report.last_words);
        return Err("the server did not keep its word".into());
    }
    if report.writes == 0 || report.steps == 0 || report.rings == 0 {
        return Err("nothing was written, or no alarm rang: this says nothing".into());
    }
    if plan.hand_overs && (report.handed_over == 0 || report.kept == 0) {
        return Err("no next process took over, or none was killed: this says nothing".into());
    }
    Ok(())
}

fn judge_model(plan: &ModelPlan) -> Result {
    println!("{plan:?}");
    let report = model(plan)?;
    println!("{report}");
    if report.wrong.is_some() {
        return Err("the store is not as it should be".into());
    }
    if report.kills == 0 || report.kills == report.lives {
        return Err("no life was killed, or every one: this says nothing".into());
    }
    Ok(())
}

async fn judge_lives(arguments: &[String]) -> Result {
    let plan = Lives::parse(arguments)?;
    let broken = lives(&plan).await?;
    match (broken.is_empty(), plan.forgets) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err("this had to be found, and was not".into()),
        (false, false) => Err(format!("{} lives were broken", broken.len()).into()),
    }
}

async fn judge_alarms(arguments: &[String]) -> Result {
    let plan = Soak::parse(arguments)?;
    println!("{plan:?}");
    let found = soak(&plan).await?;
    match (found.is_empty(), plan.fault.is_some()) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err("this had to be found, and was not".into()),
        (false, false) => Err(format!("{} promises to alarms were broken", found.len()).into()),
    }
}

async fn judge_schedules(arguments: &[String]) -> Result {
    let plan = Timetables::parse(arguments)?;
    println!("{plan:?}");
    let found = run_timetables(&plan).await?;
    match (found.is_empty(), plan.fault.is_some()) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err("this had to be found, and was not".into()),
        (false, false) => Err(format!("{} rooms have broken schedules", found.len()).into()),
    }
}

async fn judge_history(arguments: &[String]) -> Result {
    let plan = Recovery::parse(arguments)?;
    println!("{plan:?}");
    let found = recover(&plan, Whose::Ours).await?;
    println!("PartyKit: {found}");
    if plan.beside {
        for kills in BTreeSet::from([0, plan.kills]) {
            let plan = Recovery { kills, ..plan.clone() };
            println!("socket.io: {}", recover(&plan, Whose::SocketIo).await?);
        }
    }
    match (found.is_whole(), plan.forgets) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err("this had to be found, and was not".into()),
        (false, false) => Err("listeners did not hear everything once and in order".into()),
    }
}

async fn controls(seed: u64) -> Result {
    for plan in Plan::controls(seed) {
        println!("{plan:?}");
        let report = run(&plan).await?;
        println!("{report}");
        println!("found after {} kills", report.kills);
        if !report.violations.iter().any(|(_, violation)| plan.asks_for(violation)) {
            return Err("this had to be found, and was not".into());
        }
    }
    for plan in ModelPlan::controls(seed) {
        println!("{plan:?}");
        let report = model(&plan)?;
        println!("{report}");
        if report.wrong.is_none() {
            return Err("this had to be found, and was not".into());
        }
    }
    Ok(())
}
