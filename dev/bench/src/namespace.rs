//! A network of its own, where the kernel counts only what this bench does.

use std::{env, fs, process::Command};

use partykit::Result;

/// Says to a process that it is in one.
const MARK: &str = "PARTYKIT_BENCH_NAMESPACE";

/// As little as is on its way over a wide area; loopback's 4 MB would hide what waits.
const NARROW: &str = "sysctl -qw net.ipv4.tcp_wmem='4096 87380 131072' &&";

/// Whether this process is in a network of its own.
pub(crate) fn is_own() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs this program again with the same arguments, in a network of its own. Whether it succeeds.
///
/// # Errors
///
/// When there can be none: `unshare`, `ip` and `sysctl` are needed, and the rights of root or of a user
/// who may make namespaces.
pub(crate) fn run_in_own(is_narrow: bool) -> Result<bool> {
    let narrow = if is_narrow { NARROW } else { "" };
    let script = format!("ip link set lo up && {narrow} exec \"$0\" \"$@\"");
    let status = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(MARK, "")
        .status()
        .map_err(|error| format!("unshare: {error}"))?;
    Ok(status.success())
}

/// How often the kernel has dropped a connection that asked to be accepted, and how often because too many
/// waited already: `ListenDrops`, in which `ListenOverflows` are counted too, and these.
pub(crate) fn dropped_by_listeners() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Err("a kernel without TcpExt".into());
    };
    let count = |wanted: &str| -> Result<u64> {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let found = pairs.find(|(name, _)| *name == wanted);
        Ok(found.ok_or_else(|| format!("a kernel without {wanted}"))?.1.parse()?)
    };
    Ok((count("ListenDrops")?, count("ListenOverflows")?))
}

/// What the kernel holds for TCP, in bytes.
pub(crate) fn tcp_memory() -> Result<u64> {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).ok_or("no TCP in sockstat")?;
    let pages = line.split_whitespace().skip_while(|word| *word != "mem").nth(1);
    Ok(pages.ok_or("no mem in sockstat")?.parse::<u64>()? * PAGE)
}

/// Connections of a server that the kernel has not forgotten, and the bytes that wait in them.
pub(crate) fn held_by(port: u16) -> Result<(usize, u64)> {
    const LISTENS: &str = "0A";
    let (text, port) = (fs::read_to_string("/proc/net/tcp")?, format!(":{port:04X}"));
    let (mut count, mut bytes) = (0, 0);
    for line in text.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        if !words[1].ends_with(&port) || words[3] == LISTENS {
            continue;
        }
        let waiting = words[4].split(':').next().unwrap_or("0");
        count += 1;
        bytes += u64::from_str_radix(waiting, 16)?;
    }
    Ok((count, bytes))
}
