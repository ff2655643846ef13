//! The file: SQLite in WAL mode under an exclusive lock, with a versioned schema. What is beyond repair is put aside.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use rustix::fs::{FlockOperation, flock};

use super::memory::Memory;
use super::rows::{Ping, Row, Table, Write};
use super::{BookError, Found, MAX_PINGS};
use crate::clock;

const FILE_NAME: &str = "book.db";
const LOCK_NAME: &str = "book.lock";
/// Files that SQLite keeps beside its own.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// How large the write-ahead log may stay, in bytes.
const MAX_WAL_BYTES: u32 = 16 << 20;

/// One step for each version of the schema; step `n` leads from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE beats     (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE episodes  (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE outbox    (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE pauses    (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE statuses  (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE receivers (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE routes    (key TEXT PRIMARY KEY, data TEXT NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE pings     (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, data TEXT NOT NULL);
    CREATE INDEX pings_by_name ON pings (name, id);
"];

#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
const VERSION: i64 = MIGRATIONS.len() as i64;

/// Held for as long as the book is ours.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it releases the lock")] fs::File);

pub(super) struct File {
    connection: Connection,
    lock: Lock,
}

/// What opening came to.
pub(super) struct Opened {
    /// None when the disk cannot be written.
    pub(super) file: Option<File>,
    /// Without a file the book is ours all the same, where it could be locked.
    pub(super) lock: Option<Lock>,
    pub(super) memory: Memory,
    pub(super) found: Found,
}

impl Opened {
    pub(super) fn why(&self) -> String {
        match &self.found {
            Found::Unwritable { why } => why.clone(),
            _ => "it is not open".to_owned(),
        }
    }

    fn unwritable(lock: Option<Lock>, memory: Memory, why: &dyn std::fmt::Display) -> Self {
        Self { file: None, lock, memory, found: Found::Unwritable { why: why.to_string() } }
    }

    fn writable(file: File, memory: Memory, found: Found) -> Self {
        Self { file: Some(file), lock: None, memory, found }
    }
}

pub(super) fn open(dir: &Path) -> Result<Opened, BookError> {
    reopen(dir, None)
}

/// Opens the book under a lock that is held already, or under a new one.
pub(super) fn reopen(dir: &Path, lock: Option<Lock>) -> Result<Opened, BookError> {
    let lock = match lock.map_or_else(|| take_lock(dir), Ok) {
        Ok(lock) => lock,
        Err(LockError::Held(pid)) => {
            return Err(BookError::Locked { dir: dir.display().to_string(), pid });
        }
        // Nobody can write there, so nobody else owns it: read what there is.
        Err(LockError::Io(error)) => return Ok(Opened::unwritable(None, read_only(dir), &error)),
    };
    open_locked(dir, lock)
}

enum LockError {
    Held(Option<u32>),
    Io(std::io::Error),
}

/// Makes the folder and those above it, each on disk in the one that it is in: a book is worth nothing that loses its folder
/// with the power. Which have a new folder in them.
fn make_folder(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|above| !above.as_os_str().is_empty());
    let missing: Vec<&Path> = missing.take_while(|above| !above.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let above = missing.into_iter().rev().filter_map(Path::parent).map(|parent| {
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
    });
    let above: Vec<PathBuf> = above.collect();
    for parent in &above {
        if let Err(error) = fs::File::open(parent).and_then(|folder| folder.sync_all()) {
            let folder = parent.display();
            tracing::warn!(%folder, %error, "that a folder was made may be lost with the power");
        }
    }
    Ok(above)
}

fn take_lock(dir: &Path) -> Result<Lock, LockError> {
    make_folder(dir).map_err(LockError::Io)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(LOCK_NAME))
        .map_err(LockError::Io)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(LockError::Io(error.into()));
        }
        let mut text = String::new();
        let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
        return Err(LockError::Held(pid));
    }
    // The process id is for whoever finds the lock held; a full disk must not keep us from holding it.
    let noted = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::warn!(%error, "cannot note the process id in the book's lock");
    }
    Ok(Lock(file))
}

/// Why a file was not opened.
enum Trouble {
    /// Its content is damaged.
    Corrupt(String),
    /// Its content may be fine; the disk is not.
    Disk(String),
    Future(i64),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Disk(error.to_string()),
        }
    }
}

fn open_locked(dir: &Path, lock: Lock) -> Result<Opened, BookError> {
    let path = dir.join(FILE_NAME);
    let existed = path.exists();
    match open_file(&path, existed) {
        Ok((connection, memory, unreadable_rows)) => {
            let found = if existed { Found::Existing { unreadable_rows } } else { Found::Nothing };
            let mut file = File { connection, lock };
            if unreadable_rows > 0 {
                leave_behind(&path, &mut file, &memory);
            }
            Ok(Opened::writable(file, memory, found))
        }
        Err(Trouble::Future(found)) => {
            let dir = dir.display().to_string();
            Err(BookError::Future { dir, found, known: VERSION })
        }
        Err(Trouble::Disk(why)) => Ok(Opened::unwritable(Some(lock), read_only(dir), &why)),
        Err(Trouble::Corrupt(why)) => Ok(start_anew(dir, lock, why)),
    }
}

