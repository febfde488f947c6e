//! The attribute for host functions.

use proc_macro2::{Delimiter, Ident, Literal, Span, TokenStream, TokenTree};
use quote::quote;

use crate::tokens::{Cursor, Problem, cut_at_colon, is_punct, list};

/// Parameters that a host function may have behind `&Vmctx`, see `IntoHostFunc`.
const MAX_PARAMS: usize = 16;

/// The function, and the type that stands for it in `Linker::hostcall`.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let beside = Arguments::of(arguments)
        .and_then(|arguments| Ok((arguments, Head::of(item.clone())?)))
        .map_or_else(Problem::into_tokens, |(arguments, head)| {
            named_type(&arguments, &head)
        });
    quote!(#item #beside)
}

/// What the attribute says.
struct Arguments {
    module: Literal,
    name: Option<Literal>,
    suspending: bool,
}

impl Arguments {
    fn of(tokens: TokenStream) -> Result<Self, Problem> {
        let mut arguments = Self {
            module: Literal::string("env"),
            name: None,
            suspending: false,
        };
        for part in list(tokens) {
            let span = part.first().map_or_else(Span::call_site, TokenTree::span);
            match &part[..] {
                [TokenTree::Ident(key)] if key == "suspending" => arguments.suspending = true,
                [TokenTree::Ident(key), equals, TokenTree::Literal(value)]
                    if is_punct(equals, '=') && value.to_string().starts_with('"') =>
                {
                    match &*key.to_string() {
                        "module" => arguments.module = value.clone(),
                        "name" => arguments.name = Some(value.clone()),
                        _ => return Err(unknown(span)),
                    }
                }
                _ => return Err(unknown(span)),
            }
        }
        Ok(arguments)
    }
}

fn unknown(span: Span) -> Problem {
    Problem::at(
        span,
        "hostcall takes `module = \"...\"`, `name = \"...\"` and `suspending`",
    )
}

/// What is read of the function.
struct Head {
    visibility: TokenStream,
    name: Ident,
}

impl Head {
    fn of(item: TokenStream) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(item);
        cursor.skip_attributes();
        let visibility = cursor.visibility();
        loop {
            let word = cursor.ident("a function")?;
            let refusal = match &*word.to_string() {
                "fn" => break,
                "const" => continue,
                "async" => "a host function is not async; one that waits is `suspending`",
                "unsafe" => {
                    "a host function is safe to call: it can check all that a guest gives it"
                }
                "extern" => "a host function has Rust's own ABI, leave `extern` out",
                _ => "hostcall stands before a free function",
            };
            return Err(Problem::at(word.span(), refusal));
        }
        let name = cursor.ident("the function's name")?;
        if cursor.at_punct('<') {
            let message = "a host function has one Wasm type, so it can't be generic";
            return Err(Problem::at(cursor.span(), message));
        }
        let params = cursor
            .group(Delimiter::Parenthesis)
            .ok_or_else(|| Problem::at(name.span(), "the function's parameters are missing"))?;
        check_params(name.span(), &list(params.stream()))?;
        Ok(Self { visibility, name })
    }
}

fn check_params(at: Span, params: &[Vec<TokenTree>]) -> Result<(), Problem> {
    let [first, rest @ ..] = params else {
        return Err(Problem::at(
            at,
            "the first parameter of a host function is `&Vmctx`",
        ));
    };
    let span = first.first().map_or(at, TokenTree::span);
    let Some((_, ty)) = cut_at_colon(first) else {
        return Err(Problem::at(
            span,
            "a host function is a free function, without `self`",
        ));
    };
    if !is_vmctx(ty) {
        return Err(Problem::at(
            span,
            "the first parameter of a host function is `&Vmctx`",
        ));
    }
    if let Some(param) = rest.get(MAX_PARAMS) {
        let span = param.first().map_or(at, TokenTree::span);
        let message =
            format!("a host function has {MAX_PARAMS} parameters behind `&Vmctx` at most");
        return Err(Problem::at(span, message));
    }
    Ok(())
}

