use serde_json::Value;

use crate::{
    AUTO_REQUEST, Command,
    suite::{Client, Frame, Mode, Room, Target},
};

/// The same script in a room that sleeps after every step and in one that never does; everything that
/// anybody sees has to be equal, but for what tells instances apart.
pub(super) async fn differ_in_nothing(target: &Target) {
    let [hibernating, in_memory] = Mode::BOTH.map(|mode| target.room(mode, "modes"));
    let (hibernating, in_memory) = (transcript(&hibernating).await, transcript(&in_memory).await);
    assert_eq!(hibernating.len(), in_memory.len());
    for (line, (one, other)) in hibernating.iter().zip(&in_memory).enumerate() {
        assert_eq!(one, other, "hibernating (left) and in memory (right) differ in line {line}");
    }
}

async fn transcript(room: &Room<'_>) -> Vec<String> {
    let mut lines = Lines(Vec::new());
    let mut witness = room.connect_with("witness", "tags=quiet").await;
    let mut ada = room.connect_with("ada", "greet=2&tags=loud").await;
    lines.hear(room, "ada", &mut ada, 2).await;

    let put = Some("rolled back".to_owned());
    let key = || "kept".to_owned();
    for command in [
        Command::Who,
        Command::Count,
        Command::Count,
        Command::Put { key: key(), value: 1.into() },
        Command::Fail { put: None },
        Command::Fail { put: put.clone() },
        Command::Count,
        Command::Panic { put: None },
        Command::Panic { put },
        Command::Rows { prefix: String::new() },
        Command::Tagged { tag: "loud".into() },
        Command::Broadcast { text: "hello".into(), tag: None, except_me: false },
        Command::Slow { yields: 10 },
        Command::Count,
        Command::Find { id: "ada".into() },
    ] {
        let both = matches!(
            command,
            Command::Fail { .. } | Command::Panic { .. } | Command::Broadcast { .. }
        );
        ada.tell(command).await;
        lines.hear(room, "ada", &mut ada, 1).await;
        if both {
            lines.hear(room, "witness", &mut witness, 1).await;
        }
    }
    for text in ["", "echo", AUTO_REQUEST] {
        ada.say(text).await;
        lines.hear(room, "ada", &mut ada, 1).await;
    }

    let mut again = room.connect_with("ada", "greet=1").await;
    lines.hear(room, "ada again", &mut again, 1).await;
    let mut failed = room.connect_with("eve", "greet=1&connect=fail").await;
    lines.hear(room, "eve", &mut failed, 1).await;
    for (name, client) in [("witness", &mut witness), ("ada", &mut ada), ("ada again", &mut again)]
    {
        lines.hear(room, name, client, 1).await;
    }
    for rest in ["", "/fail", "/panic", "/echo"] {
        let answer = room.get(rest).await;
        lines.write(room, rest, format!("{} {}", answer.status(), answer.text()));
        if matches!(rest, "/fail" | "/panic") {
            lines.hear(room, "witness", &mut witness, 1).await;
            lines.hear(room, "ada", &mut ada, 1).await;
            lines.hear(room, "ada again", &mut again, 1).await;
        }
        room.sleep().await;
    }

    ada.close(Some((4321, "bye"))).await;
    lines.hear(room, "ada", &mut ada, 1).await;
    lines.hear(room, "witness", &mut witness, 1).await;
    lines.hear(room, "ada again", &mut again, 1).await;
    again.vanish();
    lines.hear(room, "witness", &mut witness, 1).await;
    witness.tell(Command::Close { code: 4002, reason: "last".into() }).await;
    lines.hear(room, "witness", &mut witness, 1).await;
    lines.0
}

/// What was seen, without what may differ.
struct Lines(Vec<String>);

impl Lines {
    /// Writes down the next frames of a client, then lets the room sleep.
    async fn hear(&mut self, room: &Room<'_>, name: &str, client: &mut Client, frames: usize) {
        for _ in 0..frames {
            let frame = match client.next().await {
                Frame::Text(text) => text,
                other => format!("{other:?}"),
            };
            self.write(room, name, frame);
        }
        room.sleep().await;
    }

    fn write(&mut self, room: &Room<'_>, name: &str, text: String) {
        let text = match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(mut object)) => {
                for differing in ["instance", "reason", "headers"] {
                    object.remove(differing);
                }
                Value::Object(object).to_string()
            }
            _ => text,
        };
        let text = text.replace(room.path("").as_str(), "/room").replace(room.party(), "party");
        self.0.push(format!("{name}: {}", without_ids(&text)));
    }
}

/// Every error has its own id.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 16 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let words = text.split_inclusive(|it: char| !it.is_ascii_alphanumeric());
    words
        .map(|word| if is_id(word.trim_end_matches(['\n', '"', ')', ' '])) { "id" } else { word })
        .collect()
}
