// SPDX-License-Identifier: GPL-2.0

//! What can go wrong in a file: the places, and how.

use std::{cmp::Reverse, ops::Range};

use proc_macro2::Span;
use syn::{
    spanned::Spanned,
    visit::{self, Visit},
    BinOp, Expr, File, ImplItemFn, ItemFn, Lit, Local, ReturnType, Stmt, Type, UnOp,
};

use crate::site::{Change, Form, Site};

/// The places of a file, outer ones before inner ones.
pub fn sites(source: &str, file: &File) -> Vec<Site> {
    let mut finder = Finder {
        source,
        names: Vec::new(),
        in_function: false,
        sites: Vec::new(),
    };
    finder.visit_file(file);
    let mut sites = finder.sites;
    // Outer ones first; what comes before a statement comes before the places in it.
    sites.sort_by_key(|site| {
        let Range { start, end } = site.range;
        (start, start != end, Reverse(end))
    });
    sites
}

struct Finder<'a> {
    source: &'a str,
    /// Of the modules, types and functions that one is in.
    names: Vec<String>,
    in_function: bool,
    sites: Vec<Site>,
}

fn bytes(span: Span) -> Range<usize> {
    span.byte_range()
}

fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && {
            let text = quoted(attribute);
            !text.contains("not") && (text.contains("CONFIG_KUNIT") || text.contains("test"))
        } || attribute.path().is_ident("kunit_tests")
    })
}

fn quoted(attribute: &syn::Attribute) -> String {
    match &attribute.meta {
        syn::Meta::List(list) => list.tokens.to_string(),
        _ => String::new(),
    }
}

fn is_true(expression: &Expr) -> bool {
    matches!(expression, Expr::Lit(lit) if matches!(&lit.lit, Lit::Bool(b) if b.value))
}

/// Whether there is a `let` in a condition: it cannot become part of an expression.
fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(b) => has_let(&b.left) || has_let(&b.right),
        Expr::Paren(p) => has_let(&p.expr),
        _ => false,
    }
}

impl Finder<'_> {
    fn text(&self, node: &impl Spanned) -> &str {
        &self.source[bytes(node.span())]
    }

    fn add(&mut self, span: Span, form: Form, changes: Vec<(String, String)>) {
        self.add_at(bytes(span), span.start().line, form, changes);
    }

    fn add_at(
        &mut self,
        range: Range<usize>,
        line: usize,
        form: Form,
        changes: Vec<(String, String)>,
    ) {
        if !self.in_function || changes.is_empty() {
            return;
        }
        let changes = changes
            .into_iter()
            .map(|(what, text)| Change { what, text })
            .collect();
        self.sites.push(Site {
            range,
            line,
            function: self.names.join("::"),
            form,
            changes,
        });
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.names.push(name);
        visit(self);
        self.names.pop();
    }

    fn function(
        &mut self,
        signature: &syn::Signature,
        body: &syn::Block,
        visit: impl FnOnce(&mut Self),
    ) {
        // What is computed by the compiler has no switches.
        if signature.constness.is_some() {
            return;
        }
        let before = std::mem::replace(&mut self.in_function, true);
        self.within(signature.ident.to_string(), |finder| {
            finder.body(signature, body);
            visit(finder);
        });
        self.in_function = before;
    }

    /// A function that returns at once.
    fn body(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let Some(first) = body.stmts.first() else {
            return;
        };
        let values: &[&str] = match &signature.output {
            ReturnType::Default => &["return"],
            ReturnType::Type(_, ty) => match &**ty {
                Type::Path(path) => {
                    let last = path.path.segments.last().expect("a path has a segment");
                    match last.ident.to_string().as_str() {
                        "bool" => &["return true", "return false"],
                        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" | "c_int" => {
                            &["return 0", "return 1"]
                        }
                        "Result" => &["return Ok(Default::default())"],
                        "Option" => &["return None"],
                        _ => &[],
                    }
                }
                _ => &[],
            },
        };
        // One statement that says the same is no change.
        let only = body.stmts.len() == 1;
        let text = self.text(first).trim().to_owned();
        let changes = values
            .iter()
            .filter(|value| !(only && value.strip_prefix("return ").is_some_and(|v| v == text)))
            .map(|value| (format!("the body becomes `{value}`"), format!("{value};")))
            .collect();
        let start = bytes(first.span()).start;
        self.add_at(
            start..start,
            signature.span().start().line,
            Form::Before,
            changes,
        );
    }

    /// A condition that is always true, or never.
    fn condition(&mut self, condition: &Expr, always: bool) {
        if has_let(condition) {
            return;
        }
        let mut changes = vec![("the condition never holds".into(), "false".into())];
        if always {
            changes.push(("the condition always holds".into(), "true".into()));
        }
        self.add(condition.span(), Form::Expression, changes);
    }

    fn swapped(
        &mut self,
        whole: Span,
        arguments: &syn::punctuated::Punctuated<Expr, syn::Token![,]>,
    ) {
        let range = bytes(whole);
        let mut changes = Vec::new();
        for n in 1..arguments.len() {
            let (one, two) = (&arguments[n - 1], &arguments[n]);
            if matches!(one, Expr::Closure(_)) || matches!(two, Expr::Closure(_)) {
                continue;
            }
            let (a, b) = (bytes(one.span()), bytes(two.span()));
            if self.source[a.clone()] == self.source[b.clone()] {
                continue;
            }
            let text = [
                &self.source[range.start..a.start],
                &self.source[b.clone()],
                &self.source[a.end..b.start],
                &self.source[a.clone()],
                &self.source[b.end..range.end],
            ]
            .concat();
            changes.push((format!("arguments {n} and {} change places", n + 1), text));
        }
        self.add(whole, Form::Expression, changes);
    }
}

