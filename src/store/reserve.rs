//! Room set aside: removing something writes to the database first, which a full disk would refuse, and nothing could be
//! removed any more.
//!
//! A file of zeros is there for that. What frees room gives it up when there is hardly any other; what fetches sets it aside
//! again. Without it, on a disk too small for it, everything works but that.

use std::fs;

use super::{Store, durable};

const SIZE: usize = 1 << 20;

impl Store {
    fn reserve_path(&self) -> std::path::PathBuf {
        self.root.join("reserve")
    }

    /// Sets room aside if that is not done yet and there is enough of it.
    pub fn keep_reserve(&self) {
        let path = self.reserve_path();
        let plenty = durable::room(&self.root).is_some_and(|room| room > 32 * SIZE as u64);
        if plenty && !path.exists() && fs::write(&path, vec![0; SIZE]).is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    /// Gives the room up if there is hardly any other.
    pub fn use_reserve(&self) {
        if durable::room(&self.root).is_some_and(|room| room < SIZE as u64) {
            // Not there, or not to be removed: then there is nothing to give up.
            let _ = fs::remove_file(self.reserve_path());
        }
    }
}
