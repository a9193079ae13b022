//! The configuration of `workerd`, in the language that it reads.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde_json::json;

use crate::Project;

/// The Worker of `project` and its control, on two sockets called `http` and `control`. `modules` are the
/// paths of its files, and the files lie under `worker/` beside the configuration.
pub(crate) fn config(project: &Project, modules: &[String], storage: &Path) -> String {
    let listed = |items: Vec<String>| items.join(", ");
    let modules = listed(modules.iter().map(|path| module(path)).collect());
    let flags = listed(project.compatibility_flags.iter().map(|flag| quoted(flag)).collect());
    let (mut namespaces, mut bindings, mut controls) = (vec![], vec![], vec![]);
    for object in &project.objects {
        let (binding, class) = (quoted(&object.binding), quoted(&object.class));
        namespaces.push(format!("(className = {class}, uniqueKey = {class}, enableSql = true)"));
        bindings.push(format!("(name = {binding}, durableObjectNamespace = {class})"));
        controls.push(format!(
            "(name = {}, durableObjectNamespace = (className = {class}, serviceName = \"main\"))",
            quoted(&format!("class {}", object.class)),
        ));
    }
    for (name, value) in &project.vars {
        bindings.push(format!("(name = {}, text = {})", quoted(name), quoted(value)));
    }
    let parties = project.parties.iter().cloned().collect::<BTreeMap<_, _>>();
    controls.push(format!("(name = \"parties\", json = {})", quoted(&json!(parties).to_string())));
    let date = quoted(&project.compatibility_date);
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  v8Flags = [{v8_flags}],
  services = [
    (name = "main", worker = .main),
    (name = "control", worker = .control),
    (name = "disk", disk = (path = {storage}, writable = true, allowDotfiles = true)),
  ],
  sockets = [
    (name = "http", address = "127.0.0.1:{port}", http = (), service = "main"),
    (name = "control", address = "127.0.0.1:0", http = (), service = "control"),
  ],
);

const main :Workerd.Worker = (
  modules = [{modules}],
  compatibilityDate = {date},
  compatibilityFlags = [{flags}],
  durableObjectNamespaces = [{namespaces}],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [{bindings}],
);

const control :Workerd.Worker = (
  modules = [(name = "control.js", esModule = embed "control.js")],
  compatibilityDate = {date},
  compatibilityFlags = ["unsafe_module"],
  bindings = [{controls}],
);
"#,
        v8_flags = listed(project.v8_flags.iter().map(|flag| quoted(flag)).collect()),
        storage = quoted(&storage.display().to_string()),
        port = project.port,
        namespaces = listed(namespaces),
        bindings = listed(bindings),
        controls = listed(controls),
    )
}

fn module(path: &str) -> String {
    let kind = if path.ends_with(".wasm") { "wasm" } else { "esModule" };
    format!("(name = {}, {kind} = embed {})", quoted(path), quoted(&format!("worker/{path}")))
}

/// As a literal.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            c if c.is_control() && c.is_ascii() => {
                write!(quoted, "\\x{:02x}", u32::from(c)).expect("a String takes every write");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted() {
        assert_eq!(quoted("a \"b\" \\ \n é"), r#""a \"b\" \\ \x0a é""#);
    }
}
