//! The book's content in memory: what is read from, and what is written down again when a broken disk comes back.

use super::rows::{Rows, Write};

pub(super) type Memory = Rows;

impl Memory {
    pub(super) fn apply(&mut self, write: &Write) {
        match write {
            Write::Put(row) => self.put((**row).clone()),
            Write::Delete(table, key) => self.delete(*table, key),
            // Pings are history for people to read: on disk only.
            Write::Ping(_) | Write::ForgetPings(_) => {}
        }
    }

    /// Takes over what only `other` has.
    pub(super) fn fill_from(&mut self, other: &Self) {
        for row in other.all() {
            if !self.has(row.table(), &row.key()) {
                self.put(row);
            }
        }
    }
}
