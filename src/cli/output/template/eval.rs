//! Tree and value to text. Invariant: no function makes more than [`WIDEST`] characters of padding.

use serde_json::Value;

use super::TemplateError;
use super::parse::{Node, Pipeline, Term, TermKind};

const WIDEST: u64 = 10_000;

/// Objects that are maps in docker's own types: a key they lack is empty, not an error.
const MAPS: &[&str] =
    &["Attributes", "Labels", "Annotations", "ExposedPorts", "Volumes", "Ports", "Networks", "Sysctls"];

pub(super) type Labels<'a> = &'a dyn Fn(&str) -> String;

struct Scope<'a> {
    source: &'a str,
    labels: Option<Labels<'a>>,
    variables: Vec<(String, Value)>,
    out: String,
}

pub(super) fn run(
    nodes: &[Node],
    source: &str,
    root: &Value,
    labels: Option<Labels<'_>>,
) -> Result<String, TemplateError> {
    let variables = vec![(String::new(), root.clone())];
    let mut scope = Scope { source, labels, variables, out: String::new() };
    scope.nodes(nodes, root, true)?;
    Ok(scope.out)
}

impl Scope<'_> {
    fn error(&self, term: &Term, problem: impl Into<String>) -> TemplateError {
        let before = &self.source[..term.at];
        TemplateError::Execute {
            line: 1 + before.matches('\n').count(),
            column: before.len() - before.rfind('\n').map_or(0, |n| n + 1),
            term: term.text.clone(),
            problem: problem.into(),
        }
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value, root: bool) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Show(pipeline) => {
                    let value = self.pipeline(pipeline, dot, root)?;
                    if pipeline.declares.is_empty() {
                        self.out.push_str(&show(&value));
                    }
                }
                Node::If(condition, yes, no) => {
                    let value = self.pipeline(condition, dot, root)?;
                    self.nodes(if truth(&value) { yes } else { no }, dot, root)?;
                }
                Node::With(condition, yes, no) => {
                    let value = self.pipeline(condition, dot, root)?;
                    if truth(&value) { self.nodes(yes, &value, false)? } else { self.nodes(no, dot, root)? }
                }
                Node::Range(over, body, none) => self.range(over, body, none, dot, root)?,
            }
        }
        self.variables.truncate(outer.max(1));
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        none: &[Node],
        dot: &Value,
        root: bool,
    ) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        let value = self.commands(over, dot, root)?;
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => items.into_iter().enumerate().map(|(n, v)| (Value::from(n), v)).collect(),
            Value::Object(map) => map.into_iter().map(|(k, v)| (Value::String(k), v)).collect(),
            Value::Null => Vec::new(),
            other => {
                return Err(
                    self.error(&over.commands[0][0], format!("range can't iterate over {}", show(&other)))
                );
            }
        };
        if items.is_empty() {
            return self.nodes(none, dot, root);
        }
        for (key, item) in items {
            match over.declares.as_slice() {
                [value] => self.variables.push((value.clone(), item.clone())),
                [index, value, ..] => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((value.clone(), item.clone()));
                }
                [] => {}
            }
            self.nodes(body, &item, false)?;
            self.variables.truncate(outer);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value, root: bool) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot, root)?;
        for name in &pipeline.declares {
            self.variables.push((name.clone(), value.clone()));
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value, root: bool) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot, root)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(
        &mut self,
        command: &[Term],
        last: Option<Value>,
        dot: &Value,
        root: bool,
    ) -> Result<Value, TemplateError> {
        let (first, rest) = (&command[0], &command[1..]);
        let mut arguments = Vec::new();
        for term in rest {
            arguments.push(self.term(term, dot, root)?);
        }
        arguments.extend(last);
        if let TermKind::Function(name) = &first.kind {
            return call(name, &arguments)
                .map_err(|problem| self.error(first, format!("error calling {name}: {problem}")));
        }
        let at_root = match &first.kind {
            TermKind::Dot => root,
            TermKind::Variable(name) => name.is_empty(),
            _ => false,
        };
        if let (true, [field], [Value::String(label)], Some(labels)) =
            (at_root, first.fields.as_slice(), arguments.as_slice(), self.labels)
            && field == "Label"
        {
            return Ok(Value::String(labels(label)));
        }
        if arguments.is_empty() {
            return self.term(first, dot, root);
        }
        let name = first.fields.last().map_or(first.text.as_str(), String::as_str);
        Err(self.error(first, format!("{name} has arguments but cannot be invoked as function")))
    }

    fn term(&mut self, term: &Term, dot: &Value, root: bool) -> Result<Value, TemplateError> {
        let owned;
        let mut value = match &term.kind {
            TermKind::Dot => dot,
            TermKind::Literal(value) => value,
            TermKind::Variable(name) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let found = found.map(|(_, value)| value.clone());
                owned = found.ok_or_else(|| self.error(term, format!("undefined variable \"${name}\"")))?;
                &owned
            }
            TermKind::Group(pipeline) => {
                owned = self.pipeline(pipeline, dot, root)?;
                &owned
            }
            TermKind::Function(name) => {
                let value = call(name, &[]);
                owned = value.map_err(|e| self.error(term, format!("error calling {name}: {e}")))?;
                &owned
            }
        };
        let mut parent = "";
        for field in &term.fields {
            match value.get(field) {
                Some(inner) => value = inner,
                None if value.is_object() && MAPS.contains(&parent) => {
                    return Ok(Value::String(String::new()));
                }
                None => return Err(self.error(term, format!("can't evaluate field {field}"))),
            }
            parent = field;
        }
        Ok(value.clone())
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// A value as Go's `%v` shows it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let items: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {value}"))
}

