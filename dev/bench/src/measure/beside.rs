//! This revision beside another one, whose servers are those of its own bench: what a change costs shows
//! when both take turns, on whatever machine.

use std::{process::Command, time::Instant};

use partykit::Result;

use super::{Sizes, commits, crowd, each, handshakes, rate, rooms, storm, wake};
use crate::{
    child::{Server, bench},
    report::{Goal, Report},
    server::Kind,
};

const WRITTEN: &str = "rooms that are written a second";
const WRITTEN_TIME: &str = "processor time of a room that is written, µs";

/// By how much this revision may seem slower and be as fast: two runs of one revision differ by as much.
const LESS: Goal = Goal::AtMost(1.1);
const MORE: Goal = Goal::AtLeast(0.9);

/// What the server works, and what clients notice of it.
const TIMES: [&str; 9] = [
    crowd::HANDSHAKE_TIME,
    handshakes::HANDSHAKE_TIME,
    crowd::DELIVERY_TIME,
    crowd::ECHO_TIME,
    storm::STORMS[0].time,
    storm::STORMS[1].time,
    wake::COLD,
    wake::WARM,
    WRITTEN_TIME,
];
const RATES: [&str; 7] = [
    crowd::HANDSHAKES,
    handshakes::HANDSHAKES,
    crowd::DELIVERIES,
    crowd::ECHOES,
    storm::STORMS[0].deliveries,
    storm::STORMS[1].deliveries,
    WRITTEN,
];

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let kinds = [Kind::PartyKit, Kind::Former];
    for turn in 0..sizes.turns {
        for at in 0..kinds.len() {
            // What comes second may find another machine than what comes first.
            let kind = kinds[(turn + at) % kinds.len()];
            one(kind, sizes, report).map_err(|error| format!("{}: {error}", kind.name()))?;
        }
    }
    for measure in TIMES {
        report.compare(measure, Kind::Former, Some(LESS));
    }
    for measure in RATES.into_iter().chain(commits::ROOMS.map(|(_, measure)| measure)) {
        report.compare(measure, Kind::Former, Some(MORE));
    }
    Ok(())
}

fn one(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    crowd::turn(kind, sizes, report)?;
    handshakes::turn(kind, sizes, report)?;
    for (storm, names) in sizes.storms.into_iter().zip(&storm::STORMS) {
        storm::turn(kind, storm, names, sizes.window, report)?;
    }
    wake::turn(kind, sizes, report)?;
    write(kind, sizes, report)?;
    commit(kind, report)
}

/// Rooms commit inside of a bench and not of a server, so each revision's measures its own. Its small sizes
/// are enough, as it has many turns here.
fn commit(kind: Kind, report: &mut Report) -> Result<()> {
    let output = Command::new(bench(kind)?).args(["--only", "commits", "--quick"]).output()?;
    let told = String::from_utf8(output.stdout)?;
    for (_, measure) in commits::ROOMS {
        let figure = figure(&told, measure).ok_or_else(|| format!("no {measure}"))?;
        report.record(measure, kind, figure);
    }
    Ok(())
}

/// The figure in the first column of that row, from tables whose first column is partykit's.
fn figure(report: &str, measure: &str) -> Option<f64> {
    let mut lines = report.lines().skip_while(|line| !line.starts_with("| measure | partykit |"));
    let row = lines.find_map(|line| line.strip_prefix(&format!("| {measure} | ")))?;
    let cell = row.split(" | ").next()?;
    match cell.strip_suffix('k') {
        Some(thousands) => Some(thousands.parse::<f64>().ok()? * 1000.0),
        None => cell.parse().ok(),
    }
}

/// Requests that each write a room, and are answered when that is durable.
fn write(kind: Kind, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let home = rooms::home()?;
    let mut server = Server::start_rooms(kind, home.path())?;
    let (first, count) = (sizes.written / 10, sizes.written);
    server.count(&format!("burst 0 {first}"))?;
    let before = server.process().processor_time()?;
    let begun = Instant::now();
    server.count(&format!("burst {first} {}", first + count))?;
    let took = begun.elapsed();
    let spent = server.process().processor_time()? - before;
    report.record(WRITTEN, kind, rate(count, took));
    report.record(WRITTEN_TIME, kind, each(count, spent));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_in_a_report_of_any_revision() {
        let report = "| measure | beside | ratio |\n|---|---|---:|\n| durable commits | fjall | 0.76 |\n\n\
                      | measure | partykit | raw |\n|---|---:|---:|\n\n\
                      | measure | partykit | fjall |\n|---|---:|---:|\n\
                      | durable commits | 55k | 57k |\n| slow commits | 582 | 57k |\n";
        assert_eq!(figure(report, "durable commits"), Some(55_000.0));
        assert_eq!(figure(report, "slow commits"), Some(582.0));
        assert_eq!(figure(report, "commits"), None);
    }
}
