use super::*;

fn read(json: serde_json::Value) -> Result<Receiver, String> {
    let spec: ReceiverSpec = serde_json::from_value(json).map_err(|e| e.to_string())?;
    let mut mistakes = Mistakes::default();
    let receiver = spec.build(&Resolver::with_servers(Vec::new()), &mut mistakes);
    let texts: Vec<_> =
        mistakes.into_vec().into_iter().map(|m| format!("{}: {}", m.key, m.what)).collect();
    receiver.filter(|_| texts.is_empty()).ok_or_else(|| texts.join("\n"))
}

#[test]
fn every_kind_is_read() {
    let all = [
        serde_json::json!({"name": "r", "pagerduty": {"routing_key_file": "/k"}}),
        serde_json::json!({"name": "r", "opsgenie": {"api_key": "k", "api_url": "https://api.eu.opsgenie.com"}}),
        serde_json::json!({"name": "r", "alertmanager": {"urls": ["http://a:9093"], "labels": {"team": "x"}}}),
        serde_json::json!({"name": "r", "webhook": {"url_file": "/u", "format": "alertmanager"}}),
        serde_json::json!({"name": "r", "email": {"to": ["oncall@example"], "from": "Watchpost <watchpost@example>", "smarthost": "mail.example:587"}}),
        serde_json::json!({"name": "r", "slack": {"url": "https://x"}}),
        serde_json::json!({"name": "r", "teams": {"url": "https://x"}}),
    ];
    assert_eq!(all.len(), KINDS.len());
    for (json, row) in all.into_iter().zip(KINDS) {
        let receiver = read(json).unwrap();
        assert_eq!(receiver.kind().name, row.name);
        assert!(!format!("{receiver:?}").contains("\"k\""), "no secret is shown");
    }
}

#[test]
fn mistakes_are_named() {
    let wrong = [
        (serde_json::json!({"name": "r"}), "no way to anybody"),
        (
            serde_json::json!({"name": "r", "slack": {"url": "x"}, "teams": {"url": "y"}}),
            "several kinds: slack, teams",
        ),
        (serde_json::json!({"name": "r", "pagerduty": {}}), "routing_key is missing"),
        (
            serde_json::json!({"name": "r", "pagerduty": {"routing_key": "a", "routing_key_file": "b"}}),
            "both given",
        ),
        (serde_json::json!({"name": "r", "slack": {"url": "x", "chanel": "y"}}), "unknown field"),
        (serde_json::json!({"name": "r", "alertmanager": {"urls": []}}), "0 Alertmanagers"),
        (
            serde_json::json!({"name": "r", "email": {"to": ["nobody"], "from": "a@b", "smarthost": "m"}}),
            "not an e-mail address",
        ),
        (
            serde_json::json!({"name": "r", "email": {"to": ["a@b"], "from": "a@b", "smarthost": "m:x"}}),
            "not a mail relay",
        ),
        (
            serde_json::json!({"name": "r", "email": {"to": ["a@b"], "from": "a@b", "smarthost": "m", "username": "u"}}),
            "password is missing",
        ),
        (
            serde_json::json!({"name": "r", "test_interval": "1m", "slack": {"url": "x"}}),
            "shorter than 1h",
        ),
        (
            serde_json::json!({"name": "r", "fallback": "r", "slack": {"url": "x"}}),
            "stand in for itself",
        ),
    ];
    for (json, expected) in wrong {
        let text = read(json.clone()).err().unwrap_or_default();
        assert!(text.contains(expected), "{json}: {text:?}");
    }
}

#[test]
fn fallbacks_lead_somewhere() {
    let check = |rows: &[(&str, Option<&str>)]| {
        let rows: Vec<_> =
            rows.iter().map(|(n, f)| ((*n).to_owned(), f.map(str::to_owned))).collect();
        let mut mistakes = Mistakes::default();
        check_fallbacks(&rows, &mut mistakes);
        mistakes.into_vec().into_iter().map(|m| m.key).collect::<Vec<_>>()
    };
    assert!(check(&[("a", Some("b")), ("b", Some("c")), ("c", None)]).is_empty());
    assert_eq!(check(&[("a", Some("x"))]), ["0.fallback"]);
    assert_eq!(check(&[("a", Some("b")), ("b", Some("a"))]).len(), 2);
}
