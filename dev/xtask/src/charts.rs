//! Charts of the guide, drawn from the tables that `cargo xtask bench` has written.

use std::{fmt::Write as _, fs, path::Path};

use crate::command::Failure;

/// Where the figures stand, below the root.
pub(crate) const TABLES: &str = "docs/src/benchmarks.md";

/// What is drawn of them.
pub(crate) const CHART: &str = "docs/src/benchmarks.svg";

/// A measure, as its row is called, and what a reader has to know of it.
const PANELS: [(&str, &str, &str); 6] = [
    (
        "bytes of an idle connection, jemalloc",
        "Memory of an idle connection",
        "bytes; less is better",
    ),
    (
        "broadcast: deliveries a second",
        "One broadcast to a full room",
        "deliveries a second; more is better",
    ),
    (
        "storm: deliveries a second",
        "Ten rooms in which everybody talks",
        "deliveries a second; more is better",
    ),
    ("echoes a second", "Echoes", "a second; more is better"),
    (
        "durable commits a second, 16 rooms",
        "Durable commits, 16 rooms at a time",
        "a second; more is better",
    ),
    (
        "durable commits a second, 256 rooms",
        "Durable commits, 256 rooms at a time",
        "a second; more is better",
    ),
];

const WIDTH: usize = 760;
const BAR: usize = 22;
const LABELS: usize = 190;
const VALUES: usize = 70;

/// Colours of a card of its own, so that it can be read on a page of any colour.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1c2330}.card{fill:#f7f8fa;stroke:#d5dae2}.title{font-weight:600;font-size:15px}\
.note{fill:#5d6778}.ours{fill:#d9480f}.other{fill:#9aa5b5}\
@media(prefers-color-scheme:dark){text{fill:#e6eaf0}.card{fill:#161b22;stroke:#333c49}.note{fill:#98a3b3}.ours{fill:#ff7a3d}.other{fill:#5b6778}}";

/// Draws [`CHART`] again.
pub(crate) fn write(root: &Path) -> Result<(), Failure> {
    let svg = drawn(root)?;
    fs::write(root.join(CHART), svg).map_err(|error| Failure::new(format!("{CHART}: {error}")))
}

/// A failure when [`CHART`] does not show what stands in [`TABLES`].
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    let drawn = drawn(root)?;
    match fs::read_to_string(root.join(CHART)) {
        Ok(svg) if svg == drawn => Ok(()),
        _ => Err(Failure::new(format!("{CHART} is not of {TABLES}: `cargo xtask book --charts`"))),
    }
}

fn drawn(root: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(root.join(TABLES))
        .map_err(|error| Failure::new(format!("{TABLES}: {error}")))?;
    chart(&text).map_err(|why| Failure::new(format!("{TABLES}: {why}")))
}

/// All panels, one below the other.
fn chart(tables: &str) -> Result<String, String> {
    let mut body = String::new();
    let mut y = 0;
    for (measure, title, unit) in PANELS {
        let bars = row(tables, measure).ok_or_else(|| format!("no row of figures: {measure}"))?;
        let height = 62 + bars.len() * (BAR + 8);
        let _ = write!(
            body,
            "<g transform=\"translate(0 {y})\"><rect class=\"card\" x=\".5\" y=\".5\" width=\"{}\" \
             height=\"{height}\" rx=\"10\"/><text class=\"title\" x=\"20\" y=\"30\">{title}</text>\
             <text class=\"note\" x=\"{}\" y=\"30\" text-anchor=\"end\">{unit}</text>",
            WIDTH - 1,
            WIDTH - 20,
        );
        let most = bars.iter().map(|(_, _, value)| *value).fold(0.0, f64::max);
        for (index, (name, text, value)) in bars.iter().enumerate() {
            let top = 50 + index * (BAR + 8);
            let line = top + BAR - 6;
            let room = (WIDTH - LABELS - VALUES - 20) as f64;
            let length = (room * value / most).max(2.0);
            let class = if name == "partykit" { "ours" } else { "other" };
            let _ = write!(
                body,
                "<text x=\"20\" y=\"{line}\">{name}</text><rect class=\"{class}\" x=\"{LABELS}\" \
                 y=\"{top}\" width=\"{length:.0}\" height=\"{BAR}\" rx=\"4\"/>\
                 <text x=\"{:.0}\" y=\"{line}\">{text}</text>",
                LABELS as f64 + length + 8.0,
            );
        }
        body.push_str("</g>\n");
        y += height + 14;
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" \
         height=\"{y}\" role=\"img\"><title>Benchmarks</title><style>{STYLE}</style>\n{body}</svg>\n"
    ))
}

/// The figures of the row of this name: who, as it is written, and the number. From the first table whose
/// columns are contestants.
fn row(tables: &str, measure: &str) -> Option<Vec<(String, String, f64)>> {
    let mut head: Vec<&str> = Vec::new();
    for line in tables.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells.len() > 2 && cells[1] == "measure" {
            head = cells;
        } else if cells.len() == head.len()
            && head.get(2) == Some(&"partykit")
            && cells[1] == measure
        {
            let bars = head.iter().zip(&cells).skip(2).filter_map(|(name, text)| {
                Some(((*name).to_owned(), (*text).to_owned(), number(text)?))
            });
            return Some(bars.collect());
        }
    }
    None
}

/// `138k` is 138,000.
fn number(text: &str) -> Option<f64> {
    match text.strip_suffix('k') {
        Some(thousands) => Some(thousands.parse::<f64>().ok()? * 1000.0),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_the_names_of_its_columns() {
        let tables = "| measure | beside | ratio |\n|---|---|---|\n| echoes | raw | 0.6 |\n\n\
                      | measure | partykit | raw | other |\n|---|---:|---:|---:|\n| echoes | 117k | 174.5 |  |\n";
        let bars = row(tables, "echoes").unwrap();
        let expected = [("partykit", "117k", 117_000.0), ("raw", "174.5", 174.5)];
        assert_eq!(bars, expected.map(|(name, text, value)| (name.into(), text.into(), value)));
        assert!(row(tables, "wakes").is_none());
        assert!(chart(tables).unwrap_err().contains("no row of figures"));
    }

    #[test]
    fn the_committed_chart_shows_the_committed_figures() {
        check(&crate::root()).unwrap();
    }
}
