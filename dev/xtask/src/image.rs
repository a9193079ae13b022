//! Does what a Dockerfile says, without Docker: each stage is a copy-on-write view of this machine's files in a
//! mount namespace, so that nothing of it is left. It shows that the instructions work on a Debian; the images
//! they begin with are not fetched. The build is not optimised, because that would take minutes.

use std::{collections::HashMap, fmt::Write as _, path::Path, process::Command as Process};

use crate::{command::Failure, package};

/// What the page's program asks its environment for, and where it then listens.
const PORT: u16 = 1999;

/// Begins a view of this machine's files: `view NAME`.
const PRELUDE: &str = r#"
set -euo pipefail
mount -t tmpfs tmpfs "$PLACE"
view() {
  mkdir -p "$PLACE/$1/changes" "$PLACE/$1/work" "$PLACE/$1/root"
  mount -t overlay overlay "$PLACE/$1/root" \
    -o "lowerdir=/,upperdir=$PLACE/$1/changes,workdir=$PLACE/$1/work"
  mount -t proc proc "$PLACE/$1/root/proc"
  mount --rbind /dev "$PLACE/$1/root/dev"
}
# As docker does: a folder's content goes into the folder that is named. All files of packages have one time, by
# which cargo would take those of the last run for the same.
copy() {
  if [ -d "$1" ]; then
    mkdir -p "$2"
    sed 's,^\*\*/,,' "$CONTEXT/.dockerignore" | tar --directory "$1" --exclude-from - --create . |
      tar --directory "$2" --extract --touch
  else
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2"
  fi
}
"#;

/// Whether this machine lets us make views of its files.
pub(crate) fn can_run() -> bool {
    let mount = "mount -t tmpfs tmpfs /mnt";
    let tried = Process::new("unshare").args(["--mount", "sh", "-c", mount]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Builds the image of `dockerfile` from the folder `context`, runs it as `docker run --read-only --cap-drop ALL`
/// does, waits until its health check is content, and stops it. `target` is where the build may find what
/// was compiled before, for `crate_name`; `patches` is a configuration of cargo.
pub(crate) fn run(
    dockerfile: &str,
    context: &Path,
    (crate_name, target): (&str, &Path),
    patches: &str,
) -> Result<(), Failure> {
    let place = context.join("image");
    std::fs::create_dir_all(&place).map_err(|error| Failure::new(error.to_string()))?;
    let script = script(dockerfile, crate_name)?;
    let status = Process::new("unshare")
        .args(["--mount", "bash", "-c", &script])
        .env("PLACE", &place)
        .env("CONTEXT", context)
        .env("TARGET", target)
        .env("PATCHES", patches.replace(&context.display().to_string(), "/src"))
        .env("CARGO_NET_OFFLINE", "true")
        // As what is in `target` was compiled.
        .env(package::DEBUG, package::debug())
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_MANIFEST_DIR")
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("the image: {status}"))),
        Err(error) => Err(Failure::new(format!("unshare: {error}"))),
    }
}

/// What an image is run with.
#[derive(Debug, Default)]
struct Image {
    root: String,
    workdir: String,
    user: String,
    environment: String,
    volume: String,
    health: String,
    entry: String,
}

/// The commands of bash that do all of it.
fn script(dockerfile: &str, crate_name: &str) -> Result<String, Failure> {
    let mut script = PRELUDE.to_owned();
    let mut stages: HashMap<&str, String> = HashMap::new();
    let mut image = Image::default();
    let mut builds = 0;
    let failed = |line: &str| Failure::new(format!("the Dockerfile: cannot do {line:?}"));
    for line in dockerfile.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verb, rest) = line.split_once(' ').ok_or_else(|| failed(line))?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (verb, &words[..]) {
            ("FROM", [_, name @ ..]) => {
                let stage = format!("stage{}", stages.len());
                stages.insert(name.last().copied().unwrap_or_default(), stage.clone());
                image = Image { root: format!("$PLACE/{stage}/root"), ..Image::default() };
                image.workdir = "/".to_owned();
                add(&mut script, &format!("view {stage}"));
            }
            ("WORKDIR", [path]) => {
                image.workdir = (*path).to_owned();
                add(&mut script, &format!("mkdir -p \"{}{path}\"", image.root));
            }
            ("COPY", [from, source, to]) if from.starts_with("--from=") => {
                let stage = stages.get(&from["--from=".len()..]).ok_or_else(|| failed(line))?;
                let source = source.replace("/release/", "/debug/");
                let (root, to) = (&image.root, to);
                add(&mut script, &format!("copy \"$PLACE/{stage}/root{source}\" \"{root}{to}\""));
            }
            ("COPY", [source, to]) => {
                let to = format!("{}{}/{to}", image.root, image.workdir);
                add(&mut script, &format!("copy \"$CONTEXT/{source}\" \"{to}\""));
                if *source == crate_name {
                    add(&mut script, &format!("mkdir \"{to}/target\""));
                    add(&mut script, &format!("mount --bind \"$TARGET\" \"{to}/target\""));
                    let cargo = format!("{}/.cargo", image.root);
                    add(&mut script, &format!("mkdir -p \"{cargo}\""));
                    add(
                        &mut script,
                        &format!("printf '%s' \"$PATCHES\" > \"{cargo}/config.toml\""),
                    );
                }
            }
            ("RUN", _) => {
                builds += rest.matches(" --release").count();
                let command = format!("cd {}; {}", image.workdir, rest.replace(" --release", ""));
                add(&mut script, &format!("echo {}", quoted(&format!("  RUN {rest}"))));
                add(&mut script, &format!("chroot \"{}\" sh -c {}", image.root, quoted(&command)));
            }
            ("USER", [user]) => image.user = (*user).to_owned(),
            ("ENV", _) => image.environment = rest.to_owned(),
            ("VOLUME", [path]) => image.volume = (*path).to_owned(),
            ("EXPOSE", [port]) if *port == PORT.to_string() => {}
            ("HEALTHCHECK", _) => image.health = list(rest).ok_or_else(|| failed(line))?,
            ("ENTRYPOINT", _) => image.entry = list(rest).ok_or_else(|| failed(line))?,
            _ => return Err(failed(line)),
        }
    }
    if builds != 1 {
        return Err(Failure::new("the Dockerfile: one build with --release is expected"));
    }
    script.push_str(&image.life()?);
    Ok(script)
}

