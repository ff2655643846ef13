use jiff::Timestamp;

use super::*;
use crate::model::Secret;

const KEY: &str = "0123456789abcdef";

fn now() -> Stamp {
    Stamp::new(Timestamp::from_second(1_800_000_000).unwrap(), Duration::from_secs(1_000))
}

fn configured(key_file: &str, key: Option<&str>) -> Configured {
    let spec = serde_json::json!({ "name": "backup", "interval": "1h", "key_file": key_file });
    let key = key.map(|key| Key::new(&Secret::new(key.into())));
    Configured { spec: Arc::new(serde_json::from_value(spec).unwrap()), key }
}

fn board(it: Configured) -> Switchboard {
    Switchboard::new("here", "boot", vec![it], Kept::default(), now())
}

fn opens(board: &Switchboard, key: &str) -> bool {
    board.is_known(&Address::parse(&format!("{key}/backup")).unwrap()).is_ok()
}

#[test]
fn a_key_file_that_cannot_be_read_for_a_moment_closes_no_open_door() {
    let mut board = board(configured("/k", Some(KEY)));
    board.reload(vec![configured("/k", None)], now());
    assert!(opens(&board, KEY));
    // The key of another file is another one.
    board.reload(vec![configured("/other", None)], now());
    assert!(!opens(&board, KEY));
}

#[test]
fn a_key_that_can_be_read_later_opens_the_door() {
    let mut board = board(configured("/k", None));
    assert!(!opens(&board, KEY));
    let key = Key::new(&Secret::new(KEY.into()));
    assert!(board.set_key("backup", key.clone()));
    assert!(!board.set_key("backup", key), "it has it");
    assert!(opens(&board, KEY));
    assert!(board.set_key("backup", Key::new(&Secret::new("another-key-of-ours".into()))));
    assert!(!opens(&board, KEY));
}
