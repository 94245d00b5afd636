//! Events as they are read: from some moment on, in the order of the changes, and on for as long as somebody listens.
//!
//! A reader sleeps until the database's journal is written to, and reads then.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{Event, EventType, Timestamp, chain};
use crate::watch::Watch;

use super::{Engine, EngineError};

/// How many events are read at once.
const BATCH: u32 = 256;

/// Nobody sleeps longer than this without a look.
const LONGEST: Duration = Duration::from_secs(10);

/// Which events are wanted: all that pass every key, where several values of a key are alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter(Vec<(String, String)>);

/// What events can be chosen by.
const KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

impl EventFilter {
    /// What events can be chosen by.
    pub const KEYS: &'static [&'static str] = KEYS;

    /// A filter of keys, all of them in [`Self::KEYS`], and values.
    pub fn new(wanted: Vec<(String, String)>) -> Self {
        Self(wanted)
    }

    fn passes(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let mut values = self.0.iter().filter(|(known, _)| known == key).map(|(_, value)| value).peekable();
        values.peek().is_none() || values.any(|value| test(value))
    }

    /// Whether an event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        let text = event.kind.text();
        let name = event.attributes.get("name").map_or("", String::as_str);
        let whose = |kind: EventType| {
            // Docker takes the beginning of an id or a name for it.
            move |value: &str| event.kind == kind && (event.id.starts_with(value) || name.starts_with(value))
        };
        let labels = |wish: &str| match wish.split_once('=') {
            Some((key, value)) => event.attributes.get(key).is_some_and(|found| found == value),
            None => event.attributes.contains_key(wish),
        };
        let labelled = self.0.iter().filter(|(key, _)| key == "label").all(|(_, wish)| labels(wish));
        // Docker's objects that do not exist here have no events.
        let nothing = ["config", "daemon", "node", "plugin", "secret", "service"];
        labelled
            && nothing.into_iter().all(|key| self.passes(key, |_| false))
            && self.passes("type", |value| value == text)
            && self.passes("scope", |value| value == "local")
            && self.passes("event", |value| {
                event.action == value
                    || event.action.split_once(':').is_some_and(|(action, _)| action == value)
            })
            && self.passes("container", whose(EventType::Container))
            && self.passes("volume", whose(EventType::Volume))
            && self.passes("network", whose(EventType::Network))
            && self.passes("image", |value| of_image(event, value))
    }
}

/// Whether an event is an image's, or a container's of it.
fn of_image(event: &Event, value: &str) -> bool {
    let named = match event.kind {
        EventType::Image => "name",
        EventType::Container => "image",
        EventType::Volume | EventType::Network | EventType::Builder => return false,
    };
    let same = |name: &str| {
        let tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
        name == value || tag.is_some_and(|at| &name[..at] == value)
    };
    same(&event.id) || event.attributes.get(named).is_some_and(|name| same(name))
}

/// Events, read one after another.
#[derive(Debug)]
pub struct EventStream<'a> {
    engine: &'a Engine,
    filter: EventFilter,
    watch: Watch,
    /// The number of the last event that was read.
    seq: i64,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    read: VecDeque<Event>,
}

impl EventStream<'_> {
    /// The next event; waits for it. `None` when the time of the end has come.
    pub fn next_event(&mut self) -> Result<Option<Event>, EngineError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(Some(event));
            }
            // Taken before the look: what was recorded until then is seen by it.
            let now = Timestamp::now();
            if self.look()? {
                continue;
            }
            let left = match self.until {
                Some(until) if until <= now => return Ok(None),
                Some(until) => Duration::try_from(until.duration_since(now)).unwrap_or(LONGEST),
                None => LONGEST,
            };
            self.watch.wait(left);
        }
    }

    /// Reads what is there; whether there was anything.
    fn look(&mut self) -> Result<bool, EngineError> {
        let found = self.engine.database.events_after(self.seq, self.since, BATCH)?;
        let any = !found.is_empty();
        for (seq, event) in found {
            self.seq = seq;
            if self.until.is_none_or(|until| event.time <= until) && self.filter.matches(&event) {
                self.read.push_back(event);
            }
        }
        Ok(any)
    }
}

impl Engine {
    /// Events from `since` (or from now) until `until` (or for ever).
    pub fn events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filter: EventFilter,
    ) -> Result<EventStream<'_>, EngineError> {
        // Before the first look, so that nothing falls between the two.
        let watch = Watch::directory(&self.root);
        let seq = match (since, until) {
            // As docker has it: an end in the past without a beginning shows all that is known.
            (Some(_), _) | (None, Some(_)) => 0,
            (None, None) => self.database.last_event()?,
        };
        let read = VecDeque::new();
        Ok(EventStream { engine: self, filter, watch, seq, since, until, read })
    }

    /// Records what happened without a change of any record. That it cannot be told is no reason to call what happened a
    /// failure.
    pub fn note(&self, event: Event) {
        if let Err(error) = self.database.note(&[event]) {
            tracing::warn!(error = chain(&error), "recording an event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        attributes.iter().fold(Event::new(kind, action, id), |event, (key, value)| event.with(key, *value))
    }

    #[test]
    fn filters_are_dockers() {
        use EventType::{Container, Image, Network, Volume};
        let die = event(Container, "die", "abc", &[("image", "bb:1"), ("name", "web"), ("x", "y")]);
        let exec = event(Container, "exec_start: sh -c x", "abc", &[("image", "h:5/bb"), ("name", "web")]);
        let pull = event(Image, "pull", "bb:latest", &[("name", "bb")]);
        let volume = event(Volume, "create", "data", &[("driver", "local")]);
        let network = event(Network, "connect", "n1", &[("name", "front"), ("container", "abc")]);
        for (filter, event, expected) in [
            (&["type=container"][..], &die, true),
            (&["type=image"], &die, false),
            (&["type=bogus"], &die, false),
            (&["type=image", "type=container"], &die, true),
            (&["event=die"], &die, true),
            (&["event=exec_start"], &exec, true),
            (&["event=exec_start: sh -c x"], &exec, true),
            (&["event=exec"], &exec, false),
            (&["container=web"], &die, true),
            (&["container=we"], &die, true),
            (&["container=ab"], &die, true),
            (&["container=b"], &die, false),
            (&["container=abc"], &network, false),
            (&["network=front"], &network, true),
            (&["volume=da"], &volume, true),
            (&["image=bb"], &die, true),
            (&["image=bb:1"], &die, true),
            (&["image=bb:2"], &die, false),
            (&["image=h:5/bb"], &exec, true),
            (&["image=h"], &exec, false),
            (&["image=bb"], &pull, true),
            (&["image=data"], &volume, false),
            (&["label=x"], &die, true),
            (&["label=x=y"], &die, true),
            (&["label=x", "label=z"], &die, false),
            (&["scope=local", "event=die"], &die, true),
            (&["scope=swarm"], &die, false),
            (&["daemon=any"], &die, false),
            (&["type=container", "event=start"], &die, false),
        ] {
            let split =
                |text: &&str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
            let filter = EventFilter::new(filter.iter().map(split).collect());
            assert_eq!(filter.matches(event), expected, "{filter:?} {event:?}");
        }
    }
}
