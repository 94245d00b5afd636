//! Calls a function by name: `image.wasm#function` and its parameters as text.
//!
//! Parameters are numbers, and in a component also booleans, characters, strings, and lists or options of these, as the function's
//! type says. A function without parameters is called as it is, and the arguments are left to it. Results are printed one a line.
//! Not the WAVE notation: it is a language of its own, and what comes from a command line is a list of plain words.

use std::fmt::Write as _;

use wasmtime::component::{self, types::ComponentItem};
use wasmtime::{Store, Val, ValType};

use crate::run::Failure;
use crate::wasi::{P1, P2};

/// Why a function cannot be called so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("function `{name}` takes {wanted} parameters, not {given}")]
    Count { name: String, wanted: usize, given: usize },
    #[error("`{text}` is no {wanted}")]
    Value { text: String, wanted: String },
    #[error("a parameter of type {wanted} cannot be given as text")]
    Type { wanted: String },
    #[error("the component exports no function `{name}`")]
    Missing { name: String },
}

fn refuse(error: CallError) -> Failure {
    Failure::Instance(wasmtime::Error::new(error))
}

fn parse<T: std::str::FromStr>(text: &str, wanted: &str) -> Result<T, CallError> {
    text.parse().map_err(|_| CallError::Value { text: text.to_owned(), wanted: wanted.to_owned() })
}

fn counted<'a>(name: &str, wanted: usize, args: &'a [String]) -> Result<&'a [String], CallError> {
    if wanted == 0 {
        return Ok(&[]);
    }
    if wanted == args.len() {
        return Ok(args);
    }
    Err(CallError::Count { name: name.to_owned(), wanted, given: args.len() })
}

fn number(ty: &ValType, text: &str) -> Result<Val, CallError> {
    Ok(match ty {
        // Either reading of a number: the type has no sign.
        ValType::I32 => Val::I32(text.parse::<u32>().map(u32::cast_signed).or_else(|_| parse(text, "i32"))?),
        ValType::I64 => Val::I64(text.parse::<u64>().map(u64::cast_signed).or_else(|_| parse(text, "i64"))?),
        ValType::F32 => Val::F32(parse::<f32>(text, "f32")?.to_bits()),
        ValType::F64 => Val::F64(parse::<f64>(text, "f64")?.to_bits()),
        other => return Err(CallError::Type { wanted: other.to_string() }),
    })
}

/// Calls a function of a core module. A module that must be initialised (a reactor) is, first.
pub(crate) async fn core(
    store: &mut Store<P1>,
    instance: &wasmtime::Instance,
    name: &str,
    args: &[String],
) -> Result<String, Failure> {
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")
        && name != "_initialize"
    {
        initialize.call_async(&mut *store, ()).await.map_err(Failure::Guest)?;
    }
    let missing = || refuse(CallError::Missing { name: name.to_owned() });
    let function = instance.get_func(&mut *store, name).ok_or_else(missing)?;
    let ty = function.ty(&*store);
    let args = counted(name, ty.params().len(), args).map_err(refuse)?;
    let params: Result<Vec<Val>, _> = ty.params().zip(args).map(|(ty, text)| number(&ty, text)).collect();
    let mut results = vec![Val::I32(0); ty.results().len()];
    function.call_async(&mut *store, &params.map_err(refuse)?, &mut results).await.map_err(Failure::Guest)?;
    let mut text = String::new();
    for result in results {
        // Writing to a String cannot fail.
        let _ = match result {
            Val::I32(number) => writeln!(text, "{number}"),
            Val::I64(number) => writeln!(text, "{number}"),
            Val::F32(bits) => writeln!(text, "{}", f32::from_bits(bits)),
            Val::F64(bits) => writeln!(text, "{}", f64::from_bits(bits)),
            _ => Ok(()),
        };
    }
    Ok(text)
}