fn integer(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("wrong type for value; expected a number from 0; got {value}"))
}

fn narrow(value: u64) -> Result<usize, String> {
    if value > WIDEST {
        Err(format!("{value} is more than {WIDEST}"))
    } else {
        usize::try_from(value).map_err(|e| e.to_string())
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let words = || arguments.iter().map(show).collect::<Vec<_>>();
    let made = |text: String| Ok(Value::String(text));
    match (name, arguments) {
        ("json", [value]) => made(value.to_string()),
        ("join", [Value::Array(items), glue]) => {
            made(items.iter().map(show).collect::<Vec<_>>().join(text(glue)?))
        }
        ("join", [Value::Null, _]) => made(String::new()),
        ("lower", [value]) => made(text(value)?.to_lowercase()),
        ("upper", [value]) => made(text(value)?.to_uppercase()),
        ("title", [value]) => made(title(text(value)?)),
        ("split", [value, by]) => Ok(text(value)?.split(text(by)?).collect()),
        ("truncate", [value, length]) => {
            made(text(value)?.chars().take(usize::try_from(integer(length)?).unwrap_or(usize::MAX)).collect())
        }
        ("pad", [value, before, after]) => {
            let value = text(value)?;
            if value.is_empty() {
                return made(String::new());
            }
            let blank = |n: &Value| integer(n).and_then(narrow).map(|n| " ".repeat(n));
            made(format!("{}{value}{}", blank(before)?, blank(after)?))
        }
        ("print", _) => made(words().concat()),
        ("println", _) => made(format!("{}\n", words().join(" "))),
        ("printf", [format, rest @ ..]) => made(printf(text(format)?, rest)?),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("slice", [value, from, to @ ..]) => slice(value, from, to.first()),
        ("len", [Value::String(s)]) => Ok(s.len().into()),
        ("len", [Value::Array(a)]) => Ok(a.len().into()),
        ("len", [Value::Object(o)]) => Ok(o.len().into()),
        ("len", [Value::Null]) => Ok(0.into()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => Ok(rest.contains(first).into()),
        ("ne", [a, b]) => Ok((a != b).into()),
        ("lt" | "le" | "gt" | "ge", [a, b]) => Ok(compare(name, a, b)?.into()),
        ("not", [value]) => Ok((!truth(value)).into()),
        ("and", [.., last]) => Ok(arguments.iter().find(|v| !truth(v)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(arguments.iter().find(|v| truth(v)).unwrap_or(last).clone()),
        _ => Err(format!("wrong number or type of arguments ({} given)", arguments.len())),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let cased = text.chars().flat_map(|c| {
        let upper = start;
        start = c.is_whitespace();
        if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
    });
    cased.collect()
}

fn compare(name: &str, a: &Value, b: &Value) -> Result<bool, String> {
    let order = match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        _ => None,
    };
    let order = order.ok_or("incompatible types for comparison")?;
    Ok(match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            (Value::Array(items), _) => {
                let n = integer(key)?;
                let item = usize::try_from(n).ok().and_then(|n| items.get(n));
                item.ok_or_else(|| format!("index out of range: {n}"))?
            }
            (Value::Object(map), _) => match map.get(text(key)?) {
                Some(inner) => inner,
                None => return Ok(Value::String(String::new())),
            },
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            _ => return Err(format!("can't index item of type {value}")),
        };
    }
    Ok(value.clone())
}

fn slice(value: &Value, from: &Value, to: Option<&Value>) -> Result<Value, String> {
    let bound = |v: &Value| integer(v).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let from = bound(from)?;
    let to = to.map(bound).transpose()?;
    let cut = match value {
        Value::String(s) => s.get(from..to.unwrap_or(s.len())).map(Value::from),
        Value::Array(a) => a.get(from..to.unwrap_or(a.len())).map(|part| Value::Array(part.to_vec())),
        _ => return Err(format!("can't slice item of type {value}")),
    };
    cut.ok_or_else(|| "index out of range".to_owned())
}

/// `%s %v %d %q %t %%`, with a width and `-`.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let left = chars.next_if_eq(&'-').is_some();
        let mut width = 0_u64;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            chars.next();
            width = width.saturating_mul(10).saturating_add(digit.into());
        }
        let width = narrow(width)?;
        let verb = chars.next().ok_or("missing verb after %")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("missing argument for %{verb}"))?;
        let shown = match verb {
            's' | 'v' | 'd' | 't' => show(value),
            'q' => Value::String(show(value)).to_string(),
            _ => return Err(format!("unknown verb %{verb}")),
        };
        let padded = if left { format!("{shown:<width$}") } else { format!("{shown:>width$}") };
        out.push_str(&padded);
    }
    Ok(out)
}
