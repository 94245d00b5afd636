//! Text to tree. Invariant: nesting of blocks and parentheses is at most [`DEPTH`].

use serde_json::Value;

use super::TemplateError;

const DEPTH: usize = 64;

pub(super) const FUNCTIONS: &[&str] = &[
    "json", "join", "lower", "upper", "split", "title", "truncate", "pad", "println", "print", "printf",
    "index", "len", "slice", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
];

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Show(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
}

#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) declares: Vec<String>,
    pub(super) commands: Vec<Vec<Term>>,
}

#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) kind: TermKind,
    /// Fields taken from it, `.A.B`.
    pub(super) fields: Vec<String>,
    /// Byte offset in the source.
    pub(super) at: usize,
    pub(super) text: String,
}

#[derive(Debug, Clone)]
pub(super) enum TermKind {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Pipeline),
}

pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { source, at: 0, depth: 0, trim: false };
    let (nodes, end) = parser.block()?;
    match end {
        End::Eof => Ok(nodes),
        End::Block => Err(parser.error("unexpected {{end}}")),
        End::Else => Err(parser.error("unexpected {{else}}")),
    }
}

enum End {
    Eof,
    Block,
    Else,
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
    depth: usize,
    /// The last action ended in ` -}}`.
    trim: bool,
}

impl<'a> Parser<'a> {
    fn error(&self, problem: impl Into<String>) -> TemplateError {
        let line = 1 + self.source[..self.at].matches('\n').count();
        TemplateError::Parse { line, problem: problem.into() }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn space(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn enter(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH { Err(self.error("nested too deeply")) } else { Ok(()) }
    }

    /// Nodes up to `{{end}}`, `{{else` or the end of the text.
    fn block(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        self.enter()?;
        let mut nodes = Vec::new();
        loop {
            let rest = self.rest();
            let length = rest.find("{{").unwrap_or(rest.len());
            let mut text = &rest[..length];
            if self.trim {
                text = text.trim_start();
            }
            self.at += length;
            let open = self.eat("{{");
            if open && self.rest().starts_with('-') && self.rest()[1..].starts_with(char::is_whitespace) {
                self.at += 1;
                text = text.trim_end();
            }
            if !text.is_empty() {
                nodes.push(Node::Text(text.to_owned()));
            }
            if !open {
                self.depth -= 1;
                return Ok((nodes, End::Eof));
            }
            self.space();
            if self.eat("/*") {
                let length = self.rest().find("*/").ok_or_else(|| self.error("unclosed comment"))?;
                self.at += length + 2;
                self.close()?;
                continue;
            }
            match self.keyword() {
                Some("end") => {
                    self.close()?;
                    self.depth -= 1;
                    return Ok((nodes, End::Block));
                }
                Some("else") => {
                    self.depth -= 1;
                    return Ok((nodes, End::Else));
                }
                Some(word) => nodes.push(self.control(word)?),
                None => {
                    let pipeline = self.pipeline()?;
                    self.close()?;
                    nodes.push(Node::Show(pipeline));
                }
            }
        }
    }

    fn keyword(&mut self) -> Option<&'static str> {
        let word = self.word();
        let found = ["if", "range", "with", "else", "end"].into_iter().find(|k| *k == word)?;
        self.at += found.len();
        Some(found)
    }

    fn word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
    }

    fn control(&mut self, word: &str) -> Result<Node, TemplateError> {
        self.space();
        let pipeline = self.pipeline()?;
        self.close()?;
        let (body, end) = self.block()?;
        let other = match end {
            End::Eof => return Err(self.error("unexpected EOF")),
            End::Block => Vec::new(),
            End::Else => self.otherwise()?,
        };
        Ok(match word {
            "if" => Node::If(pipeline, body, other),
            "with" => Node::With(pipeline, body, other),
            _ => Node::Range(pipeline, body, other),
        })
    }

    fn otherwise(&mut self) -> Result<Vec<Node>, TemplateError> {
        self.space();
        if let Some(word @ ("if" | "with")) = self.keyword() {
            self.enter()?;
            let node = self.control(word)?;
            self.depth -= 1;
            return Ok(vec![node]);
        }
        self.close()?;
        match self.block()? {
            (nodes, End::Block) => Ok(nodes),
            (_, End::Eof) => Err(self.error("unexpected EOF")),
            (_, End::Else) => Err(self.error("expected end; found {{else}}")),
        }
    }

