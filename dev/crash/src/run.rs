use std::{
    env, fmt, fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use partykit::{BoxError, storage::verify};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    Fault, Loss, Storing, Violation,
    copies::{self, Copies, Copy},
    crowd::{Crowd, Room, Stream, ask, now},
    handover::{After, Site, Victim},
    power::{self, Power},
    process::{Process, last_words},
    protocol::{Ask, LEDGER, STREAM, Told},
};

/// How long a server works before it is killed, in milliseconds.
const WORK: std::ops::Range<u64> = 20..500;

/// When a server is killed that may not be done with starting, in milliseconds.
const START: std::ops::Range<u64> = 0..60;

/// At how many starts one waits until all alarms have rung: one in this many.
const SETTLES: u8 = 6;

/// Alarms that are further ahead are not waited for, in milliseconds.
const FAR: u64 = 1_000_000;

/// How many backups of a life are checked: the last ones, which are nearest to the kill.
const COPIES: usize = 2;

/// How long alarms may take to ring, and the shim's log to be complete: far longer than they do.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is killed, how, and how often.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "the command line makes it")]
pub struct Plan {
    /// How often the server is killed.
    pub kills: u32,
    /// The server is replaced while clients work, and one of the two processes is killed meanwhile.
    pub hand_overs: bool,
    /// A kill is a power loss, too.
    pub power_loss: bool,
    /// The server stores without a sync for each commit.
    pub relaxed: bool,
    /// What the store gets wrong.
    pub fault: Option<Fault>,
    /// In how many rooms several clients write.
    pub rooms: usize,
    /// In how many rooms one client does one step after the other.
    pub streams: usize,
    /// What decides about the moments.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// How often the server was killed.
    pub kills: u32,
    /// How many writes clients were told of.
    pub writes: u64,
    /// The same of steps.
    pub steps: u64,
    /// How many backups were checked.
    pub copies: u64,
    /// How many files of the log were begun, at least.
    pub logs: u64,
    /// How many alarms clients heard ring.
    pub rings: u64,
    /// How often the next process has taken over, and how often the old one went on because that one was killed.
    pub handed_over: u64,
    /// See `handed_over`.
    pub kept: u64,
    /// Each promise that was broken, with its room if it is one room's. The run ends with the kill after which it is found.
    pub violations: Vec<(String, Violation)>,
    /// The last that the servers logged.
    pub last_words: String,
}

/// Kills a server as the plan says, and checks after each kill.
///
/// # Errors
///
/// When nothing can be said: there is no such program, or something got past the shim.
pub async fn run(plan: &Plan) -> Result<Report, BoxError> {
    let mut run = Run::new(plan)?;
    while run.kills < plan.kills && run.violations.is_empty() {
        if plan.hand_overs {
            run.kill_while_it_hands_over().await?;
        } else if run.random.u8(..8) == 0 {
            run.kill_while_it_starts().await?;
        } else {
            run.kill_at_work().await?;
        }
    }
    if run.violations.is_empty() {
        let power = run.power()?;
        run.start_and_check(power.as_ref(), true).await?;
    }
    Ok(run.report())
}

