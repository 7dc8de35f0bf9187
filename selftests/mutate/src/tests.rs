// SPDX-License-Identifier: GPL-2.0

use crate::{find, site::Renderer};

/// The text with all switches, and the mutants as `line: what`.
fn planted_without(source: &str, without: &[usize]) -> (String, Vec<String>) {
    let file = syn::parse_file(source).unwrap();
    let keep = |id| !without.contains(&id);
    let renderer = Renderer::new(source, "a.rs", 1, &keep);
    let (text, _, mutants) = renderer.render(&find::sites(source, &file));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let what = |m: &crate::site::Mutant| format!("{}: {}", m.line, m.what);
    (text, mutants.iter().map(what).collect())
}

fn planted(source: &str) -> Vec<String> {
    planted_without(source, &[]).1
}

#[test]
fn comparisons_and_conditions() {
    let source = "fn f(a: u8) {\n if a < 3 {\n  g();\n }\n}";
    let expected = [
        "1: the body becomes `return`",
        "2: the condition never holds",
        "2: the condition always holds",
        "2: `<` becomes `<=`",
        "2: `<` becomes `>=`",
        "2: 3 becomes 4",
        "3: the statement is left out",
    ];
    assert_eq!(planted(source), expected);
}

#[test]
fn places_within_places_are_planted_once() {
    let (text, mutants) = planted_without("fn f() -> T { a(b(1, x), c) }", &[]);
    let expected = [
        "1: arguments 1 and 2 change places",
        "1: arguments 1 and 2 change places",
        "1: 1 becomes 2",
    ];
    assert_eq!(mutants, expected);
    let outer = "(if crate::mutants::on(1) { a(c, b(1, x)) } else { a(";
    let inner = "(if crate::mutants::on(2) { b(x, 1) } else { b(";
    let number = "(if crate::mutants::on(3) { 2 } else { 1 })";
    let whole = format!("fn f() -> T {{ {outer}{inner}{number}, x) }}), c) }}) }}");
    assert_eq!(text, whole);
}

#[test]
fn a_mutant_says_what_stood_there() {
    let source = "fn f() {\n a(\n  1,\n  x\n );\n}";
    let file = syn::parse_file(source).unwrap();
    let (_, _, mutants) =
        Renderer::new(source, "a.rs", 1, &|_| true).render(&find::sites(source, &file));
    let texts: Vec<_> = mutants.iter().map(|mutant| mutant.text.as_str()).collect();
    assert_eq!(texts, ["", "a( 1, x );", "a( 1, x )", "1"]);
}

#[test]
fn what_is_left_out_keeps_its_number() {
    let source = "fn f() -> T { a(b(1, x), c) }";
    let (text, mutants) = planted_without(source, &[1, 2]);
    assert_eq!(mutants, ["1: 1 becomes 2"]);
    assert_eq!(
        text,
        "fn f() -> T { a(b((if crate::mutants::on(3) { 2 } else { 1 }), x), c) }"
    );
}

#[test]
fn errors_that_are_ignored() {
    let expected = [
        "1: the statement is left out",
        "1: the error is ignored",
        "1: the arm does what the next one does",
    ];
    assert_eq!(
        planted("fn f() -> T { g()?; match x { A => B, _ => C } }"),
        expected
    );
}

#[test]
fn an_arm_without_a_comma() {
    let source = "fn f() -> T { match x { A => { b(); } (C, _) => d } }";
    assert_eq!(planted(source).len(), 2);
}

#[test]
fn bodies() {
    let first = |output: &str, body: &str| {
        planted(&format!("fn f() -> {output} {{ {body} }}"))
            .into_iter()
            .filter(|what| what.contains("body"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        first("bool", "x"),
        [
            "1: the body becomes `return true`",
            "1: the body becomes `return false`"
        ]
    );
    assert_eq!(first("u32", "x").len(), 2);
    assert_eq!(
        first("Result<u8>", "x"),
        ["1: the body becomes `return Ok(Default::default())`"]
    );
    assert_eq!(
        first("Option<u8>", "x"),
        ["1: the body becomes `return None`"]
    );
    // It says so already.
    assert_eq!(
        first("bool", "true"),
        ["1: the body becomes `return false`"]
    );
}

#[test]
fn tests_constants_and_patterns_are_no_places() {
    for source in [
        "const A: u8 = 1 + 2; static B: [u8; 1 + 1] = [0; 2];",
        "const fn f() -> bool { 1 < 2 }",
        "#[cfg(CONFIG_KUNIT = \"y\")] mod tests { fn f() -> bool { x } }",
        "#[cfg(test)] fn f() -> bool { x }",
        "fn f(a: [u8; 3]) -> T { match x { 1 | 2..=3 => z, _ => z } }",
    ] {
        assert_eq!(planted(source), [""; 0], "{source}");
    }
    assert!(!planted("#[cfg(not(test))] fn f() -> bool { x }").is_empty());
}

#[test]
fn a_let_stays_a_condition() {
    let source = "fn f() -> T { if let Some(x) = y && x < 1 { z } else { w } }";
    assert_eq!(
        planted("fn f() -> T { if let Some(x) = y { z } else { w } }"),
        [""; 0]
    );
    assert!(planted(source)
        .iter()
        .all(|what| what.contains('<') || what.contains("1 ")));
}

#[test]
fn places_in_the_output() {
    let source = "fn f() -> T {\n  a(1,\n    x)\n}";
    let file = syn::parse_file(source).unwrap();
    let (text, next, mutants) =
        Renderer::new(source, "a.rs", 7, &|_| true).render(&find::sites(source, &file));
    assert_eq!((next, mutants.len()), (9, 2));
    let [start, end] = mutants[0].changed;
    assert_eq!((start.line, end.line), (2, 3));
    assert!(text.lines().nth(1).unwrap()[start.column - 1..].starts_with("a(x,"));
    assert_eq!((mutants[0].id, mutants[0].function.as_str()), (7, "f"));
}
