//! Events, in the order in which their transactions were committed.
//!
//! [`add`] is for the transaction that makes the change: then an event is there exactly if the change is. The newest
//! [`KEPT`] are kept; a number is never given twice, since the newest row always stays. Readers follow by number
//! ([`Database::events_after`]) and hold nobody up: one that lags behind by more than is kept misses what is gone.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Database, Durable, Failure, StateError, decode, encode};
use crate::model::{Event, EventType, Timestamp};

const WHAT: &str = "an event";

/// Adds one.
pub(super) const ADD: &str = "INSERT INTO events (time, record) VALUES (?1, ?2)";

pub(super) const NAME: &str = "SELECT name FROM containers WHERE id = ?1";

/// How many events are kept, at least.
const KEPT: i64 = 8192;

/// The old ones are removed once in so many.
const ROUND: i64 = 256;

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Records an event. A container's name is the one that it has now: its supervisor does not hear of a new one.
pub(super) fn add(t: &Transaction<'_>, event: &Event) -> Result<(), Failure> {
    let mut event = event.clone();
    if event.kind == EventType::Container {
        let name: Option<String> =
            t.prepare_cached(NAME)?.query_row([event.id.as_str()], |row| row.get(0)).optional()?;
        if let Some(name) = name {
            event.attributes.insert("name".to_owned(), name);
        }
    }
    t.prepare_cached(ADD)?.execute(params![nanoseconds(event.time), encode(WHAT, &event)?])?;
    let seq = t.last_insert_rowid();
    if seq % ROUND == 0 {
        t.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([seq - KEPT])?;
    }
    Ok(())
}

/// Records several.
pub(super) fn add_all(t: &Transaction<'_>, events: &[Event]) -> Result<(), Failure> {
    events.iter().try_for_each(|event| add(t, event))
}

impl Database {
    /// Records what happened without a change of any record.
    pub fn note(&self, events: &[Event]) -> Result<(), StateError> {
        self.write("record an event", Durable::Process, |t| add_all(t, events))
    }

    /// The number of the newest event.
    pub fn last_event(&self) -> Result<i64, StateError> {
        self.read("look for events", |c| {
            Ok(c.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))?)
        })
    }

    /// Events with larger numbers than `seq`, and not older than `since`: the first so many of them.
    pub fn events_after(
        &self,
        seq: i64,
        since: Option<Timestamp>,
        most: u32,
    ) -> Result<Vec<(i64, Event)>, StateError> {
        self.read("read events", |c| {
            let mut statement = c.prepare_cached(
                "SELECT seq, record FROM events WHERE seq > ?1 AND time >= ?2 ORDER BY seq LIMIT ?3",
            )?;
            let least = since.map_or(i64::MIN, nanoseconds);
            let rows = statement.query_map(params![seq, least, most], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            rows.map(|row| {
                let (seq, record) = row?;
                Ok((seq, decode(WHAT, &record)?))
            })
            .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbers_never_come_back() {
        let root = tempfile::tempdir().unwrap();
        let db = Database::open(root.path()).unwrap();
        let events: Vec<_> =
            (0..600).map(|n| Event::new(EventType::Volume, "create", format!("v{n}"))).collect();
        for _ in 0..15 {
            db.note(&events).unwrap();
        }
        assert_eq!(db.last_event().unwrap(), 9000);
        let all = db.events_after(0, None, u32::MAX).unwrap();
        assert!((KEPT..KEPT + ROUND).contains(&i64::try_from(all.len()).unwrap()), "{}", all.len());
        assert_eq!(all.last().unwrap().1.id, "v599");
        assert!(all.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
    }

    #[test]
    fn a_transaction_that_fails_leaves_no_event() {
        let root = tempfile::tempdir().unwrap();
        let db = Database::open(root.path()).unwrap();
        let failed = db.remove_volume("none", || Ok(()));
        assert!(matches!(failed, Err(StateError::NoVolume { .. })));
        assert_eq!(db.last_event().unwrap(), 0);
        let then = Timestamp::from_second(5).unwrap();
        db.note(&[Event::volume("a", "create").at(then), Event::volume("b", "create")]).unwrap();
        assert_eq!(db.events_after(0, None, 1).unwrap()[0].1.id, "a");
        assert_eq!(db.events_after(0, Some(Timestamp::from_second(6).unwrap()), 9).unwrap()[0].1.id, "b");
        assert!(db.events_after(2, None, 9).unwrap().is_empty());
    }
}
