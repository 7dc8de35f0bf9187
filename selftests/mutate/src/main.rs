// SPDX-License-Identifier: GPL-2.0

//! Plants small bugs in Rust sources, each behind a switch: `crate::mutants::on(NUMBER)`.
//!
//! Conditions and comparisons, constants, operators, swapped arguments, statements that are left
//! out, errors that are ignored, bodies that return a default. One build has all of them, and a
//! number says at run time which is on. What the compiler refuses is named with `--without`, and
//! all others keep their numbers.

use std::{collections::HashSet, fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

mod find;
mod site;
#[cfg(test)]
mod tests;

/// Plant bugs in Rust sources, in place, and print a list of them (JSON).
#[derive(Parser)]
struct Args {
    /// JSON list of the numbers that are not to be planted
    #[arg(long)]
    without: Option<PathBuf>,
    /// Print the list only, and leave the files as they are
    #[arg(long)]
    list: bool,
    /// Directory that the names of files in the list are relative to
    #[arg(long, default_value = ".")]
    top: PathBuf,
    files: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let without: HashSet<usize> = match &args.without {
        Some(file) => serde_json::from_str(&fs::read_to_string(file)?)?,
        None => HashSet::new(),
    };
    let keep = |id| !without.contains(&id);
    let (mut next, mut all) = (1, Vec::new());
    for file in &args.files {
        let path = args.top.join(file);
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let parsed = syn::parse_file(&source).with_context(|| path.display().to_string())?;
        let name = file.display().to_string();
        let sites = find::sites(&source, &parsed);
        let renderer = site::Renderer::new(&source, &name, next, &keep);
        let (text, after, mutants) = renderer.render(&sites);
        if !args.list {
            fs::write(&path, text)?;
        }
        next = after;
        all.extend(mutants);
    }
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}
