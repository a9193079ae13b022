use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{Error, workerd::prepare};

/// A Worker as its `wrangler.jsonc` describes it: what is deployed is what is run here.
#[derive(Clone, Debug)]
pub struct Project {
    pub(crate) build: PathBuf,
    pub(crate) compatibility_date: String,
    pub(crate) compatibility_flags: Vec<String>,
    pub(crate) objects: Vec<Object>,
    pub(crate) parties: Vec<(String, String)>,
    pub(crate) vars: Vec<(String, String)>,
    pub(crate) storage: Option<PathBuf>,
    pub(crate) port: u16,
    pub(crate) v8_flags: Vec<String>,
    pub(crate) is_collectable: bool,
}

/// A Durable Object class of a project, and the binding that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// The binding's name.
    pub binding: String,
    /// The exported class's name.
    pub class: String,
}

impl Project {
    /// Reads `wrangler.jsonc` in this directory.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has no `main`, `compatibility_date` or Durable Object.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        let directory = directory.as_ref();
        let path = directory.join("wrangler.jsonc");
        let text = fs::read_to_string(&path).map_err(|error| Error::File(path.clone(), error))?;
        Self::parse(directory, &text).map_err(|why| Error::Project(path, why))
    }

    /// Says which class serves a party, for [`evict`](crate::Workerd::evict). A party that nobody told of
    /// is taken for a class.
    #[must_use]
    pub fn party(mut self, name: impl Into<String>, class: impl Into<String>) -> Self {
        self.parties.push((name.into(), class.into()));
        self
    }

    /// Adds a variable or a secret; replaces one of the same name.
    #[must_use]
    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.vars.retain(|(known, _)| *known != name);
        self.vars.push((name, value.into()));
        self
    }

    /// Keeps the storage in this directory. Default: one that is gone with the [`Workerd`].
    ///
    /// [`Workerd`]: crate::Workerd
    #[must_use]
    pub fn storage(mut self, directory: impl Into<PathBuf>) -> Self {
        self.storage = Some(directory.into());
        self
    }

    /// Takes the Worker from this directory. Default: that of `main`.
    #[must_use]
    pub fn build(mut self, directory: impl Into<PathBuf>) -> Self {
        self.build = directory.into();
        self
    }

    /// Listens on this port. Default: any that is free.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Passes a flag to V8, such as `--expose-gc`: then JavaScript has `gc()`, which collects garbage now.
    #[must_use]
    pub fn v8_flag(mut self, flag: impl Into<String>) -> Self {
        self.v8_flags.push(flag.into());
        self
    }

    /// Lets [`collect_garbage`](crate::Workerd::collect_garbage) reach the Worker's JavaScript: there is a module
    /// more around it, which answers what that asks.
    #[must_use]
    pub fn collectable(mut self) -> Self {
        self.is_collectable = true;
        self.v8_flag("--expose-gc")
    }

    /// Its Durable Objects.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Writes what `workerd serve config.capnp --experimental` runs into a directory, for those who start
    /// it themselves.
    ///
    /// # Errors
    ///
    /// When the Worker was not built, or the files cannot be written.
    pub fn write(&self, directory: impl AsRef<Path>) -> Result<(), Error> {
        prepare(self, directory.as_ref())
    }

    fn parse(directory: &Path, text: &str) -> Result<Self, String> {
        let value: Value = jsonc_parser::parse_to_serde_value(text, &Default::default())
            .map_err(|error| error.to_string())?;
        let main = string(&value, "main")?;
        let main = directory.join(main);
        let build = main.parent().unwrap_or(directory);
        let objects = array(&value["durable_objects"]["bindings"])
            .map(|binding| {
                let (binding, class) = (string(binding, "name")?, string(binding, "class_name")?);
                Ok(Object { binding, class })
            })
            .collect::<Result<Vec<_>, String>>()?;
        if objects.is_empty() {
            return Err("durable_objects.bindings is empty".to_owned());
        }
        let flags = array(&value["compatibility_flags"]).filter_map(Value::as_str);
        let vars = value["vars"].as_object().into_iter().flatten();
        Ok(Self {
            build: build.to_owned(),
            compatibility_date: string(&value, "compatibility_date")?,
            compatibility_flags: flags.map(str::to_owned).collect(),
            objects,
            parties: Vec::new(),
            vars: vars
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            storage: None,
            port: 0,
            v8_flags: Vec::new(),
            is_collectable: false,
        })
    }
}

fn string(value: &Value, key: &str) -> Result<String, String> {
    value[key].as_str().map(str::to_owned).ok_or_else(|| format!("{key} is missing"))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = r#"{
        // Comments are allowed, and so is a comma too many.
        "main": "build/index.js",
        "compatibility_date": "2026-06-01",
        "durable_objects": { "bindings": [{ "name": "Relay", "class_name": "Relay" }] },
        "vars": { "GREETING": "hello" },
    }"#;

    #[test]
    fn a_project_is_what_its_file_says() {
        let project = Project::parse(Path::new("relay"), RELAY).unwrap();
        assert_eq!(project.build, Path::new("relay/build"));
        assert_eq!(project.objects, [Object { binding: "Relay".into(), class: "Relay".into() }]);
        assert_eq!(project.vars, [("GREETING".into(), "hello".into())]);
        let project = project.var("GREETING", "hi");
        assert_eq!(project.vars, [("GREETING".into(), "hi".into())]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for key in ["main", "compatibility_date", "class_name", "durable_objects"] {
            let text = RELAY.replace(key, "other");
            let why = Project::parse(Path::new("."), &text).unwrap_err();
            assert!(why.contains(key), "{key}: {why}");
        }
    }
}