/// Puts a damaged file aside and begins a new one.
fn start_anew(dir: &Path, lock: Lock, why: String) -> Opened {
    let path = dir.join(FILE_NAME);
    let kept_as = match put_aside(dir) {
        Ok(kept_as) => kept_as,
        Err(error) => return Opened::unwritable(Some(lock), Memory::default(), &error),
    };
    tracing::error!(why, kept_as = %kept_as.display(), "the book was damaged; starting a new one");
    match open_file(&path, false) {
        Ok((connection, memory, _)) => {
            let found = Found::Corrupt { kept_as, why };
            Opened::writable(File { connection, lock }, memory, found)
        }
        Err(Trouble::Corrupt(why) | Trouble::Disk(why)) => {
            Opened::unwritable(Some(lock), Memory::default(), &why)
        }
        Err(Trouble::Future(version)) => {
            let why = format_args!("a new book has version {version}");
            Opened::unwritable(Some(lock), Memory::default(), &why)
        }
    }
}

/// A name beside `path` that nothing has.
fn free_name(path: &Path, why: &str) -> std::io::Result<PathBuf> {
    let stamp = clock::now().wall.as_second();
    let path = path.display();
    let mut serial = 0;
    loop {
        let name = match serial {
            0 => PathBuf::from(format!("{path}.{why}-{stamp}")),
            n => PathBuf::from(format!("{path}.{why}-{stamp}-{n}")),
        };
        if !name.try_exists()? {
            return Ok(name);
        }
        serial += 1;
    }
}

fn put_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let kept_as = free_name(&dir.join(FILE_NAME), "corrupt")?;
    for suffix in SUFFIXES {
        let from = dir.join(format!("{FILE_NAME}{suffix}"));
        let to = PathBuf::from(format!("{}{suffix}", kept_as.display()));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(kept_as)
}

/// Keeps a copy of a book with rows that cannot be read, and goes on without them: they are lost once, not at each start.
fn leave_behind(path: &Path, file: &mut File, memory: &Memory) {
    let copied = free_name(path, "damaged").and_then(|copy| {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
        let name = copy.display().to_string();
        let copied = file.connection.execute("VACUUM INTO ?1", [&name]);
        copied.map(|_| name).map_err(std::io::Error::other)
    });
    match copied {
        Ok(kept_as) => tracing::error!(kept_as, "the book with its damaged rows was copied"),
        Err(error) => return tracing::error!(%error, "the damaged rows stay in the book"),
    }
    if let Err(error) = file.replace(memory, &[]) {
        tracing::error!(%error, "the damaged rows stay in the book");
    }
}

fn open_file(path: &Path, existed: bool) -> Result<(Connection, Memory, usize), Trouble> {
    prepare(path, existed)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // Exclusive before WAL: then no shared memory is used, and no second process can write.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", MAX_WAL_BYTES)?;
    if existed {
        quick_check(&connection)?;
    }
    migrate(&mut connection)?;
    let (memory, unreadable) = load(&connection)?;
    Ok((connection, memory, unreadable))
}

/// Creates the file with a narrow mode before SQLite would with a wide one. An empty file is a damaged one: ours are never.
fn prepare(path: &Path, existed: bool) -> Result<(), Trouble> {
    let disk = |error: std::io::Error| Trouble::Disk(error.to_string());
    if !existed {
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        return new.map(drop).map_err(disk);
    }
    let metadata = fs::metadata(path).map_err(disk)?;
    if metadata.len() == 0 {
        return Err(Trouble::Corrupt("the file is empty".into()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(disk)?;
    }
    Ok(())
}

fn quick_check(connection: &Connection) -> Result<(), Trouble> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Trouble::Corrupt(verdict)) }
}

fn migrate(connection: &mut Connection) -> Result<(), Trouble> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let Ok(done) = usize::try_from(found) else {
        return Err(Trouble::Corrupt(format!("version {found}")));
    };
    if found > VERSION {
        return Err(Trouble::Future(found));
    }
    let transaction = connection.transaction()?;
    for step in &MIGRATIONS[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// Reads every row. One that does not match its checksum or is not understood is counted and left out.
fn load(connection: &Connection) -> Result<(Memory, usize), Trouble> {
    let mut memory = Memory::default();
    let mut unreadable = 0;
    for table in Table::ALL {
        let mut query =
            connection.prepare(&format!("SELECT key, data, sum FROM {}", table.name()))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            match read_row(*table, row) {
                Some(row) => memory.put(row),
                None => unreadable += 1,
            }
        }
    }
    if unreadable > 0 {
        tracing::error!(unreadable, "rows of the book are damaged and were dropped");
    }
    Ok((memory, unreadable))
}

fn read_row(table: Table, row: &rusqlite::Row<'_>) -> Option<Row> {
    let key: String = row.get(0).ok()?;
    let data: String = row.get(1).ok()?;
    let sum: i64 = row.get(2).ok()?;
    if sum != checksum(&key, &data) {
        return None;
    }
    Row::from_json(table, &data).ok().filter(|row| row.key() == key)
}