fn value(ty: &component::Type, text: &str) -> Result<component::Val, CallError> {
    use component::{Type, Val};
    Ok(match ty {
        Type::Bool => Val::Bool(parse(text, "bool")?),
        Type::S8 => Val::S8(parse(text, "s8")?),
        Type::U8 => Val::U8(parse(text, "u8")?),
        Type::S16 => Val::S16(parse(text, "s16")?),
        Type::U16 => Val::U16(parse(text, "u16")?),
        Type::S32 => Val::S32(parse(text, "s32")?),
        Type::U32 => Val::U32(parse(text, "u32")?),
        Type::S64 => Val::S64(parse(text, "s64")?),
        Type::U64 => Val::U64(parse(text, "u64")?),
        Type::Float32 => Val::Float32(parse(text, "f32")?),
        Type::Float64 => Val::Float64(parse(text, "f64")?),
        Type::Char => Val::Char(parse(text, "char")?),
        Type::String => Val::String(text.to_owned()),
        Type::List(list) => {
            let items = text.split(',').filter(|item| !item.is_empty());
            Val::List(items.map(|item| value(&list.ty(), item)).collect::<Result<_, _>>()?)
        }
        Type::Option(_) if text.is_empty() => Val::Option(None),
        Type::Option(option) => Val::Option(Some(Box::new(value(&option.ty(), text)?))),
        other => return Err(CallError::Type { wanted: format!("{other:?}") }),
    })
}

fn shown(result: &component::Val, text: &mut String) {
    use component::Val;
    // Writing to a String cannot fail.
    let _ = match result {
        Val::Bool(value) => write!(text, "{value}"),
        Val::S8(value) => write!(text, "{value}"),
        Val::U8(value) => write!(text, "{value}"),
        Val::S16(value) => write!(text, "{value}"),
        Val::U16(value) => write!(text, "{value}"),
        Val::S32(value) => write!(text, "{value}"),
        Val::U32(value) => write!(text, "{value}"),
        Val::S64(value) => write!(text, "{value}"),
        Val::U64(value) => write!(text, "{value}"),
        Val::Float32(value) => write!(text, "{value}"),
        Val::Float64(value) => write!(text, "{value}"),
        Val::Char(value) => write!(text, "{value}"),
        Val::String(value) => write!(text, "{value}"),
        Val::List(values) => {
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                shown(value, text);
            }
            Ok(())
        }
        Val::Option(Some(value)) | Val::Result(Ok(Some(value)) | Err(Some(value))) => {
            shown(value, text);
            Ok(())
        }
        Val::Option(None) | Val::Result(Ok(None) | Err(None)) => Ok(()),
        other => write!(text, "{other:?}"),
    };
}

/// Calls a function of a component: by its name, or by `interface#function`. True when it gave no error.
pub(crate) async fn component(
    store: &mut Store<P2>,
    instance: &component::Instance,
    name: &str,
    args: &[String],
) -> Result<(String, bool), Failure> {
    let missing = || refuse(CallError::Missing { name: name.to_owned() });
    let path: Vec<&str> = name.split('#').collect();
    let mut parent = None;
    let mut found = None;
    for part in path {
        let (item, index) = instance.get_export(&mut *store, parent.as_ref(), part).ok_or_else(missing)?;
        found = Some((item, index));
        parent = Some(index);
    }
    let Some((ComponentItem::ComponentFunc(_), index)) = found else { return Err(missing()) };
    let function = instance.get_func(&mut *store, index).ok_or_else(missing)?;
    let ty = function.ty(&*store);
    let args = counted(name, ty.params().len(), args).map_err(refuse)?;
    let params: Result<Vec<_>, _> = ty.params().zip(args).map(|((_, ty), text)| value(&ty, text)).collect();
    let mut results = vec![component::Val::Bool(false); ty.results().len()];
    function.call_async(&mut *store, &params.map_err(refuse)?, &mut results).await.map_err(Failure::Guest)?;
    let mut text = String::new();
    for result in &results {
        let before = text.len();
        shown(result, &mut text);
        if text.len() > before {
            text.push('\n');
        }
    }
    let good = !results.iter().any(|result| matches!(result, component::Val::Result(Err(_))));
    Ok((text, good))
}
