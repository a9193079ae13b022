//! Clients that read nothing: what they cost the kernel and the server, and that all of it is gone soon.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use partykit::Result;

use super::Sizes;
use crate::{
    child::{Allocator, Server},
    client::{dial_with, enter},
    heap::Heap,
    namespace,
    report::{Goal, Report},
};

const MIB: f64 = 1024.0 * 1024.0;

/// What the kernel keeps on the client's side, as little as it may.
const BUFFER: usize = 2304;

/// What waits for all clients together by default, in MiB.
const LIMIT: f64 = 256.0;

/// When the kernel has to have forgotten who was given up.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// All have to be given up by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clients that are told this many messages of this many bytes again and again.
#[derive(Clone, Copy)]
struct Deaf {
    clients: usize,
    bytes: usize,
    at_once: usize,
}

pub(super) fn take(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let (few, many) = (sizes.deaf / 8, sizes.deaf);
    for (clients, bytes, at_once) in
        [(many, 10_000, 20), (few, 100, 2000), (many, 100, 2000), (few, 1, 5000), (many, 1, 5000)]
    {
        endure(Deaf { clients, bytes, at_once }, report)?;
    }
    Ok(())
}

fn endure(attack: Deaf, report: &mut Report) -> Result<()> {
    let Deaf { clients, bytes, at_once } = attack;
    let places = (clients + 100).to_string();
    let mut server = Server::start_with(&["serve", "hostile", &places], Allocator::Jemalloc)?;
    let mut deaf = Vec::new();
    for n in 0..clients {
        let from = Ipv4Addr::new(127, 0, 3, 1 + (n % 250) as u8);
        let mut stream = dial_with(from, server.address(), Some(BUFFER))?;
        if !enter(&mut stream, "hall")? {
            return Err("a client is not let in".into());
        }
        deaf.push(stream);
    }
    let (kernel, process) = (namespace::tcp_memory()?, server.process().memory()?);
    // The first answer is of the clients coming in.
    server.ask("heap")?;
    let heap = Heap::parse(&server.ask("heap")?)?;
    let (mut kernel_peak, mut process_peak, mut counted) = (kernel, process, 0);
    let begun = Instant::now();
    while server.count("given up")? < clients as u64 {
        if begun.elapsed() > PATIENCE {
            let count = server.count("given up")?;
            return Err(format!("{count} of {clients} were given up").into());
        }
        server.ask(&format!("broadcast {at_once} {bytes}"))?;
        kernel_peak = kernel_peak.max(namespace::tcp_memory()?);
        process_peak = process_peak.max(server.process().memory()?);
        counted = counted.max(server.count("waiting")?);
        thread::sleep(Duration::from_millis(50));
    }
    let took = begun.elapsed();
    let heap_peak = Heap::parse(&server.ask("heap")?)?;
    thread::sleep(FORGOTTEN);
    let (kernel_after, (sockets, waiting)) =
        (namespace::tcp_memory()?, namespace::held_by(server.address().port())?);
    let of_clients = "what their own side holds";
    let mib = |bytes: u64| bytes as f64 / MIB;
    let mut claim = |measure: &str, value, goal| {
        let measure = format!("{clients} deaf clients, messages of {bytes} bytes: {measure}");
        report.claim_each(measure, of_clients, vec![value], goal);
    };
    claim("all given up after, s", took.as_secs_f64(), Some(Goal::AtMost(40.0)));
    claim("TCP memory before, MiB", mib(kernel), None);
    claim("TCP memory at its peak, MiB", mib(kernel_peak), None);
    let tenth = Goal::AtMost(mib(kernel_peak) / 10.0);
    claim("TCP memory 5 s after, MiB", mib(kernel_after), Some(tenth));
    claim("sockets of the server 5 s after", sockets as f64, Some(Goal::AtMost(0.0)));
    claim("bytes that wait in them", waiting as f64, Some(Goal::AtMost(0.0)));
    claim("counted as waiting at its peak, MiB", mib(counted), Some(Goal::AtMost(1.5 * LIMIT)));
    let grown = |peak: usize, before: usize| peak.saturating_sub(before) as f64 / MIB;
    let allocated = grown(heap_peak.allocated, heap.allocated);
    claim("the heap grew by, MiB", allocated, Some(Goal::AtMost(1.5 * LIMIT)));
    claim("its pages grew by, MiB", grown(heap_peak.active, heap.active), None);
    let resident = grown(heap_peak.resident, heap.resident);
    claim("its pages and free ones grew by, MiB", resident, None);
    claim("the server's process grew by, MiB", mib(process_peak.saturating_sub(process)), None);
    drop(deaf);
    Ok(())
}
