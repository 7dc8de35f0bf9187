// SPDX-License-Identifier: GPL-2.0

//! No file of the modules uses a file that, directly or through others, uses it. Files of tests are
//! left out: those use what they test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's path in its crate, or that of an item.
type ModulePath = Vec<String>;
/// Which modules each module uses.
type Graph = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

/// The paths from the crate root in `tokens`, which stand in the module `here`. `modules` are those
/// that have a file.
fn paths(
    tokens: TokenStream,
    here: &[String],
    modules: &BTreeSet<ModulePath>,
    found: &mut BTreeSet<ModulePath>,
) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (n, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let named = |at: usize| Some(tokens.get(n.checked_sub(at)?)?.to_string());
                // pub(super) uses nothing, and `tree()` has seen the branches of a path.
                if matches!(named(1).as_deref(), Some("pub" | ":")) {
                    continue;
                }
                let mut inside = here.to_vec();
                if named(2).as_deref() == Some("mod") && group.delimiter() == Delimiter::Brace {
                    inside.extend(named(1));
                }
                paths(group.stream(), &inside, modules, found);
            }
            TokenTree::Ident(ident) if starts_path(&tokens, n) => {
                let start = match ident.to_string().as_str() {
                    "crate" => vec![],
                    "self" => here.to_vec(),
                    "super" => here[..here.len().saturating_sub(1)].to_vec(),
                    child => {
                        let child = [here, &[child.to_owned()]].concat();
                        match modules.contains(&child) {
                            true => child,
                            false => continue,
                        }
                    }
                };
                tree(&tokens[n + 1..], start, found);
            }
            _ => {}
        }
    }
}

/// Whether the identifier at `n` has `::` behind it and not before it.
fn starts_path(tokens: &[TokenTree], n: usize) -> bool {
    let is_colon = |at: usize| tokens.get(at).is_some_and(|token| token.to_string() == ":");
    is_colon(n + 1) && is_colon(n + 2) && !n.checked_sub(1).is_some_and(is_colon)
}

/// The rest of a path, from `::` on, with the branches of a `use`.
fn tree(tokens: &[TokenTree], mut path: ModulePath, found: &mut BTreeSet<ModulePath>) {
    let is_colon = |token: &TokenTree| token.to_string() == ":";
    let (next, rest) = match tokens {
        [one, two, next, rest @ ..] if is_colon(one) && is_colon(two) => (next, rest),
        _ => {
            found.insert(path);
            return;
        }
    };
    match next {
        TokenTree::Ident(ident) if ident == "super" => {
            path.pop();
            tree(rest, path, found);
        }
        TokenTree::Ident(ident) => {
            path.push(ident.to_string());
            tree(rest, path, found);
        }
        TokenTree::Group(group) => {
            let branches: Vec<TokenTree> = group.stream().into_iter().collect();
            for branch in branches.split(|token| token.to_string() == ",") {
                match branch {
                    // Behind the last comma.
                    [] => {}
                    [TokenTree::Ident(ident), rest @ ..] if ident != "self" => {
                        let path = [path.as_slice(), &[ident.to_string()]].concat();
                        tree(rest, path, found);
                    }
                    _ => {
                        found.insert(path.clone());
                    }
                }
            }
        }
        _ => {
            found.insert(path);
        }
    }
}

/// The modules below `directory`, each with the paths in its file.
fn read(directory: &Path, module: &[String], modules: &mut BTreeMap<ModulePath, TokenStream>) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("the directory can be read").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("UTF-8");
        if name == "tests" || name == "testing" {
            continue;
        }
        let mut module = module.to_vec();
        if name != "mod" {
            module.push(name.to_owned());
        }
        if path.is_dir() {
            read(&path, &module, modules);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("the file can be read");
            modules.insert(module, text.parse().expect("the file is Rust"));
        }
    }
}

fn graph(name: &str) -> Graph {
    let rust = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rust");
    let mut modules = BTreeMap::new();
    read(&rust.join(name), &[], &mut modules);
    // Uses all others.
    modules
        .remove([name.to_owned()].as_slice())
        .expect("the crate root");
    for shared in ["sys", "wire"] {
        read(&rust.join(shared), &[shared.to_owned()], &mut modules);
    }
    let names: BTreeSet<ModulePath> = modules.keys().cloned().collect();
    let used = |module: ModulePath, tokens| {
        let mut found = BTreeSet::new();
        paths(tokens, &module, &names, &mut found);
        let uses = found.iter().filter_map(|path| {
            let files = (1..=path.len()).rev().map(|n| path[..n].to_vec());
            files.into_iter().find(|file| names.contains(file))
        });
        let uses = uses.filter(|file| *file != module).collect();
        (module, uses)
    };
    modules
        .into_iter()
        .map(|(module, tokens)| used(module, tokens))
        .collect()
}

/// Modules that use each other; empty if there are none.
fn circle(graph: &Graph) -> Vec<String> {
    let mut rest = graph.clone();
    // What uses nothing that is left is in no circle.
    loop {
        let left: BTreeSet<ModulePath> = rest.keys().cloned().collect();
        rest.retain(|_, uses| uses.iter().any(|file| left.contains(file)));
        if rest.len() == left.len() {
            return left.iter().map(|file| file.join("/")).collect();
        }
    }
}

#[test]
fn no_file_uses_itself_through_others() {
    for name in ["ccp", "snp_host"] {
        let graph = graph(name);
        let edges: usize = graph.values().map(BTreeSet::len).sum();
        assert!(edges > 50, "{name}: {edges} uses were found");
        // Those that use a circle are among them.
        assert_eq!(circle(&graph), [""; 0], "{name}");
    }
}

#[test]
fn circles_are_found() {
    let path = |name: &str| name.split('/').map(str::to_owned).collect::<ModulePath>();
    let graph = |edges: &[(&str, &[&str])]| -> Graph {
        let edge =
            |(from, to): &(&str, &[&str])| (path(from), to.iter().map(|to| path(to)).collect());
        edges.iter().map(edge).collect()
    };
    assert_eq!(
        circle(&graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])),
        [""; 0]
    );
    assert_eq!(
        circle(&graph(&[("a", &["a/b"]), ("a/b", &["c"]), ("c", &["a"])])),
        ["a", "a/b", "c"]
    );

    let source =
        "use crate::{a::{self, b as x}, c::D, x::child::E}; mod m { fn f() { super::g::<u8>() } } \
                  pub(super) use child::E; mod child; \
                  fn h() { crate::i::j(self.k); super::super::l() }";
    let mut found = BTreeSet::new();
    let modules = BTreeSet::from([path("p/q/child")]);
    paths(source.parse().unwrap(), &path("p/q"), &modules, &mut found);
    let found: Vec<String> = found.iter().map(|path| path.join("/")).collect();
    assert_eq!(
        found,
        [
            "a",
            "a/b",
            "c/D",
            "i/j",
            "l",
            "p/q/child/E",
            "p/q/g",
            "x/child/E"
        ]
    );
}