/// Reads what there is without writing anything: for a disk that cannot be written.
fn read_only(dir: &Path) -> Memory {
    let path = dir.join(FILE_NAME);
    let plain = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = |name: String, flags| {
        let connection = Connection::open_with_flags(name, flags)?;
        load(&connection).map_err(|_| rusqlite::Error::InvalidQuery)
    };
    let as_is = format!("file:{}?immutable=1", path.display());
    read(path.display().to_string(), plain)
        .or_else(|_| read(as_is, plain | OpenFlags::SQLITE_OPEN_URI))
        .map(|(memory, _)| memory)
        .unwrap_or_default()
}

/// FNV-1a over key and data: SQLite does not notice a flipped bit inside a row.
fn checksum(key: &str, data: &str) -> i64 {
    let bytes = key.bytes().chain([0]).chain(data.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}

impl File {
    /// Closes the file and keeps the lock.
    pub(super) fn close(self) -> Lock {
        if let Err((_, error)) = self.connection.close() {
            tracing::debug!(%error, "closing the book");
        }
        self.lock
    }

    /// How large it may become, in pages. It never shrinks by that.
    pub(super) fn set_pages(&self, pages: u32) {
        if let Err(error) = self.connection.pragma_update(None, "max_page_count", pages) {
            tracing::debug!(%error, "bounding the book");
        }
    }

    /// Writes all or nothing.
    pub(super) fn commit(&mut self, writes: &[&Write]) -> Result<(), BookError> {
        self.in_transaction(|transaction| writes.iter().try_for_each(|w| apply(transaction, w)))
    }

    /// Writes what is there already, which takes the disk as any other commit does.
    pub(super) fn prove(&mut self) -> Result<(), BookError> {
        self.in_transaction(|transaction| transaction.pragma_update(None, "user_version", VERSION))
    }

    /// Makes the file hold exactly what `memory` does. Pings stay; of `covered`, which memory has already, those are added
    /// that memory never has.
    pub(super) fn replace(&mut self, memory: &Memory, covered: &[&Write]) -> Result<(), BookError> {
        self.in_transaction(|transaction| {
            for table in Table::ALL {
                transaction.execute(&format!("DELETE FROM {}", table.name()), [])?;
            }
            memory.all().try_for_each(|row| put(transaction, &row))?;
            let history = covered.iter().filter(|write| write.is_history());
            history.copied().try_for_each(|write| apply(transaction, write))
        })
    }

    pub(super) fn pings(&self, name: &str) -> Result<Vec<Ping>, BookError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT data FROM pings WHERE name = ?1 ORDER BY id DESC";
            let mut query = self.connection.prepare_cached(sql)?;
            query.query_map([name], |row| row.get(0))?.collect()
        };
        let texts = read().map_err(|error| BookError::Disk(error.to_string()))?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    fn in_transaction(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), BookError> {
        let run = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            work(&transaction)?;
            transaction.commit()
        };
        run(&mut self.connection).map_err(|error| BookError::Disk(error.to_string()))
    }
}

fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Put(row) => put(connection, row),
        Write::Delete(table, key) => {
            let sql = format!("DELETE FROM {} WHERE key = ?1", table.name());
            connection.prepare_cached(&sql)?.execute([key]).map(drop)
        }
        Write::Ping(ping) => keep_ping(connection, ping),
        Write::ForgetPings(name) => connection
            .prepare_cached("DELETE FROM pings WHERE name = ?1")?
            .execute([name])
            .map(drop),
    }
}

fn put(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    let key = row.key();
    let data = json(row.to_json())?;
    let table = row.table().name();
    let sql = format!("INSERT OR REPLACE INTO {table} (key, data, sum) VALUES (?1, ?2, ?3)");
    let sum = checksum(&key, &data);
    connection.prepare_cached(&sql)?.execute(params![key, data, sum]).map(drop)
}

fn keep_ping(connection: &Connection, ping: &Ping) -> rusqlite::Result<()> {
    let data = json(serde_json::to_string(ping))?;
    connection
        .prepare_cached("INSERT INTO pings (name, data) VALUES (?1, ?2)")?
        .execute(params![ping.name, data])?;
    let sql = "SELECT id FROM pings WHERE name = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2";
    let too_old: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row(params![ping.name, MAX_PINGS], |row| row.get(0))
        .optional()?;
    if let Some(id) = too_old {
        connection
            .prepare_cached("DELETE FROM pings WHERE name = ?1 AND id <= ?2")?
            .execute(params![ping.name, id])?;
    }
    Ok(())
}

fn json(result: serde_json::Result<String>) -> rusqlite::Result<String> {
    result.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_new_folder_in_it_is_put_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        assert_eq!(make_folder(&at("a/b/c")).unwrap(), [at(""), at("a"), at("a/b")]);
        assert_eq!(make_folder(&at("a/b/c")).unwrap(), [""; 0].map(PathBuf::from));
        assert_eq!(make_folder(&at("a/b/d/")).unwrap(), [at("a/b")]);
        fs::write(at("file"), "").unwrap();
        assert!(make_folder(&at("file/x")).is_err());
    }
}
