// SPDX-License-Identifier: GPL-2.0

//! A place in a source file that can go wrong, and the text with all of them behind switches.
//!
//! Places lie within each other. The text of a place stands once as it was, with the places inside
//! it behind their own switches, and once for each mutant, where nothing else is changed.

use std::ops::Range;

use serde::Serialize;

/// One way to go wrong.
#[derive(Debug)]
pub struct Change {
    /// What it is, for people: `<` becomes `<=`.
    pub what: String,
    pub text: String,
}

/// How the changes of a site are put into its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// An expression: `(if on(1) { changed } else { as it was })`.
    Expression,
    /// A statement or the body of an arm, which may have no comma: the same without parentheses.
    Block,
    /// Something that comes first in a block: `if on(1) { changed }`, and goes on as it was.
    Before,
}

#[derive(Debug)]
pub struct Site {
    pub range: Range<usize>,
    pub line: usize,
    pub function: String,
    pub form: Form,
    pub changes: Vec<Change>,
}

/// A mutant: the number that switches it on, where it is, and where its text stands in the output.
#[derive(Debug, Serialize)]
pub struct Mutant {
    pub id: usize,
    pub file: String,
    pub line: usize,
    pub function: String,
    pub what: String,
    /// What stood there: its first characters, without line breaks.
    pub text: String,
    /// Lines and columns of the output, from 1: of the changed text, and of the whole place.
    pub changed: [Position; 2],
    pub place: [Position; 2],
}

#[derive(Debug, Serialize, Clone, Copy, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Renders a file. Ids are counted from `next`, and those that `keep` refuses are left out: they
/// keep their number.
pub struct Renderer<'a> {
    source: &'a str,
    file: &'a str,
    out: String,
    next: usize,
    keep: &'a dyn Fn(usize) -> bool,
    pub mutants: Vec<Mutant>,
}

impl<'a> Renderer<'a> {
    pub fn new(
        source: &'a str,
        file: &'a str,
        next: usize,
        keep: &'a dyn Fn(usize) -> bool,
    ) -> Self {
        Self {
            source,
            file,
            out: String::new(),
            next,
            keep,
            mutants: Vec::new(),
        }
    }

    /// The text, and the next number.
    pub fn render(mut self, sites: &[Site]) -> (String, usize, Vec<Mutant>) {
        self.range(0..self.source.len(), sites);
        let index = LineIndex::new(&self.out);
        for mutant in &mut self.mutants {
            for position in mutant.changed.iter_mut().chain(&mut mutant.place) {
                // Byte offsets until here.
                *position = index.position(position.line);
            }
        }
        self.mutants.sort_by_key(|mutant| mutant.id);
        (self.out, self.next, self.mutants)
    }

    /// `sites` are those within the range, outer ones before inner ones.
    fn range(&mut self, range: Range<usize>, sites: &[Site]) {
        let mut at = range.start;
        let mut rest = sites;
        while let Some((site, after)) = rest.split_first() {
            self.out.push_str(&self.source[at..site.range.start]);
            let inside = after
                .iter()
                .take_while(|inner| inner.range.start < site.range.end)
                .count();
            self.site(site, &after[..inside]);
            at = site.range.end;
            rest = &after[inside..];
        }
        self.out.push_str(&self.source[at..range.end]);
    }

    fn site(&mut self, site: &Site, inside: &[Site]) {
        let first = self.next;
        self.next += site.changes.len();
        let kept: Vec<_> = (first..)
            .zip(&site.changes)
            .filter(|(id, _)| (self.keep)(*id))
            .collect();
        if kept.is_empty() {
            return self.range(site.range.clone(), inside);
        }
        let start = self.out.len();
        let parentheses = site.form == Form::Expression;
        self.out.push_str(if parentheses { "(" } else { "" });
        let mut places = Vec::new();
        for (id, change) in kept {
            self.out
                .push_str(&format!("if crate::mutants::on({id}) {{ "));
            let from = self.out.len();
            self.out.push_str(&change.text);
            places.push((id, &change.what, from..self.out.len()));
            self.out.push_str(" } else ");
        }
        self.out.push_str("{ ");
        self.range(site.range.clone(), inside);
        self.out.push_str(" }");
        self.out.push_str(if parentheses { ")" } else { "" });
        let text = shortened(&self.source[site.range.clone()]);
        let offset = |bytes| Position {
            line: bytes,
            column: 0,
        };
        for (id, what, changed) in places {
            self.mutants.push(Mutant {
                id,
                file: self.file.to_owned(),
                line: site.line,
                function: site.function.clone(),
                what: what.clone(),
                text: text.clone(),
                changed: [offset(changed.start), offset(changed.end)],
                place: [offset(start), offset(self.out.len())],
            });
        }
    }
}

fn shortened(text: &str) -> String {
    const LENGTH: usize = 60;
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(LENGTH).collect()
}

struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    fn new(text: &'a str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(newlines).collect(),
        }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        Position {
            line,
            column: self.text[start..offset].chars().count() + 1,
        }
    }
}
