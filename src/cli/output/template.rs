//! Docker's `--format`: the part of Go's text/template that command lines use, over JSON values.
//!
//! Actions: fields, variables, pipelines, literals, parentheses, `if`/`else if`/`else`, `range`, `with`, comments and trim
//! markers. Functions: docker's (`json join lower upper split title truncate pad println`) and Go's (`index len slice
//! print printf eq ne lt le gt ge and or not`). Invariant: parsing bounds the nesting, so no text overflows the stack;
//! evaluation only walks the tree, so it ends.

mod eval;
mod parse;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use parse::Node;

/// Why a template cannot be used. The words are docker's, since scripts look for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("failed to parse template: template: :{line}: {problem}")]
    Parse {
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It cannot be applied to this value.
    #[error("failed to execute template: template: :{line}:{column}: executing \"\" at <{term}>: {problem}")]
    Execute {
        /// Line, from 1.
        line: usize,
        /// Column, from 0 as Go counts.
        column: usize,
        /// The term, as written.
        term: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a template is applied to: fields, and the labels that `.Label "x"` looks up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Fields by docker's names.
    pub fields: Map<String, Value>,
    /// What `.Label` finds.
    pub labels: BTreeMap<String, String>,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<Node>,
    source: String,
}

impl Template {
    /// Parses a template; `\t` and `\n` written out are a tab and a line end, as docker has it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let source = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self { nodes: parse::parse(&source)?, source })
    }

    /// Applies it to a row of a listing.
    pub fn row(&self, row: &Row) -> Result<String, TemplateError> {
        let labels = |name: &str| row.labels.get(name).cloned().unwrap_or_default();
        eval::run(&self.nodes, &self.source, &Value::Object(row.fields.clone()), Some(&labels))
    }

    /// Applies it to the titles of the columns; a label's title is the last part of its name.
    pub fn header(&self, titles: &Map<String, Value>) -> Result<String, TemplateError> {
        let labels = |name: &str| name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
        eval::run(&self.nodes, &self.source, &Value::Object(titles.clone()), Some(&labels))
    }

    /// Applies it to any value, as `inspect` does.
    pub fn value(&self, value: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, &self.source, value, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn show(text: &str) -> Result<String, String> {
        let row = Row {
            fields: json!({"Names": "web", "ID": "abc", "N": 3, "List": ["a", "b"], "Empty": [], "On": true,
                "Config": {"Labels": {"a.b": "c"}, "User": ""}})
            .as_object()
            .unwrap()
            .clone(),
            labels: [("x".to_owned(), "y".to_owned())].into(),
        };
        Template::parse(text).and_then(|t| t.row(&row)).map_err(|e| e.to_string())
    }

    #[test]
    fn templates_give_what_go_gives() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.Names}}\\t{{.ID}}", "web\tabc"),
            ("{{json .Names}} {{json .List}} {{.List}} {{.N}} {{.On}}", r#""web" ["a","b"] [a b] 3 true"#),
            ("{{upper .Names}} {{.Names | title}} {{lower \"AB\"}}", "WEB Web ab"),
            ("{{join .List \", \"}}|{{join (split \"a:b\" \":\") \"-\"}}", "a, b|a-b"),
            ("{{truncate .Names 2}}[{{pad .ID 1 2}}]", "we[ abc  ]"),
            ("{{index .List 1}} {{index .Config.Labels \"a.b\"}} {{len .List}}", "b c 2"),
            ("{{range .List}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<a><b>none"),
            ("{{range $i, $e := .List}}{{$i}}={{$e}} {{$.ID}};{{end}}", "0=a abc;1=b abc;"),
            ("{{if .Empty}}x{{else if eq .N 3}}three{{else}}y{{end}}", "three"),
            ("{{if and .On (gt .N 2) (not .Empty)}}ok{{end}}", "ok"),
            ("{{.Label \"x\"}}{{.Label \"none\"}}", "y"),
            ("a {{- /* gone */ -}} b {{- .ID -}} c", "ababcc"),
            ("{{with .Config}}{{range $k, $v := .Labels}}{{$k}}:{{$v}}{{end}}{{end}}", "a.b:c"),
            ("{{printf \"%-5s|%d|%q\" .ID .N .Names}}{{println .ID}}", "abc  |3|\"web\"abc\n"),
            ("{{.Config.Labels}}{{.Config.Labels.none}}{{$x := .ID}}{{$x}}", "map[a.b:c]abc"),
            ("{{print `raw` 1}}{{or .Config.User \"root\"}}", "raw1root"),
        ] {
            assert_eq!(show(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn bad_templates_are_refused_in_dockers_words() {
        for (template, expected) in [
            ("{{", "failed to parse template: template: :1: unclosed action"),
            ("{{.Names", "failed to parse template: template: :1: unclosed action"),
            ("{{foo}}", "failed to parse template: template: :1: function \"foo\" not defined"),
            ("{{if .ID}}", "failed to parse template: template: :1: unexpected EOF"),
            ("{{end}}", "failed to parse template: template: :1: unexpected {{end}}"),
            ("a\n{{\"x}}", "failed to parse template: template: :2: unterminated quoted string"),
            (
                "{{.X}}",
                "failed to execute template: template: :1:2: executing \"\" at <.X>: can't evaluate field X",
            ),
            (
                "{{index .List 9}}",
                "failed to execute template: template: :1:2: executing \"\" at <index>: error calling index: \
                 index out of range: 9",
            ),
        ] {
            assert_eq!(show(template).as_ref().map_err(String::as_str), Err(expected), "{template}");
        }
        assert!(show("{{}}").is_err() && show("{{$y}}").is_err() && show("{{.ID.More}}").is_err());
        assert!(show(&"{{if .ID}}".repeat(5000)).is_err(), "deep nesting is refused, not overflowed");
        assert!(show(&format!("{{{{{}", "(".repeat(100_000))).is_err());
        assert!(show("{{printf \"%999999999s\" .ID}}").is_err() && show("{{pad .ID 999999999 1}}").is_err());
    }
}