struct Run<'a> {
    plan: &'a Plan,
    random: fastrand::Rng,
    rooms: Vec<Arc<Room>>,
    streams: Vec<Arc<Stream>>,
    program: PathBuf,
    place: TempDir,
    kills: u32,
    copies: u64,
    logs: u64,
    handed_over: u64,
    kept: u64,
    violations: Vec<(String, Violation)>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        let place = tempfile::tempdir()?;
        fs::create_dir(place.path().join("disk"))?;
        let room = |number| Arc::new(Room::new(format!("room-{number}")));
        let stream = |number| Arc::new(Stream::new(format!("stream-{number}")));
        Ok(Self {
            plan,
            random: fastrand::Rng::with_seed(plan.seed),
            rooms: (0..plan.rooms).map(room).collect(),
            streams: (0..plan.streams).map(stream).collect(),
            program: env::current_exe()?,
            place,
            kills: 0,
            copies: 0,
            logs: 0,
            handed_over: 0,
            kept: 0,
            violations: Vec::new(),
        })
    }

    fn power(&self) -> io::Result<Option<Power>> {
        let (disk, log) = (self.place.path().join("disk"), self.place.path().join("power.log"));
        self.plan.power_loss.then(|| Power::on(&power::shim()?, &disk, &log)).transpose()
    }

    fn storing(&self) -> Storing {
        Storing {
            data: self.place.path().join("disk").join("data"),
            relaxed: self.plan.relaxed,
            fault: self.plan.fault,
            port: None,
        }
    }

    fn start(&self, power: Option<&Power>) -> io::Result<Process> {
        let mut storing = self.storing();
        if self.plan.hand_overs {
            // Only the next process has it.
            storing.fault = None;
        }
        Process::start(&self.program, &storing, power, &self.place.path().join("server.log"))
    }

    /// Recovery may be cut short too.
    async fn kill_while_it_starts(&mut self) -> Result<(), BoxError> {
        let power = self.power()?;
        let server = self.start(power.as_ref())?;
        sleep(Duration::from_millis(self.random.u64(START))).await;
        self.kill(server, power).await
    }

    async fn kill_at_work(&mut self) -> Result<(), BoxError> {
        let power = self.power()?;
        let settles = self.random.u8(..SETTLES) == 0;
        let Some((server, address)) = self.start_and_check(power.as_ref(), settles).await? else {
            return Ok(());
        };
        if let Some(power) = &power {
            nothing_unseen(power).await?;
        }
        let before = self.writes();
        let crowd = Crowd::start(address, &self.rooms, &self.streams, &mut self.random);
        let is_to = matches!(self.plan.fault, None | Some(Fault::StaleCopy)) && !self.plan.relaxed;
        let backs_up = is_to && self.random.bool();
        let copies = backs_up.then(|| {
            Copies::start(address, self.kills, &self.rooms, &self.streams, crowd.killed())
        });
        // Mostly all are at work, however slow the machine is; sometimes they are just coming.
        let deadline = Instant::now() + PATIENCE;
        let many = if self.random.u8(..4) == 0 { 0 } else { 4 * self.rooms.len() as u64 };
        while self.writes() < before + many && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(self.random.u64(WORK))).await;
        crowd.farewell();
        self.kill(server, power).await?;
        crowd.gone().await;
        if let Some(copies) = copies {
            let (copies, wrong) = copies.end().await?;
            self.violations.extend(wrong.map(|wrong| ("a backup".into(), wrong)));
            self.check_copies(&copies).await?;
        }
        Ok(())
    }

    /// Clients work at a server that is replaced a few times. As long as nothing is killed, nothing of them may
    /// fail. What is stored is checked by another server.
    async fn kill_while_it_hands_over(&mut self) -> Result<(), BoxError> {
        let settles = self.random.u8(..SETTLES) == 0;
        let Some((checker, _)) = self.start_and_check(None, settles).await? else { return Ok(()) };
        checker.kill().await?;
        let log = self.place.path().join("server.log");
        let mut site = Site::start(&self.program, self.storing(), &log).await?;
        let crowd = Crowd::start_over(site.address, &self.rooms, &self.streams, &mut self.random);
        for _ in 0..self.random.u32(1..4) {
            sleep(Duration::from_millis(self.random.u64(WORK))).await;
            let victim = match self.random.u8(..4) {
                0 => Some(Victim::Old),
                1 => Some(Victim::Next),
                _ => None,
            };
            if victim.is_some() {
                crowd.farewell();
            }
            match site.hand_over(victim, &mut self.random).await {
                Ok(After::Next) => self.handed_over += 1,
                Ok(After::Same) => self.kept += 1,
                Ok(After::Gone) => break,
                Err(error) => {
                    let broken = Violation::Unserved(error.to_string());
                    self.violations.push(("the server".into(), broken));
                    break;
                }
            }
        }
        sleep(Duration::from_millis(self.random.u64(WORK))).await;
        crowd.farewell();
        site.kill().await?;
        self.kills += 1;
        self.logs = self.newest_log().max(self.logs);
        crowd.gone().await;
        Ok(())
    }

    /// A copy that has its name is whole, also when the server was killed before it said so; one that
    /// was confirmed is there.
    async fn check_copies(&mut self, all: &[Copy]) -> Result<(), BoxError> {
        let disk = self.place.path().join("disk");
        for copy in all.iter().rev().take(COPIES) {
            let data = disk.join(&copy.name);
            if data.is_dir() {
                self.copies += 1;
                self.check_copy(data, copy).await?;
            } else if copy.is_done {
                let gone = Violation::Lost("it was confirmed, and is not there".into());
                self.violations.push((copy.name.clone(), gone));
            }
        }
        if self.violations.is_empty() {
            copies::remove_all(&disk, "data")?;
        }
        Ok(())
    }

    async fn check_copy(&mut self, data: PathBuf, copy: &Copy) -> Result<(), BoxError> {
        let wrong = match verify(&data, |_| ()) {
            Ok(report) if report.is_sound() => None,
            Ok(report) => Some(format!("it is damaged: {:?}", report.findings)),
            Err(error) => Some(error.to_string()),
        };
        let wrong = wrong.map(|how| (copy.name.clone(), Violation::Half(how)));
        self.violations.extend(wrong);
        let storing = Storing { data, relaxed: false, fault: None, port: None };
        let log = self.place.path().join("server.log");
        let mut server = Process::start(&self.program, &storing, None, &log)?;
        let address = match server.listens().await {
            Ok(address) => address,
            Err(error) => {
                let broken = Violation::Unserved(error.to_string());
                self.violations.push((copy.name.clone(), broken));
                return Ok(());
            }
        };
        let (rooms, streams) = copy.expected(&self.rooms, &self.streams);
        for (room, mut expected) in self.rooms.iter().zip(rooms) {
            if let Told::State(state) = state(address, LEDGER, &room.name).await? {
                let found = expected.check(state, false).into_iter();
                let found = found.map(|found| (format!("{} in {}", room.name, copy.name), found));
                self.violations.extend(found);
            }
        }
        for (stream, mut expected) in self.streams.iter().zip(streams) {
            if let Told::Stored(stored) = state(address, STREAM, &stream.name).await? {
                let found = expected.check(&stored, false).into_iter();
                let found = found.map(|found| (format!("{} in {}", stream.name, copy.name), found));
                self.violations.extend(found);
            }
        }
        server.kill().await?;
        Ok(())
    }

    /// The server, and where it listens. `None` when a promise is broken: also when it does not listen,
    /// or does not answer.
    async fn start_and_check(
        &mut self,
        power: Option<&Power>,
        settles: bool,
    ) -> io::Result<Option<(Process, SocketAddr)>> {
        let mut server = self.start(power)?;
        let begun = async {
            let address = server.listens().await?;
            self.check(address, settles).await?;
            Ok::<_, BoxError>(address)
        };
        match begun.await {
            Ok(address) => Ok(self.violations.is_empty().then_some((server, address))),
            Err(error) => {
                let broken = Violation::Unserved(error.to_string());
                self.violations.push(("the server".into(), broken));
                Ok(None)
            }
        }
    }

    async fn kill(&mut self, server: Process, power: Option<Power>) -> Result<(), BoxError> {
        if !server.kill().await? {
            let ended = Violation::Unserved("the server ended by itself".into());
            self.violations.push(("the server".into(), ended));
        }
        self.kills += 1;
        self.logs = self.newest_log().max(self.logs);
        if let Some(power) = power {
            // The last change may not be recorded; if it was a rename, two paths are not as they were.
            let unseen = power.unseen()?;
            if unseen.len() > 2 {
                return Err(format!("not seen by the shim: {unseen:?}").into());
            }
            let loss = match self.random.bool() || self.plan.relaxed || self.plan.fault.is_some() {
                true => Loss::Everything,
                false => Loss::Something(self.random.fork()),
            };
            power.off(loss)?;
        }
        Ok(())
    }

    /// If it `settles`, all alarms have to ring by themselves before anybody wakes a room.
    async fn check(&mut self, address: SocketAddr, settles: bool) -> Result<(), BoxError> {
        let deadline = Instant::now() + PATIENCE;
        while settles && is_any_soon(&wake_ups(address).await?) {
            if Instant::now() > deadline {
                let late = Violation::AlarmLost("some are due, and do not ring".into());
                self.violations.push(("the server".into(), late));
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        for room in &self.rooms {
            let Told::State(state) = state(address, LEDGER, &room.name).await? else {
                return Err(format!("{} says no state", room.name).into());
            };
            let found = room.history().check(state, settles);
            self.violations.extend(found.into_iter().map(|found| (room.name.clone(), found)));
        }
        let mut far = Vec::new();
        for stream in &self.streams {
            let Told::Stored(stored) = state(address, STREAM, &stream.name).await? else {
                return Err(format!("{} does not say what is stored", stream.name).into());
            };
            let found = stream.track().check(&stored, settles);
            self.violations.extend(found.into_iter().map(|found| (stream.name.clone(), found)));
            far.extend(stored.pending.filter(|at| *at > now() + FAR).map(|at| (at, &stream.name)));
        }
        let wake_ups = wake_ups(address).await?;
        for (at, name) in far {
            if !wake_ups.contains(&(at, name.clone())) {
                let lost = Violation::AlarmLost(format!("nobody is to wake it at {at}"));
                self.violations.push((name.clone(), lost));
            }
        }
        Ok(())
    }

    fn writes(&self) -> u64 {
        self.rooms.iter().map(|room| room.history().writes).sum()
    }

    /// The number of the newest file of the log, which is its name.
    fn newest_log(&self) -> u64 {
        let files = fs::read_dir(self.place.path().join("disk/data/log")).into_iter().flatten();
        let number = |file: io::Result<fs::DirEntry>| file.ok()?.file_name().to_str()?.parse().ok();
        files.filter_map(number).max().unwrap_or(0)
    }

    fn report(self) -> Report {
        Report {
            kills: self.kills,
            copies: self.copies,
            logs: self.logs,
            handed_over: self.handed_over,
            kept: self.kept,
            writes: self.writes(),
            steps: self.streams.iter().map(|stream| stream.track().steps).sum(),
            rings: self.rooms.iter().map(|room| room.history().rings).sum::<u64>()
                + self.streams.iter().map(|stream| stream.track().rings).sum::<u64>(),
            violations: self.violations,
            last_words: last_words(&self.place.path().join("server.log")),
        }
    }
}

async fn state(address: SocketAddr, party: &str, room: &str) -> Result<Told, BoxError> {
    let path = format!("/parties/{party}/{room}");
    let answer = ask(address, &path, serde_json::to_string(&Ask::State)?).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Which rooms are to be woken when.
async fn wake_ups(address: SocketAddr) -> Result<Vec<(u64, String)>, BoxError> {
    Ok(serde_json::from_slice(&ask(address, "/wake-ups", String::new()).await?)?)
}

fn is_any_soon(wake_ups: &[(u64, String)]) -> bool {
    wake_ups.iter().any(|(at, _)| *at < now() + FAR)
}

/// Waits until the directory is as the log of the shim says.
async fn nothing_unseen(power: &Power) -> Result<(), BoxError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match power.unseen() {
            Ok(unseen) if unseen.is_empty() => return Ok(()),
            Ok(unseen) if Instant::now() > deadline => {
                return Err(format!("not seen by the shim: {unseen:?}").into());
            }
            // A file may go while the directory is read.
            Err(error) if error.kind() != io::ErrorKind::NotFound || Instant::now() > deadline => {
                return Err(error.into());
            }
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, writes, steps, logs, copies, rings, violations, .. } = self;
        let Self { handed_over, kept, .. } = self;
        write!(f, "{kills} kills, {writes} writes and {steps} steps confirmed, ")?;
        write!(f, "{rings} alarms heard, {logs} files of the log, {copies} backups, ")?;
        if handed_over + kept > 0 {
            write!(f, "{handed_over} hand-overs, {kept} given up, ")?;
        }
        write!(f, "{} promises broken", violations.len())?;
        violations
            .iter()
            .take(10)
            .try_for_each(|(room, violation)| write!(f, "\n  {room}: {violation}"))
    }
}
