//! Takes every server out of README.md, the pages of the guide and the examples, as it stands there, and
//! makes a module of each page. So a new server cannot be forgotten: `every_server!` names it, and the tests
//! do not compile until somebody has said how to try it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use quote::{ToTokens, format_ident, quote};
use syn::{Item, Stmt, Type, Visibility, visit_mut::VisitMut};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Found::default();
    for source in sources(&root.join("examples"))? {
        let file = syn::parse_file(&fs::read_to_string(&source)?)
            .map_err(|e| format!("{}: {e}", source.display()))?;
        found.example(&root.join("examples"), &source, file.items)?;
    }
    for page in pages(&root)? {
        let name = page.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let text = fs::read_to_string(&page)?;
        for (line, block) in blocks(&text) {
            if block.contains("Server for ") {
                let parsed = syn::parse_str::<syn::Block>(&format!("{{\n{block}\n}}"));
                let parsed = parsed.map_err(|e| format!("{}:{line}: {e}", page.display()))?;
                let items = parsed.stmts.into_iter().filter_map(|stmt| match stmt {
                    Stmt::Item(item) => Some(item),
                    _ => None,
                });
                found.page(&name.replace('-', "_"), items.collect());
            }
        }
    }
    for watched in ["README.md", "docs/src", "examples"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("servers.rs");
    Ok(fs::write(out, found.code())?)
}

/// The servers so far.
#[derive(Default)]
struct Found {
    /// By page, the blocks that have servers.
    pages: BTreeMap<String, Vec<Block>>,
    /// By the name of the test, the path of the type.
    servers: BTreeMap<String, String>,
    /// The `impl`s of each page: one may show a server twice.
    shown: BTreeSet<(String, String)>,
    /// The `impl`s of libraries that are examples: a page that shows one needs no story of its own.
    libraries: BTreeSet<String>,
}

impl Found {
    fn page(&mut self, page: &str, items: Vec<Item>) {
        let mut named = Vec::new();
        for (server, text) in servers(&items) {
            if self.libraries.contains(&text) || !self.shown.insert((page.to_owned(), text)) {
                continue;
            }
            let known = |name: &String| self.servers.contains_key(&test_name(page, name));
            // The second server of a name is `Chat2`.
            let mut names = (2..).map(|number| format!("{server}{number}"));
            let name = Some(server.clone()).into_iter().chain(&mut names).find(|name| !known(name));
            let name = name.unwrap_or_default();
            let path = format!("partykit_guide::{page}::{name}");
            self.servers.insert(test_name(page, &name), path);
            named.push((server, name));
        }
        if !named.is_empty() {
            self.pages.entry(page.to_owned()).or_default().push(Block { items, named });
        }
    }

    /// An example that is a library is tried as it is; of one that is only a binary, its file is a page.
    fn example(&mut self, examples: &Path, source: &Path, items: Vec<Item>) -> Result<(), String> {
        let inside = source.strip_prefix(examples).map_err(|e| e.to_string())?;
        let name = inside.iter().next().unwrap_or_default().to_string_lossy().replace('-', "_");
        if !examples.join(&*name).join("src/lib.rs").exists() {
            self.page(&format!("example_{name}"), items);
            return Ok(());
        }
        for (server, text) in servers(&items) {
            self.libraries.insert(text);
            let test = test_name(&format!("example_{name}"), &server);
            self.servers.insert(test, format!("{name}::{server}"));
        }
        Ok(())
    }

    fn code(self) -> String {
        let pages = self.pages.into_iter().map(|(page, blocks)| {
            let page = format_ident!("{page}");
            let blocks = blocks.into_iter().enumerate().map(|(number, Block { items, named })| {
                let block = format_ident!("block_{number}");
                let named = named.iter().map(|(server, name)| {
                    let (server, name) = (format_ident!("{server}"), format_ident!("{name}"));
                    quote! { pub use #block::#server as #name; }
                });
                let named: Vec<_> = named.collect();
                let items = items.into_iter().filter(is_kept).map(|mut item| {
                    Public.visit_item_mut(&mut item);
                    item
                });
                quote! { pub mod #block { #(#items)* } pub use #block::*; #(#named)* }
            });
            quote! { pub mod #page { #(#blocks)* } }
        });
        let pages = quote! { #(#pages)* };
        let servers = self.servers.iter().map(|(test, path)| format!("        {test}: {path},\n"));
        let servers: String = servers.collect();
        format!(
            "{pages}\n\n/// Calls a macro with all servers.\n#[macro_export]\nmacro_rules! every_server {{\n    \
             ($with:ident) => {{ $with! {{\n{servers}    }} }};\n}}\n"
        )
    }
}

/// What one block of a page has.
struct Block {
    items: Vec<Item>,
    /// The servers that are new in it: their types, and the names by which the tests know them.
    named: Vec<(String, String)>,
}

fn test_name(page: &str, server: &str) -> String {
    format!("{page}_{}", server.to_lowercase())
}

/// The servers of a block that have a function of their own, and the text of each. One without has no fields
/// to forget.
fn servers(items: &[Item]) -> Vec<(String, String)> {
    let servers = items.iter().filter_map(|item| {
        let Item::Impl(this) = item else { return None };
        let (of, _) = this.trait_.as_ref()?;
        let is_server = ["Server", "YServer"]
            .iter()
            .any(|name| of.segments.last().is_some_and(|of| of.ident == name));
        let Type::Path(name) = &*this.self_ty else { return None };
        let name = name.path.segments.last().filter(|_| is_server && !this.items.is_empty())?;
        Some((name.ident.to_string(), this.to_token_stream().to_string()))
    });
    servers.collect()
}

/// `main` serves, and a macro may make a Worker.
fn is_kept(item: &Item) -> bool {
    match item {
        Item::Fn(function) => function.sig.ident != "main",
        Item::Macro(_) => false,
        _ => true,
    }
}

/// Lets the tests see what a page keeps to itself.
struct Public;

impl VisitMut for Public {
    fn visit_item_struct_mut(&mut self, item: &mut syn::ItemStruct) {
        item.vis = Visibility::Public(Default::default());
        for field in &mut item.fields {
            field.vis = Visibility::Public(Default::default());
        }
    }

    fn visit_item_enum_mut(&mut self, item: &mut syn::ItemEnum) {
        item.vis = Visibility::Public(Default::default());
    }

    fn visit_item_type_mut(&mut self, item: &mut syn::ItemType) {
        item.vis = Visibility::Public(Default::default());
    }
}

/// Each block of Rust with the number of its first line, and its hidden lines shown.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let (mut blocks, mut inside) = (Vec::new(), None::<(usize, String)>);
    for (index, line) in text.lines().enumerate() {
        match (&mut inside, line.starts_with("```")) {
            (None, true) => {
                let is_rust = line.trim_start_matches('`').split(',').next() == Some("rust");
                // A block of another kind has to end, too.
                inside = Some((if is_rust { index + 2 } else { 0 }, String::new()));
            }
            (Some(_), true) => blocks.extend(inside.take().filter(|(line, _)| *line > 0)),
            (Some((_, block)), false) => {
                let shown =
                    line.strip_prefix("# ").or(line.strip_prefix('#').filter(|l| l.is_empty()));
                block.push_str(shown.unwrap_or(line));
                block.push('\n');
            }
            (None, false) => {}
        }
    }
    blocks
}

fn pages(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut pages = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs/src"))? {
        pages.push(entry?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    Ok(pages)
}

/// All files of Rust below a folder.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_built = path
            .file_name()
            .is_some_and(|name| name == "target" || name == "node_modules" || name == "tests");
        if path.is_dir() && !is_built {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