    /// The `}}` or ` -}}` that ends an action.
    fn close(&mut self) -> Result<(), TemplateError> {
        self.space();
        self.trim = self.eat("-}}");
        if self.trim || self.eat("}}") {
            return Ok(());
        }
        if !self.rest().contains("}}") {
            return Err(self.error("unclosed action"));
        }
        let found: String = self.rest().chars().take(1).collect();
        Err(self.error(format!("unexpected \"{found}\" in operand")))
    }

    fn at_end(&self) -> bool {
        let rest = self.rest();
        rest.is_empty() || ["}}", "-}}", "|", ")"].iter().any(|end| rest.starts_with(end))
    }

    fn declarations(&mut self) -> Vec<String> {
        let start = self.at;
        let mut names = Vec::new();
        while self.eat("$") {
            let name = self.word().to_owned();
            self.at += name.len();
            names.push(name);
            self.space();
            if self.eat(":=") || (!self.rest().starts_with("==") && self.eat("=")) {
                self.space();
                return names;
            }
            if !self.eat(",") {
                break;
            }
            self.space();
        }
        self.at = start;
        Vec::new()
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.enter()?;
        let declares = self.declarations();
        let mut commands = Vec::new();
        loop {
            let mut terms = Vec::new();
            self.space();
            while !self.at_end() {
                terms.push(self.term()?);
                self.space();
            }
            if terms.is_empty() {
                let problem =
                    if self.rest().is_empty() { "unclosed action" } else { "missing value for command" };
                return Err(self.error(problem));
            }
            commands.push(terms);
            if !self.eat("|") {
                self.depth -= 1;
                return Ok(Pipeline { declares, commands });
            }
        }
    }

    fn term(&mut self) -> Result<Term, TemplateError> {
        let at = self.at;
        let first = self.rest().chars().next().unwrap_or(' ');
        let kind = match first {
            '.' => TermKind::Dot,
            '$' => {
                self.at += 1;
                let name = self.word();
                self.at += name.len();
                TermKind::Variable(name.to_owned())
            }
            '(' => {
                self.at += 1;
                let group = self.pipeline()?;
                if !self.eat(")") {
                    return Err(self.error("unclosed left paren"));
                }
                TermKind::Group(group)
            }
            '"' | '`' => TermKind::Literal(Value::String(self.string(first)?)),
            '-' | '0'..='9' => TermKind::Literal(self.number()?),
            _ => self.identifier()?,
        };
        let mut fields = Vec::new();
        while self.rest().starts_with('.') {
            self.at += 1;
            let name = self.word();
            if name.is_empty() {
                if fields.is_empty() && matches!(kind, TermKind::Dot) {
                    break; // `.` itself
                }
                return Err(self.error("unexpected <.> in operand"));
            }
            self.at += name.len();
            fields.push(name.to_owned());
        }
        Ok(Term { kind, fields, at, text: self.source[at..self.at].to_owned() })
    }

    fn identifier(&mut self) -> Result<TermKind, TemplateError> {
        let word = self.word();
        if word.is_empty() {
            let found: String = self.rest().chars().take(1).collect();
            return Err(self.error(format!("unexpected \"{found}\" in command")));
        }
        let kind = match word {
            "true" => TermKind::Literal(Value::Bool(true)),
            "false" => TermKind::Literal(Value::Bool(false)),
            "nil" => TermKind::Literal(Value::Null),
            _ if FUNCTIONS.contains(&word) => TermKind::Function(word.to_owned()),
            _ => return Err(self.error(format!("function \"{word}\" not defined"))),
        };
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Value, TemplateError> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '-' && c != '.').unwrap_or(rest.len());
        let text = &rest[..length];
        let value = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from));
        let value = value.map_err(|_| self.error(format!("bad number syntax: \"{text}\"")))?;
        self.at += length;
        Ok(value)
    }

    fn string(&mut self, quote: char) -> Result<String, TemplateError> {
        let raw = quote == '`';
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at += index + 1;
                    return Ok(text);
                }
                '\n' if !raw => break,
                '\\' if !raw => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, c @ ('"' | '\\' | '\''))) => text.push(c),
                    _ => return Err(self.error("invalid escape in quoted string")),
                },
                _ => text.push(c),
            }
        }
        Err(self.error(if raw { "unterminated raw quoted string" } else { "unterminated quoted string" }))
    }
}
