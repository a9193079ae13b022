//! The document has two parts, and a run writes one of them.

use crate::{measure::Sizes, server::Kind};

/// What a report is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The Tokio runtime beside the bare minimum.
    Tokio,
    /// The Workers runtime beside others in `workerd`.
    Workers,
}

/// Where the second part begins.
const WORKERS: &str = "# Benchmarks of Workers\n";

impl Part {
    /// The servers whose figures stand in it.
    pub(super) fn servers(self) -> &'static [Kind] {
        match self {
            Self::Tokio => &Kind::SERVED,
            Self::Workers => &Kind::SLEEPING,
        }
    }

    /// The one that the others stand beside.
    pub(super) fn ours(self) -> Kind {
        match self {
            Self::Tokio => Kind::PartyKit,
            Self::Workers => Kind::Worker,
        }
    }

    pub(super) fn column(self, kind: Kind) -> usize {
        let column = self.servers().iter().position(|known| *known == kind);
        column.expect("a part is of the servers that are measured for it")
    }

    pub(super) fn introduction(self) -> String {
        match self {
            Self::Tokio => "# Benchmarks\n\n\
                 Written by `cargo xtask bench`; what each line is, and how it is measured, stands in \
                 `dev/bench/src`.\n\
                 *raw* is one epoll loop without any of what a room is, with a write for each delivery; \
                 *tungstenite*\nis a task for each socket with tokio-tungstenite and its defaults, and \
                 only echoes. The clients are a process\nof their own on the same machine. Trust the \
                 ratios: the servers took turns.\n\n\
                 ![The figures below as bars](benchmarks.svg)\n\n"
                .to_owned(),
            Self::Workers => format!(
                "{WORKERS}\n\
                 Written by `cargo xtask bench --only workers`. One party, four times, asked by the same \
                 clients:\n\
                 *partykit*, on Tokio; *partykit on workerd*, the same Rust as a Worker; *partyserver on \
                 workerd*, in\n\
                 JavaScript with the npm package; *bare object on workerd*, in JavaScript on the \
                 platform's own interface,\n\
                 with no ids, tags or attachments: what no library can go below.\n\n\
                 * Processor time is that of all threads of `workerd`, after some thousand events, with \
                 the three Workers in turns. All\n  three note each end of a connection in their storage.\n\
                 * Memory is the proportional share (PSS) of the whole process, before and after so many \
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
            Self::Tokio => format!(
                "Sizes: {} turns; {} connections in one room, {} of them asking for echoes; a storm in {} \
                 rooms of {};\n{} wakes in {} rooms; memory of {} connections; {} rooms that sleep; {} \
                 alarms that are not due.\nMessages of 64 bytes. Servers with jemalloc unless a row \
                 names another: an allocator is the choice\nof the server's author.\n",
                sizes.turns,
                sizes.crowd,
                sizes.active,
                sizes.storm_rooms,
                sizes.storm_talkers,
                sizes.wake_rooms * sizes.wakes,
                sizes.wake_rooms,
                sizes.idle,
                sizes.rooms,
                sizes.pending,
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
        let at = document.find(WORKERS).unwrap_or(document.len());
        let (tokio, workers) = document.split_at(at);
        let (tokio, workers) = match self {
            Self::Tokio => (text, workers),
            Self::Workers => (tokio, text),
        };
        let parts = [tokio, workers].map(str::trim_end);
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{}\n", parts.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_other_stays() {
        let workers = |text| format!("{WORKERS}{text}\n");
        let both = Part::Workers.put("# Benchmarks\none\n", &workers("two"));
        assert_eq!(both, format!("# Benchmarks\none\n\n{}", workers("two")));
        assert_eq!(Part::Workers.put("", &workers("two")), workers("two"));
        let again = Part::Workers.put(&both, &workers("three"));
        assert_eq!(again, format!("# Benchmarks\none\n\n{}", workers("three")));
        let again = Part::Tokio.put(&again, "# Benchmarks\nfour\n");
        assert_eq!(again, format!("# Benchmarks\nfour\n\n{}", workers("three")));
    }

    #[test]
    fn each_part_has_its_own_server() {
        for part in [Part::Tokio, Part::Workers] {
            assert_eq!(part.servers()[part.column(part.ours())], part.ours());
        }
    }
}