fn operators(op: &BinOp) -> &'static [&'static str] {
    match op {
        BinOp::Lt(_) => &["<=", ">="],
        BinOp::Le(_) => &["<", ">"],
        BinOp::Gt(_) => &[">=", "<="],
        BinOp::Ge(_) => &[">", "<"],
        BinOp::Eq(_) => &["!="],
        BinOp::Ne(_) => &["=="],
        BinOp::And(_) => &["||"],
        BinOp::Or(_) => &["&&"],
        BinOp::Add(_) => &["-"],
        BinOp::Sub(_) => &["+"],
        BinOp::Mul(_) => &["/"],
        BinOp::Div(_) => &["*"],
        BinOp::Rem(_) => &["/"],
        BinOp::BitAnd(_) => &["|"],
        BinOp::BitOr(_) => &["&"],
        BinOp::BitXor(_) => &["|"],
        BinOp::Shl(_) => &[">>"],
        BinOp::Shr(_) => &["<<"],
        BinOp::AddAssign(_) => &["-="],
        BinOp::SubAssign(_) => &["+="],
        BinOp::BitOrAssign(_) => &["&="],
        BinOp::BitAndAssign(_) => &["|="],
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(x) => &x.attrs,
            syn::Item::Impl(x) => &x.attrs,
            syn::Item::Mod(x) => &x.attrs,
            syn::Item::Trait(x) => &x.attrs,
            _ => return, // Constants, statics, types and macros have no switches.
        };
        if !for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(item.ident.to_string(), |finder| {
            visit::visit_item_mod(finder, item)
        });
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = self.text(&*item.self_ty).to_owned();
        self.within(name, |finder| {
            for item in &item.items {
                finder.visit_impl_item(item);
            }
        });
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if let syn::ImplItem::Fn(function) = item {
            if !for_tests(&function.attrs) {
                self.visit_impl_item_fn(function);
            }
        }
    }

    fn visit_trait_item(&mut self, item: &'ast syn::TraitItem) {
        if let syn::TraitItem::Fn(function) = item {
            if let Some(body) = &function.default {
                self.function(&function.sig, body, |finder| finder.visit_block(body));
            }
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block, |finder| {
            finder.visit_block(&item.block)
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block, |finder| {
            finder.visit_block(&item.block)
        });
    }

    fn visit_type(&mut self, _: &'ast Type) {} // Lengths of arrays are constants.

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_expr_repeat(&mut self, expression: &'ast syn::ExprRepeat) {
        self.visit_expr(&expression.expr); // The length is a constant.
    }

    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}

    fn visit_local(&mut self, local: &'ast Local) {
        if let Some(init) = &local.init {
            self.visit_expr(&init.expr);
            if let Some((_, diverge)) = &init.diverge {
                self.visit_expr(diverge);
            }
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(semicolon)) = statement {
            let (inner, checked) = match expression {
                Expr::Try(tried) => (&*tried.expr, true),
                other => (other, false),
            };
            let droppable = matches!(
                inner,
                Expr::Call(_) | Expr::MethodCall(_) | Expr::Unsafe(_) | Expr::Assign(_)
            ) || matches!(inner, Expr::Binary(b) if !operators(&b.op).is_empty());
            if droppable {
                let mut changes = vec![("the statement is left out".to_owned(), String::new())];
                if checked {
                    let text = format!("let _ = {};", self.text(inner));
                    changes.push(("the error is ignored".to_owned(), text));
                }
                if let Expr::Binary(b) = inner {
                    for op in operators(&b.op) {
                        let text = self.binary(b, op) + ";";
                        changes.push((format!("`{}` becomes `{op}`", self.text(&b.op)), text));
                    }
                }
                let range = bytes(expression.span()).start..bytes(semicolon.span()).end;
                self.add_at(range, expression.span().start().line, Form::Block, changes);
                if let Expr::Binary(b) = inner {
                    self.visit_expr(&b.right);
                    return;
                }
            }
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_assign(&mut self, assign: &'ast syn::ExprAssign) {
        self.visit_expr(&assign.right); // The left side is a place, no value.
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.condition(&expression.cond, true);
        visit::visit_expr_if(self, expression);
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        if !is_true(&expression.cond) {
            self.condition(&expression.cond, false);
        }
        visit::visit_expr_while(self, expression);
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        for pair in expression.arms.windows(2) {
            let (one, two) = (&*pair[0].body, &*pair[1].body);
            if self.text(one) != self.text(two) {
                let change = (
                    "the arm does what the next one does".to_owned(),
                    self.text(two).to_owned(),
                );
                self.add(one.span(), Form::Block, vec![change]);
            }
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard, true);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_binary(&mut self, expression: &'ast syn::ExprBinary) {
        if has_let(&Expr::Binary(expression.clone())) {
            return visit::visit_expr_binary(self, expression);
        }
        let changes = operators(&expression.op)
            .iter()
            .map(|op| {
                let what = format!("`{}` becomes `{op}`", self.text(&expression.op));
                (what, self.binary(expression, op))
            })
            .collect();
        self.add(expression.span(), Form::Expression, changes);
        visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'ast syn::ExprUnary) {
        if matches!(expression.op, UnOp::Not(_)) {
            let text = self.text(&*expression.expr).to_owned();
            self.add(
                expression.span(),
                Form::Expression,
                vec![("`!` is left out".into(), text)],
            );
        }
        visit::visit_expr_unary(self, expression);
    }

    fn visit_expr_lit(&mut self, expression: &'ast syn::ExprLit) {
        let text = self.text(expression).to_owned();
        let changes = match &expression.lit {
            Lit::Int(number) => match number.base10_parse::<u128>() {
                Ok(value) => {
                    let new = format!("{}{}", value + 1, number.suffix());
                    vec![(format!("{text} becomes {new}"), new)]
                }
                Err(_) => return,
            },
            Lit::Bool(value) => {
                let new = (!value.value).to_string();
                vec![(format!("{text} becomes {new}"), new)]
            }
            _ => return,
        };
        self.add(expression.span(), Form::Expression, changes);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        self.swapped(call.span(), &call.args);
        for argument in &call.args {
            self.visit_expr(argument);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let opposite = match call.method.to_string().as_str() {
            "min" => Some("max"),
            "max" => Some("min"),
            "any" => Some("all"),
            "all" => Some("any"),
            "is_some" => Some("is_none"),
            "is_none" => Some("is_some"),
            "is_ok" => Some("is_err"),
            "is_err" => Some("is_ok"),
            "first" => Some("last"),
            "last" => Some("first"),
            _ => None,
        };
        if let Some(opposite) = opposite {
            let (whole, name) = (bytes(call.span()), bytes(call.method.span()));
            let text = [
                &self.source[whole.start..name.start],
                opposite,
                &self.source[name.end..whole.end],
            ]
            .concat();
            let what = format!("`{}` becomes `{opposite}`", call.method);
            self.add(call.span(), Form::Expression, vec![(what, text)]);
        }
        self.swapped(call.span(), &call.args);
        self.visit_expr(&call.receiver);
        for argument in &call.args {
            self.visit_expr(argument);
        }
    }

    fn visit_expr_macro(&mut self, expression: &'ast syn::ExprMacro) {
        if expression.mac.path.is_ident("matches") {
            let text = format!("!{}", self.text(expression));
            let what = "`matches!` says the opposite".into();
            self.add(expression.span(), Form::Expression, vec![(what, text)]);
        }
    }
}

impl Finder<'_> {
    fn binary(&self, expression: &syn::ExprBinary, op: &str) -> String {
        let whole = bytes(expression.span());
        let old = bytes(expression.op.span());
        [
            &self.source[whole.start..old.start],
            op,
            &self.source[old.end..whole.end],
        ]
        .concat()
    }
}