impl Image {
    /// Starts it, asks for its health, and stops it as `docker stop` does.
    fn life(&self) -> Result<String, Failure> {
        let Self { root, user, environment, volume, health, entry, .. } = self;
        for (what, text) in
            [("USER", user), ("ENTRYPOINT", entry), ("HEALTHCHECK", health), ("VOLUME", volume)]
        {
            if text.is_empty() {
                return Err(Failure::new(format!("the Dockerfile has no {what}")));
            }
        }
        Ok(format!(
            r#"
cp --archive "{root}{volume}" "$PLACE/volume"
mount --bind "$PLACE/volume" "{root}{volume}"
mount -o remount,ro "{root}"
inside() {{
  exec chroot "{root}" setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all env --ignore-environment PATH=/usr/local/bin:/usr/bin:/bin {environment} "$@"
}}
(inside {entry}) &
program=$!
trap 'kill -KILL "$program" 2>/dev/null || true' EXIT
for n in $(seq 300); do
  if (inside {health}) 2>/dev/null; then break; fi
  if ! kill -0 "$program" || [ "$n" = 300 ]; then echo "the image is not well"; exit 1; fi
  sleep 0.2
done
if [ -z "$(find "$PLACE/volume" -type f -uid {user} -print -quit)" ]; then echo "nothing is stored in {volume}"; exit 1; fi
kill -TERM "$program"
wait "$program"
trap - EXIT
if (inside {health}) 2>/dev/null; then echo "the health check succeeds without a server"; exit 1; fi
"#
        ))
    }
}

fn add(script: &mut String, line: &str) {
    let _ = writeln!(script, "{line}");
}

/// The words of a JSON list that ends a line, as bash has them.
fn list(text: &str) -> Option<String> {
    let words: Vec<String> = serde_json::from_str(&text[text.find('[')?..]).ok()?;
    Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "FROM rust AS build\nWORKDIR /src\nCOPY my-party my-party\n\
        RUN cargo build --release\n\nFROM debian\nCOPY --from=build /src/target/release/a /usr/bin/a\nUSER 7\n\
        ENV A=1 B=2\nVOLUME /data\nEXPOSE 1999\nHEALTHCHECK --timeout=3s CMD [\"it's\", \"well\"]\n\
        ENTRYPOINT [\"a\"]\n";

    #[test]
    fn each_instruction_becomes_commands_of_its_stage() {
        let script = script(IMAGE, "my-party").unwrap();
        for line in [
            "view stage0",
            "copy \"$CONTEXT/my-party\" \"$PLACE/stage0/root/src/my-party\"",
            "chroot \"$PLACE/stage0/root\" sh -c 'cd /src; cargo build'",
            "view stage1",
            "copy \"$PLACE/stage0/root/src/target/debug/a\" \"$PLACE/stage1/root/usr/bin/a\"",
        ] {
            assert!(script.lines().any(|it| it == line), "{line}\n{script}");
        }
        assert!(script.contains("--reuid 7") && script.contains("A=1 B=2"), "{script}");
        assert!(script.contains(r"(inside 'it'\''s' 'well')"), "{script}");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to) in [
            ("USER 7\n", ""),
            ("USER 7\n", "ONBUILD USER 7\n"),
            ("EXPOSE 1999", "EXPOSE 80"),
            (" --release", ""),
            ("--from=build", "--from=other"),
            ("[\"a\"]", "a"),
        ] {
            assert!(script(&IMAGE.replace(from, to), "my-party").is_err(), "{from} -> {to}");
        }
    }
}
