//! Modules of a crate, and which of them use which: read from `use` declarations and paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{
    Attribute, Item, ItemUse, UseTree,
    visit::{self, Visit},
};

/// One source file.
#[derive(Default)]
struct Module {
    /// Names that are defined here.
    defines: BTreeSet<String>,
    /// Names that are imported or exported again, with their paths; `*` for all of a module.
    imports: Vec<(String, Vec<String>)>,
    /// Other paths that the code names.
    names: BTreeSet<Vec<String>>,
}

/// All modules of a crate, by their paths without `crate`; the root is empty.
pub(crate) struct Modules {
    name: String,
    modules: BTreeMap<Vec<String>, Module>,
}

type Arrow = (Vec<String>, Vec<String>, String);

impl Modules {
    /// Reads the files below `folder`, those of tests left out.
    pub(crate) fn read(name: &str, folder: &Path) -> Self {
        let mut modules = Self { name: name.to_owned(), modules: BTreeMap::new() };
        modules.read_folder(folder, &[]);
        modules
    }

    fn read_folder(&mut self, folder: &Path, path: &[String]) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in entries {
            let stem = entry.file_stem().unwrap().to_str().unwrap().to_owned();
            if stem.contains("tests") || stem == "simulation" {
                continue;
            }
            let is_root = path.is_empty() && (stem == "lib" || stem == "main");
            let inner: Vec<String> = if is_root { Vec::new() } else { [path, &[stem]].concat() };
            if entry.is_dir() {
                self.read_folder(&entry, &inner);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let file = syn::parse_file(&fs::read_to_string(&entry).unwrap()).unwrap();
                let mut reader = Reader { at: inner.clone(), name: self.name.clone(), module: Module::default() };
                reader.visit_file(&file);
                self.modules.insert(inner, reader.module);
            }
        }
    }

    /// The module that defines what a path names, and the name.
    fn resolve(&self, path: &[String], depth: u32) -> Option<(Vec<String>, String)> {
        let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let (at, rest) = path.split_at(length);
        let Some(name) = rest.first() else { return Some((at.to_vec(), "*".to_owned())) };
        let module = &self.modules[at];
        if module.defines.contains(name) || depth == 0 {
            return Some((at.to_vec(), name.clone()));
        }
        let exported = module.imports.iter().find(|(known, _)| known == name).map(|(_, path)| path.clone());
        if let Some(path) = exported {
            return self.resolve(&path, depth - 1);
        }
        let all = module.imports.iter().filter(|(known, _)| known == "*");
        let found = all.map(|(_, path)| [&path[..], std::slice::from_ref(name)].concat());
        found
            .filter_map(|path| self.resolve(&path, depth - 1))
            .find(|(at, name)| self.modules[at].defines.contains(name))
            .or_else(|| Some((at.to_vec(), name.clone())))
    }

    fn all_arrows(&self) -> impl Iterator<Item = Arrow> {
        self.modules.iter().flat_map(|(from, module)| {
            let paths = module.imports.iter().map(|(_, path)| path).chain(&module.names);
            paths.filter_map(|path| {
                let (to, name) = self.resolve(path, 8)?;
                // A module and those within it belong together.
                let related = to.starts_with(from) || from.starts_with(&to);
                (!related).then(|| (from.clone(), to, name))
            })
        })
    }

    /// User, used, and a name that ties them.
    pub(crate) fn arrows(&self) -> impl Iterator<Item = (String, String, String)> {
        self.all_arrows().map(|(from, to, name)| (from.join("::"), to.join("::"), name))
    }

    /// Groups of modules each of which uses itself by way of the others, with what ties them.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let arrows: Vec<_> = self.all_arrows().collect();
        let mut reaches: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> = BTreeMap::new();
        for (from, to, _) in &arrows {
            reaches.entry(from).or_default().insert(to);
        }
        loop {
            let mut grown = false;
            for from in self.modules.keys() {
                let further: BTreeSet<_> = reaches
                    .get(from)
                    .into_iter()
                    .flatten()
                    .filter_map(|to| reaches.get(to))
                    .flatten()
                    .copied()
                    .collect();
                let known = reaches.entry(from).or_default();
                let before = known.len();
                known.extend(further);
                grown |= known.len() > before;
            }
            if !grown {
                break;
            }
        }
        let circular =
            |from: &Vec<String>, to: &Vec<String>| reaches.get(to).is_some_and(|further| further.contains(from));
        let ties: BTreeSet<_> = arrows
            .iter()
            .filter(|(from, to, _)| circular(from, to))
            .map(|(from, to, name)| format!("{}: {} -> {}: {name}", self.name, from.join("::"), to.join("::")))
            .collect();
        if ties.is_empty() { Vec::new() } else { vec![ties.into_iter().collect()] }
    }
}

struct Reader {
    at: Vec<String>,
    name: String,
    module: Module,
}

impl Reader {
    /// The path from the crate's root; `None` for one into another crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            own if own == self.name => Some(rest.to_vec()),
            "self" => Some([&self.at, rest].concat()),
            "super" => {
                let parent =
                    Self { at: self.at.split_last()?.1.to_vec(), name: self.name.clone(), module: Module::default() };
                match rest.first().map(String::as_str) {
                    Some("super") => parent.absolute(rest),
                    _ => Some([&parent.at, rest].concat()),
                }
            }
            // A module within this one.
            _ if self.module.defines.contains(first) => Some([&self.at, path].concat()),
            _ => None,
        }
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before)),
            UseTree::Name(name) if name.ident == "self" => {
                (before.last().cloned().unwrap_or_default(), before.to_vec())
            }
            UseTree::Name(name) => (name.ident.to_string(), with(&name.ident)),
            UseTree::Rename(rename) => (rename.rename.to_string(), with(&rename.ident)),
            UseTree::Glob(_) => ("*".to_owned(), before.to_vec()),
        };
        if let Some(path) = self.absolute(&path) {
            self.module.imports.push((name, path));
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Mod(item) => item.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        _ => return None,
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_file(&mut self, file: &'ast syn::File) {
        self.module.defines.extend(file.items.iter().filter_map(name_of));
        visit::visit_file(self, file);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1
            && let Some(path) = self.absolute(&segments)
        {
            self.module.names.insert(path);
        }
        visit::visit_path(self, path);
    }
}
