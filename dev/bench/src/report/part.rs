//! The document has three parts, and a run writes one of them, or the first two.

use crate::{
    measure::Sizes,
    server::{AT_ONCE, Kind},
};

/// What a report is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sockets of the Tokio runtime, beside Bun and the bare minimum.
    Sockets,
    /// What the Tokio runtime stores, and rooms that have no connection.
    Storage,
    /// The Tokio runtime beside that of another revision.
    Beside,
    /// The Workers runtime beside others in `workerd`.
    Workers,
}

/// Those of the document, in their order.
const PARTS: [Part; 3] = [Part::Sockets, Part::Storage, Part::Workers];

impl Part {
    /// The servers whose figures stand in it.
    pub(super) fn servers(self) -> &'static [Kind] {
        match self {
            Self::Sockets => &Kind::SOCKETS,
            Self::Storage => &[Kind::PartyKit],
            Self::Beside => &[Kind::PartyKit, Kind::Former],
            Self::Workers => {
                &[Kind::PartyKit, Kind::Worker, Kind::PartyServer, Kind::Object, Kind::Floor]
            }
        }
    }

    /// The one that the others stand beside.
    pub(super) fn ours(self) -> Kind {
        match self {
            Self::Sockets | Self::Storage | Self::Beside => Kind::PartyKit,
            Self::Workers => Kind::Worker,
        }
    }

    pub(super) fn column(self, kind: Kind) -> usize {
        let column = self.servers().iter().position(|known| *known == kind);
        column.expect("a part is of the servers that are measured for it")
    }

    /// Its first line.
    fn head(self) -> &'static str {
        match self {
            Self::Sockets => "# Benchmarks\n",
            Self::Storage => "# Benchmarks of storage\n",
            Self::Beside => "# Beside another revision\n",
            Self::Workers => "# Benchmarks of Workers\n",
        }
    }

    pub(super) fn introduction(self) -> String {
        let head = self.head();
        match self {
            Self::Sockets => format!(
                "{head}\n\
                 Written by `cargo xtask bench`; what each line is, and how it is measured, stands in \
                 `dev/bench/src`.\n\
                 *raw* is one epoll loop without any of what a room is, with a write for each delivery; *Bun* \
                 is Bun's own\nWebSockets with a topic for each room, everything by default; *tungstenite* is \
                 a task for each socket with\ntokio-tungstenite and its defaults, and only echoes. The \
                 clients are a process of their own on the same machine.\nTrust the ratios: the servers took \
                 turns.\n\n\
                 * Processor time is that of all threads of the server, in user space and in the kernel. On \
                 loopback that is also\n  the kernel's work for what clients receive.\n\
                 * Memory is what the server's process alone has (anonymous pages), less what it had with 16 \
                 connections. It is read\n  22 s after the last event: rooms fall asleep 10 s after it, and \
                 jemalloc gives free pages back 10 s later.\n  *On the heap* is what the program has asked \
                 for and not given back, in jemalloc's sizes.\n\
                 * Allocations are those of a server whose jemalloc keeps nothing for threads, so that each is \
                 counted.\n\n\
                 ![The figures below as bars](benchmarks.svg)\n\n"
            ),
            Self::Storage => format!(
                "{head}\n\
                 What a room stores, beside other stores, and what rooms cost that have no connection. The \
                 stores took turns.\n\n"
            ),
            Self::Beside => format!(
                "{head}\nServers of two revisions that took turns, asked by the same clients.\n\n"
            ),
            Self::Workers => format!(
                "{head}\n\
                 Written by `cargo xtask bench --only workers`. One party, five times, asked by the same \
                 clients:\n\
                 *partykit*, on Tokio; *partykit on workerd*, the same Rust as a Worker; *partyserver on \
                 workerd*, in\n\
                 JavaScript with the npm package; *bare object on workerd*, in JavaScript on the \
                 platform's own interface,\n\
                 with no ids, tags or attachments: what no library can go below. *least wasm on workerd* is \
                 that, but what it\ndecides is 20 lines of wasm: what no room of wasm can go below.\n\n\
                 * Processor time is that of all threads of `workerd`, after some thousand events, with \
                 the four Workers in turns. All\n  note each end of a connection in their storage. V8 \
                 compiles for speed in the thread that runs the code, or it would\n  be chance which functions \
                 it compiles.\n\
                 * Memory is what the process alone has (anonymous pages), before and after this many \
                 connections in one\n  room, 10.5 s after the room was put to sleep. What a garbage \
                 collector has not yet collected counts: an idle\n  `workerd` collects nothing.\n\
                 * A wake is the time from a message to its answer when the room slept (`workerd` is told \
                 to evict it; the\n  answer says that a new instance gave it), rooms one after another, \
                 with two connections each.\n\
                 * It is `workerd` on this machine, as `wrangler dev` runs it, not Cloudflare's network: \
                 there, sockets of a\n  sleeping room are held elsewhere, and a wake has a way to go.\n\n"
            ),
        }
    }

    pub(super) fn scale(self, sizes: &Sizes) -> String {
        match self {
            Self::Sockets => format!(
                "Sizes: {} turns, of memory {}; {} connections in one room, {} of them asking for echoes; {} \
                 that each make a room;\n{}; {} wakes in {} rooms, and {} of a room of {} connections;\n\
                 memory of {} and {} connections of one room, of {} rooms with one, of {} connections with \
                 TLS.\nMessages of 64 bytes. Servers with jemalloc unless a row names another: an allocator \
                 is the choice\nof the server's author. Bun and rustls have what they have.\n",
                sizes.turns,
                sizes.memory_turns,
                sizes.crowd,
                sizes.active,
                sizes.fresh_rooms,
                sizes
                    .storms
                    .map(|(rooms, talkers)| format!("storms in {rooms} rooms of {talkers}"))
                    .join(", "),
                sizes.wake_rooms * sizes.wakes,
                sizes.wake_rooms,
                sizes.wakes_of_many,
                sizes.crowd,
                sizes.idle,
                sizes.most,
                sizes.sleepers,
                sizes.idle_tls,
            ),
            Self::Storage => format!(
                "Sizes: {} turns; {} rooms that sleep; {} alarms that are not due. Servers with jemalloc \
                 unless a row\nnames another.\n",
                sizes.turns, sizes.rooms, sizes.pending,
            ),
            Self::Beside => format!(
                "Sizes: {} turns; {} connections in one room, {} of them asking for echoes; {} that each make a \
                 room;\n{} wakes a turn; {} rooms that are written, {} at a time.\n",
                sizes.turns,
                sizes.crowd,
                sizes.active,
                sizes.fresh_rooms,
                sizes.wake_rooms * sizes.wakes,
                sizes.written,
                AT_ONCE,
            ),
            Self::Workers => format!(
                "Sizes: {} turns; {} of processor time; broadcasts to {} connections; {} wakes in {} rooms a \
                 turn; memory of {} connections, {} turns.\nMessages of 64 bytes. Tokio with jemalloc.\n",
                sizes.turns,
                sizes.worker_cost_turns,
                sizes.worker_crowd,
                sizes.worker_rooms * sizes.wakes,
                sizes.worker_rooms,
                sizes.worker_idle,
                sizes.worker_memory_turns,
            ),
        }
    }

    /// The document with this part of it replaced by `text`.
    pub(crate) fn put(self, document: &str, text: &str) -> String {
        let (mut rest, mut parts) = (document, Vec::new());
        for part in PARTS.into_iter().rev() {
            // One that is not there is empty.
            let (before, there) = rest.split_at(find(rest, part.head()).unwrap_or(rest.len()));
            parts.push(if part == self { text } else { there }.trim_end());
            rest = before;
        }
        let parts: Vec<_> = parts.into_iter().rev().filter(|part| !part.is_empty()).collect();
        format!("{}\n", parts.join("\n\n"))
    }
}

/// Where a line begins that is this one, with its end.
fn find(document: &str, line: &str) -> Option<usize> {
    let mut places = document.match_indices(line).map(|(at, _)| at);
    places.find(|at| document[..*at].is_empty() || document[..*at].ends_with('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_others_stay() {
        let text = |part: Part, body: &str| format!("{}{body}\n", part.head());
        let [sockets, storage, workers] = PARTS;
        let one = sockets.put("", &text(sockets, "one"));
        assert_eq!(one, text(sockets, "one"));
        let two = workers.put(&one, &text(workers, "two"));
        assert_eq!(two, format!("{}\n{}", text(sockets, "one"), text(workers, "two")));
        let three = storage.put(&two, &text(storage, "three"));
        let rest = format!("{}\n{}", text(storage, "three"), text(workers, "two"));
        assert_eq!(three, format!("{}\n{rest}", text(sockets, "one")));
        let four = sockets.put(&three, &text(sockets, "four"));
        assert_eq!(four, format!("{}\n{rest}", text(sockets, "four")));
    }

    #[test]
    fn each_part_has_its_own_server() {
        for part in PARTS.into_iter().chain([Part::Beside]) {
            assert_eq!(part.servers()[part.column(part.ours())], part.ours());
        }
    }
}
