// SPDX-License-Identifier: GPL-2.0

//! What was found, a line each, as text or as JSON.

use std::fmt::Write;

/// What is to be said of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As an SNP host wants it.
    Ok,
    /// Not so.
    No,
    /// It cannot be seen.
    Unknown,
}

impl Verdict {
    fn sign(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Unknown => "??",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The part of the host that it is about.
    pub section: &'static str,
    /// Its name, for programs: a word that stays the same between versions.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What is so.
    pub text: String,
    /// What to do; empty if all is well.
    pub todo: String,
}

/// All of them, in the order in which they were found.
#[derive(Default)]
pub struct Report {
    /// The lines.
    pub findings: Vec<Finding>,
    section: &'static str,
}

impl Report {
    /// What follows is about this part of the host.
    pub fn section(&mut self, name: &'static str) {
        self.section = name;
    }

    /// This is as it should be.
    pub fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Verdict::Ok, text.into(), String::new());
    }

    /// This is not, and that is to be done.
    pub fn no(&mut self, name: &'static str, text: impl Into<String>, todo: impl Into<String>) {
        self.add(name, Verdict::No, text.into(), todo.into());
    }

    /// This cannot be seen, unless that is done.
    pub fn unknown(
        &mut self,
        name: &'static str,
        text: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(name, Verdict::Unknown, text.into(), todo.into());
    }

    fn add(&mut self, name: &'static str, verdict: Verdict, text: String, todo: String) {
        self.findings.push(Finding { section: self.section, name, verdict, text, todo });
    }

    /// 0: all is well; 1: something is wrong; 2: nothing that could be seen is, but not all could
    /// be seen.
    pub fn status(&self) -> u8 {
        let has = |verdict| self.findings.iter().any(|finding| finding.verdict == verdict);
        match (has(Verdict::No), has(Verdict::Unknown)) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 0,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for finding in &self.findings {
            if finding.section != section {
                section = finding.section;
                _ = writeln!(out, "{section}");
            }
            let todo = if finding.todo.is_empty() {
                String::new()
            } else {
                format!(" → {}", finding.todo)
            };
            _ = writeln!(
                out,
                "  {}  {}: {}{todo}",
                finding.verdict.sign(),
                finding.name,
                finding.text
            );
        }
        let count =
            |verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (ok, no, unknown) = (count(Verdict::Ok), count(Verdict::No), count(Verdict::Unknown));
        _ = writeln!(out, "{ok} OK, {no} NO, {unknown} cannot be seen");
        out
    }

    /// For programs.
    pub fn json(&self) -> String {
        let rows: Vec<String> = self
            .findings
            .iter()
            .map(|finding| {
                let fields = [
                    ("section", finding.section),
                    ("name", finding.name),
                    ("verdict", finding.verdict.word()),
                    ("text", &finding.text),
                    ("todo", &finding.todo),
                ];
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| format!("\"{key}\": {}", quoted(value)))
                    .collect();
                format!("  {{{}}}", fields.join(", "))
            })
            .collect();
        format!("{{\"status\": {}, \"findings\": [\n{}\n]}}\n", self.status(), rows.join(",\n"))
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => _ = write!(out, "\\u{:04x}", u32::from(control)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let mut report = Report::default();
        report.section("CPU");
        for verdict in verdicts {
            report.add("snp", *verdict, "a \"b\"\n".into(), "c\\".into());
        }
        report
    }

    #[test]
    fn the_worst_decides() {
        use Verdict::{No, Ok, Unknown};
        for (verdicts, status) in
            [(&[Ok][..], 0), (&[Ok, Unknown], 2), (&[Unknown, No, Ok], 1), (&[No], 1)]
        {
            assert_eq!(report(verdicts).status(), status, "{verdicts:?}");
        }
    }

    #[test]
    fn json_is_quoted() {
        let json = report(&[Verdict::No]).json();
        assert!(json.contains(r#""text": "a \"b\"\u000a", "todo": "c\\""#), "{json}");
    }

    #[test]
    fn a_section_is_named_once() {
        let text = report(&[Verdict::Ok, Verdict::No]).text();
        assert_eq!(text.matches("CPU\n").count(), 1);
        assert!(text.ends_with("1 OK, 1 NO, 0 cannot be seen\n"), "{text}");
    }
}