/// Whether a type is `&Vmctx`, by any path and with any lifetimes.
fn is_vmctx(ty: &[TokenTree]) -> bool {
    let [reference, rest @ ..] = ty else {
        return false;
    };
    // A lifetime is a quote and a name.
    let path = match rest {
        [quote, TokenTree::Ident(_), path @ ..] if is_punct(quote, '\'') => path,
        path => path,
    };
    let head = path.iter().take_while(|token| !is_punct(token, '<'));
    let last = head.last();
    let mutable = matches!(path.first(), Some(TokenTree::Ident(word)) if word == "mut");
    is_punct(reference, '&')
        && !mutable
        && matches!(last, Some(TokenTree::Ident(word)) if word == "Vmctx")
}

fn named_type(arguments: &Arguments, head: &Head) -> TokenStream {
    let Head { visibility, name } = head;
    let own_name = name.to_string();
    let own_name = own_name.strip_prefix("r#").unwrap_or(&own_name);
    let import = arguments
        .name
        .clone()
        .unwrap_or_else(|| Literal::string(own_name));
    let module = &arguments.module;
    let define = if arguments.suspending {
        quote!(suspending_func)
    } else {
        quote!(func)
    };
    let doc = format!("The host function `{own_name}`, for `Linker::hostcall`.");
    quote! {
        #[doc = #doc]
        #[allow(non_camel_case_types, reason = "named as the function")]
        #[derive(Debug)]
        #visibility enum #name {}

        impl ::selvedge::Hostcall for #name {
            const MODULE: &'static str = #module;
            const NAME: &'static str = #import;

            fn define(linker: &mut ::selvedge::Linker)
                -> ::core::result::Result<(), ::selvedge::RuntimeError>
            {
                linker.#define(Self::MODULE, Self::NAME, #name)?;
                ::core::result::Result::Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &str, item: &str) -> String {
        expand(arguments.parse().unwrap(), item.parse().unwrap()).to_string()
    }

    #[test]
    fn the_function_stays_and_a_type_stands_beside_it() {
        let text = expanded(
            r#"module = "host", name = "write", suspending"#,
            "/// Doc.\n#[inline] pub(crate) fn log(v: &Vmctx<'_>, n: i32) -> i32 { n }",
        );
        assert!(text.contains("n : i32) -> i32 { n }"), "{text}");
        assert!(text.contains("pub (crate) enum log { }"), "{text}");
        assert!(
            text.contains(r#"= "host""#) && text.contains(r#"= "write""#),
            "{text}"
        );
        assert!(text.contains("suspending_func"), "{text}");
        let text = expanded("", "fn r#loop(v: &'static selvedge::Vmctx) {}");
        assert!(
            text.contains(r#"= "env""#) && text.contains(r#"= "loop""#),
            "{text}"
        );
        assert!(!text.contains("compile_error"), "{text}");
    }

    #[test]
    fn what_is_no_host_function_is_refused_with_the_reason() {
        let params = ", a: i32".repeat(17);
        for (item, reason) in [
            ("struct S;", "free function"),
            ("async fn f(v: &Vmctx) {}", "suspending"),
            ("unsafe fn f(v: &Vmctx) {}", "safe to call"),
            ("extern \"C\" fn f(v: &Vmctx) {}", "ABI"),
            ("fn f<T>(v: &Vmctx, t: T) {}", "generic"),
            ("fn f() {}", "first parameter"),
            ("fn f(n: i32) {}", "first parameter"),
            ("fn f(v: Vmctx) {}", "first parameter"),
            ("fn f(v: &mut Vmctx) {}", "first parameter"),
            ("fn f(&self) {}", "without `self`"),
            (&format!("fn f(v: &Vmctx{params}) {{}}"), "16 parameters"),
        ] {
            let text = expanded("", item);
            assert!(
                text.contains("compile_error") && text.contains(reason),
                "{item}: {text}"
            );
            assert!(!text.contains("enum"), "{item}");
        }
        for arguments in ["other", "module", "module = 5", r#"nome = "x""#, r#""x""#] {
            let text = expanded(arguments, "fn f(v: &Vmctx) {}");
            assert!(text.contains("hostcall takes"), "{arguments}: {text}");
            assert!(text.starts_with("fn f"), "the function is still there");
        }
    }
}
