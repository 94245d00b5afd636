//! `umiak events`.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Execute;
use super::args::moment;
use super::fault::Fault;
use super::filter::Filters;
use super::output::template::{Row, Template};
use super::output::{Printer, human};
use crate::engine::{Engine, EventFilter};
use crate::model::{Event, EventType};

/// Get real time events from the engine
#[derive(Debug, Args)]
#[command(help_template = super::HELP, override_usage = "umiak events [OPTIONS]", args_override_self = true)]
pub(super) struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show all events created since timestamp
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    since: String,
    /// Stream events until this timestamp
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    until: String,
}

/// How an event is shown.
enum Shape {
    Line,
    Json,
    Template(Box<Template>),
}

impl Events {
    fn shape(&self) -> Result<Shape, Fault> {
        Ok(match self.format.trim() {
            "" => Shape::Line,
            // What scripts write for it.
            "json" | "{{json .}}" => Shape::Json,
            text => {
                let template = Template::parse(text)?;
                // A field that no event has is found before there is an event.
                template.row(&row(&Event::new(EventType::Container, "", "")))?;
                Shape::Template(Box::new(template))
            }
        })
    }

    fn filters(&self) -> Result<EventFilter, Fault> {
        Ok(EventFilter::new(Filters::parse(&self.filter, EventFilter::KEYS)?.all()))
    }

    fn bound(text: &str) -> Result<Option<crate::model::Timestamp>, Fault> {
        if text.is_empty() { Ok(None) } else { moment::moment(text).map(Some).map_err(Fault::value) }
    }
}

impl Execute for Events {
    fn check(&self) -> Result<(), Fault> {
        self.shape()?;
        self.filters()?;
        Self::bound(&self.since)?;
        Self::bound(&self.until).map(drop)
    }

    fn run(&self, engine: &Engine, printer: &Printer) -> Result<u8, Fault> {
        let (since, until) = (Self::bound(&self.since)?, Self::bound(&self.until)?);
        let shape = self.shape()?;
        let mut stream = engine.events(since, until, self.filters()?)?;
        while let Some(event) = stream.next_event()? {
            printer.line(match &shape {
                Shape::Line => line(&event),
                Shape::Json => Value::Object(document(&event)).to_string(),
                Shape::Template(template) => template.row(&row(&event))?,
            })?;
        }
        Ok(0)
    }
}

/// `TIME TYPE ACTION ID (key=value, …)`.
fn line(event: &Event) -> String {
    let mut text =
        format!("{} {} {} {}", moment::text(event.time), event.kind.text(), event.action, event.id);
    if !event.attributes.is_empty() {
        let pairs: Vec<_> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text = format!("{text} ({})", pairs.join(", "));
    }
    // A command line may hold line ends, and a label may hold anything.
    human::inert(&text)
}

/// Docker's document of an event: the first fields are those of its oldest clients.
fn document(event: &Event) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    if matches!(event.kind, EventType::Container | EventType::Image) {
        put("status", json!(event.action));
        if !event.id.is_empty() {
            put("id", json!(event.id));
        }
    }
    if event.kind == EventType::Container
        && let Some(image) = event.attributes.get("image")
    {
        put("from", json!(image));
    }
    put("Type", json!(event.kind.text()));
    put("Action", json!(event.action));
    put("Actor", json!({"ID": event.id, "Attributes": event.attributes}));
    put("scope", json!("local"));
    put("time", json!(event.time.as_second()));
    put("timeNano", json!(i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX)));
    fields
}

/// The same by the names that templates use.
fn row(event: &Event) -> Row {
    let mut fields = document(event);
    for (json, name) in [
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ] {
        let value = fields.remove(json).unwrap_or_else(|| json!(""));
        fields.insert(name.to_owned(), value);
    }
    Row { fields, labels: std::collections::BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_shown_as_docker_shows_them() {
        let at = "2026-11-26T16:28:18.294543467Z".parse().unwrap();
        let die = Event::new(EventType::Container, "die", "bf3e")
            .with("image", "bb")
            .with("exitCode", "0")
            .with("x", "a\nb")
            .at(at);
        assert!(line(&die).ends_with(" container die bf3e (exitCode=0, image=bb, x=a\u{fffd}b)"));
        assert_eq!(
            Value::Object(document(&die.clone().with("x", "y"))),
            json!({"status": "die", "id": "bf3e", "from": "bb", "Type": "container", "Action": "die",
                "Actor": {"ID": "bf3e", "Attributes": {"image": "bb", "exitCode": "0", "x": "y"}},
                "scope": "local", "time": 1_795_710_498, "timeNano": 1_795_710_498_294_543_467_i64})
        );
        let prune = Event::prune(EventType::Network, 0).at(at);
        assert!(line(&prune).ends_with(" network prune  (reclaimed=0)"));
        assert_eq!(document(&prune).keys().next().unwrap(), "Action");
        let template =
            Template::parse("{{.Action}} {{.ID}} {{.From}} {{.Actor.Attributes.image}} {{.Time}}").unwrap();
        assert_eq!(template.row(&row(&die)).unwrap(), "die bf3e bb bb 1795710498");
    }
}
