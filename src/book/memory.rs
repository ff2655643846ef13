//! The book's content in memory: what is read from, and what is written down again when a broken disk comes back.

use std::collections::BTreeSet;

use super::rows::{Rows, Write};

pub(super) type Memory = Rows;

/// Rows that were deleted, by table and key.
pub(super) type Gone = BTreeSet<(&'static str, String)>;

impl Memory {
    pub(super) fn apply(&mut self, write: &Write) {
        match write {
            Write::Put(row) => self.put((**row).clone()),
            Write::Delete(table, key) => self.delete(*table, key),
            // Pings are history for people to read: on disk only.
            Write::Ping(_) | Write::ForgetPings(_) => {}
        }
    }

    /// Takes over what only `other` has, but for what was deleted here.
    pub(super) fn fill_from(&mut self, other: &Self, gone: &Gone) {
        for row in other.all() {
            let (table, key) = (row.table(), row.key());
            if !self.has(table, &key) && !gone.contains(&(table.name(), key)) {
                self.put(row);
            }
        }
    }
}
