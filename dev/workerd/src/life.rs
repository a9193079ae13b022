/// The life of a room, as its runtime tells it in the log: the room itself is not asked, so it may sleep.
///
/// The Worker has to log from `debug` on: [`Project::var`](crate::Project::var)`("PARTYKIT_LOG", "debug")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Life {
    /// Whether it is not in memory: it was put to sleep, or never made.
    pub is_asleep: bool,
    /// How many connections it has.
    pub connections: usize,
    /// What its instances were made for, in order: `connect`, `message`, `alarm`, ..
    pub wakes: Vec<String>,
}

impl Life {
    /// Reads what these lines tell of one room.
    pub(crate) fn read<'a>(
        lines: impl IntoIterator<Item = &'a str>,
        party: &str,
        room: &str,
    ) -> Self {
        let name = name(party, room);
        let mut life = Self { is_asleep: true, ..Self::default() };
        for line in lines.into_iter().filter(|line| line.contains(&name)) {
            if line.contains(SLEEPS) {
                life.is_asleep = true;
            }
            if line.contains("the object is in memory") {
                life.is_asleep = false;
            }
            if line.contains("the room wakes") {
                life.is_asleep = false;
                life.wakes.push(field(line, "cause=").unwrap_or_default().to_owned());
            }
            if let Some(connections) = field(line, "connections=") {
                life.connections = connections.parse().unwrap_or_default();
            }
        }
        life
    }
}

/// What the control says of a room that it has put to sleep.
const SLEEPS: &str = "sleeps now";

/// How the log calls a room.
fn name(party: &str, room: &str) -> String {
    format!("party={party:?} room={room:?}")
}

/// The word behind a field's name.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_from_the_lines_of_the_room() {
        const LINES: &[&str] = &[
            r#"the object is in memory party="main" room="a" connections=0"#,
            r#"a connection comes party="main" room="a" connections=1"#,
            r#"room party="main" room="a": the room wakes reason=First cause=connect"#,
            r#"party="main" room="a" sleeps now"#,
            r#"room party="main" room="b": the room wakes reason=First cause=request"#,
        ];
        let read = |lines: &[&'static str]| Life::read(lines.iter().copied(), "main", "a");
        let wakes = vec!["connect".to_owned()];
        assert_eq!(read(&[]), Life { is_asleep: true, connections: 0, wakes: Vec::new() });
        assert_eq!(read(&LINES[..3]), Life { is_asleep: false, connections: 1, wakes });
        assert!(read(LINES).is_asleep, "the other room's wake is not its own");
        let again = [LINES, &[r#"the object is in memory party="main" room="a" connections=1"#]];
        let again = read(&again.concat());
        assert!(!again.is_asleep, "an object that is there for nothing is there, too");
        assert_eq!(again.wakes.len(), 1);
    }
}
