//! CEL expressions over a JSON body: read at load, evaluated where they hold up nobody.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr};
use cel::objects::{Key, Map};
use cel::{Context, Env, IdedExpr, Program, Value};
use serde::{Deserialize, Deserializer, de};
use tokio::sync::Semaphore;

use crate::model::{Answer, Fault, Unknown, mistake};
use crate::net::Deadline;

/// How many bodies are evaluated at once. An evaluation cannot be interrupted: one that never ends keeps its permit, so
/// that it takes no more than these threads from the rest of the process.
const AT_ONCE: usize = 8;
/// The longest expression.
const MAX_EXPRESSION_BYTES: usize = 16 * 1024;

static EVALUATIONS: Semaphore = Semaphore::const_new(AT_ONCE);
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What the standard library offers by name, beside operators. Extensions do not exist upstream.
const FUNCTIONS: [&str; 32] = [
    "size",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "type",
    "dyn",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "in",
];
/// Names of types, which are values too.
const TYPES: [&str; 13] = [
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "list",
    "map",
    "null_type",
    "type",
    "dyn",
    "google",
    "optional_type",
];

/// An expression over the variable `body`.
#[derive(Debug, Clone)]
pub struct CelRule {
    text: Arc<str>,
    program: Arc<Program>,
}

impl CelRule {
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = "the body's JSON is the variable body: body.status == 'ok'";
        if text.trim().is_empty() {
            return Err(mistake("the CEL expression is empty", hint));
        }
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(mistake("the CEL expression is too long", hint));
        }
        let program = Program::compile(text).map_err(|wrong| {
            let reason = wrong.to_string();
            let line = reason.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
            mistake(format_args!("{text:?} is not a CEL expression: {}", line.trim()), hint)
        })?;
        if let Some(name) = unknown_function(&program) {
            return Err(mistake(
                format_args!("{text:?} calls {name}, which CEL's standard library does not have"),
                "only the standard functions and macros exist",
            ));
        }
        if let Some(name) = unknown_variable(program.expression(), &mut Vec::new()) {
            return Err(mistake(format_args!("{text:?} uses {name}, which is no variable"), hint));
        }
        Ok(Self { text: text.into(), program: Arc::new(program) })
    }

    /// Whether the expression holds; what keeps it from being a yes or a no is a fault.
    fn holds(&self, context: &Context<'_, '_>) -> Result<bool, Fault> {
        let detail = match self.program.execute(context) {
            Ok(Value::Bool(holds)) => return Ok(holds),
            Ok(_) => "is neither true nor false".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(self.mismatch(&detail))
    }

    fn mismatch(&self, detail: &str) -> Fault {
        /// Values of the body are quoted in the library's texts.
        const MAX_DETAIL_CHARS: usize = 200;
        let detail: String = detail.chars().take(MAX_DETAIL_CHARS).collect();
        Fault::JsonMismatch { expression: (*self.text).into(), detail: detail.into() }
    }
}

impl<'de> Deserialize<'de> for CelRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn unknown_function(program: &Program) -> Option<String> {
    let references = program.references();
    let mut unknown: Vec<&str> = references
        .functions()
        .into_iter()
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter(|name| !FUNCTIONS.contains(name))
        .collect();
    unknown.sort_unstable();
    unknown.first().map(|name| (*name).to_owned())
}

/// The first name that is neither `body`, nor a type, nor bound by a macro around it.
fn unknown_variable<'e>(expression: &'e IdedExpr, bound: &mut Vec<&'e str>) -> Option<String> {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => None,
        Expr::Ident(name) => {
            let known = name == "body"
                || name.starts_with('@')
                || bound.contains(&name.as_str())
                || TYPES.contains(&name.as_str());
            (!known).then(|| name.clone())
        }
        Expr::Select(select) => unknown_variable(&select.operand, bound),
        Expr::List(list) => list.elements.iter().find_map(|e| unknown_variable(e, bound)),
        Expr::Call(call) => {
            let target = call.target.iter().find_map(|t| unknown_variable(t, bound));
            target.or_else(|| call.args.iter().find_map(|a| unknown_variable(a, bound)))
        }
        Expr::Map(map) => map.entries.iter().find_map(|e| unknown_in_entry(&e.expr, bound)),
        Expr::Struct(made) => made.entries.iter().find_map(|e| unknown_in_entry(&e.expr, bound)),
        Expr::Comprehension(loops) => {
            let outside = unknown_variable(&loops.iter_range, bound)
                .or_else(|| unknown_variable(&loops.accu_init, bound));
            if outside.is_some() {
                return outside;
            }
            let depth = bound.len();
            bound.push(&loops.iter_var);
            bound.push(&loops.accu_var);
            bound.extend(loops.iter_var2.as_deref());
            let inside = [&loops.loop_cond, &loops.loop_step, &loops.result]
                .into_iter()
                .find_map(|e| unknown_variable(e, bound));
            bound.truncate(depth);
            inside
        }
    }
}

fn unknown_in_entry<'e>(entry: &'e EntryExpr, bound: &mut Vec<&'e str>) -> Option<String> {
    match entry {
        EntryExpr::StructField(field) => unknown_variable(&field.value, bound),
        EntryExpr::MapEntry(entry) => {
            unknown_variable(&entry.key, bound).or_else(|| unknown_variable(&entry.value, bound))
        }
    }
}

/// The CEL rules of a module: neither list exists upstream, each key holds one expression.
#[derive(Debug, Clone, Default)]
pub(super) struct CelRules {
    pub(super) fail_if: Option<CelRule>,
    pub(super) fail_unless: Option<CelRule>,
}

impl CelRules {
    pub(super) const fn is_empty(&self) -> bool {
        self.fail_if.is_none() && self.fail_unless.is_none()
    }

    /// Judges a body. It runs on a thread of its own, as both reading JSON and evaluating can take long.
    pub(super) async fn judge(&self, body: Vec<u8>, deadline: Deadline) -> Result<(), Answer> {
        let late = || {
            let rule = self.fail_if.as_ref().or(self.fail_unless.as_ref());
            rule.map_or(Answer::Unknown(Unknown::Defect), |rule| {
                rule.mismatch("not evaluated in time").into()
            })
        };
        // That others take all the room says nothing about this target.
        let permit = deadline.limit(EVALUATIONS.acquire()).await.map_err(|_| no_room())?;
        let rules = self.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            rules.judge_now(&body)
        });
        let judged = deadline.limit(judged).await.map_err(|_| late())?;
        judged.map_err(|_| Answer::from(Unknown::Defect))?.map_err(Answer::from)
    }

    fn judge_now(&self, body: &[u8]) -> Result<(), Fault> {
        let json: serde_json::Value = serde_json::from_slice(body)
            .map_err(|error| Fault::JsonInvalid { detail: error.to_string().into() })?;
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_from_value("body", to_cel(json));
        if let Some(rule) = &self.fail_if
            && rule.holds(&context)?
        {
            return Err(rule.mismatch("is true"));
        }
        if let Some(rule) = &self.fail_unless
            && !rule.holds(&context)?
        {
            return Err(rule.mismatch("is false"));
        }
        Ok(())
    }
}

fn no_room() -> Answer {
    let what =
        format!("{AT_ONCE} evaluations of CEL expressions go on and left no room for this one");
    Unknown::Setup(what.into()).into()
}

/// JSON as upstream hands it to CEL: every number is a double.
fn to_cel(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(s) => Value::String(Arc::new(s)),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.into_iter().map(to_cel).collect()))
        }
        serde_json::Value::Object(entries) => {
            let map: HashMap<Key, Value> = entries
                .into_iter()
                .map(|(key, value)| (Key::String(Arc::new(key)), to_cel(value)))
                .collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(expression: &str, body: &str) -> Result<bool, String> {
        let rule = CelRule::parse(expression).unwrap();
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_from_value("body", to_cel(serde_json::from_str(body).unwrap()));
        rule.holds(&context).map_err(|fault| fault.to_string())
    }

    #[test]
    fn numbers_are_doubles() {
        assert_eq!(holds("body.n == 3", r#"{"n": 3}"#), Ok(true));
        assert_eq!(holds("body.n + 1.0 == 4.0", r#"{"n": 3}"#), Ok(true));
        assert!(holds("body.n + 1 == 4", r#"{"n": 3}"#).is_err());
    }

    #[test]
    fn the_standard_library_is_there() {
        let body = r#"{"items": [{"s": "up"}, {"s": "down"}], "name": "api-1"}"#;
        assert_eq!(holds("body.items.exists(i, i.s == 'down')", body), Ok(true));
        assert_eq!(holds("body.items.all(i, i.s == 'up')", body), Ok(false));
        assert_eq!(holds("body.items.filter(i, i.s == 'up').size() == 1", body), Ok(true));
        assert_eq!(holds("body.items.map(i, i.s)[0] == 'up'", body), Ok(true));
        assert_eq!(holds("has(body.nothing)", body), Ok(false));
        assert_eq!(holds("body.name.matches('^api-[0-9]$')", body), Ok(true));
        assert_eq!(holds("body.name.startsWith('api') && 'items' in body", body), Ok(true));
        assert_eq!(holds("type(body.name) == string", body), Ok(true));
    }

    #[test]
    fn clocks_are_read_in_any_time_zone() {
        let body = r#"{"at": "2026-07-01T22:30:00Z", "zone": "Europe/Berlin"}"#;
        for (expression, wanted) in [
            ("timestamp(body.at).getHours() == 22", true),
            ("timestamp(body.at).getHours(body.zone) == 0", true),
            ("timestamp(body.at).getDate('Asia/Kolkata') == 2", true),
            ("timestamp(body.at).getMinutes('+05:45') == 15", true),
            ("timestamp('2026-12-01T22:30:00Z').getHours('Europe/Berlin') == 23", true),
            ("timestamp('2026-12-01T22:30:00Z').getHours('UTC') == 23", false),
        ] {
            assert_eq!(holds(expression, body), Ok(wanted), "{expression}");
        }
        let wrong = holds("timestamp(body.at).getHours('Europe/Atlantis') == 0", body);
        assert!(wrong.unwrap_err().contains("Europe/Atlantis"));
    }

    #[test]
    fn what_is_no_verdict_is_a_fault() {
        for expression in ["body.missing == 1", "body.n", "body"] {
            assert!(holds(expression, r#"{"n": 1}"#).is_err(), "{expression}");
        }
    }

    #[tokio::test]
    async fn no_room_for_an_evaluation_is_not_the_target_s_fault() {
        let all = u32::try_from(AT_ONCE).unwrap();
        let taken = EVALUATIONS.acquire_many(all).await.unwrap();
        let rule = CelRule::parse("body.ok").unwrap();
        let rules = CelRules { fail_if: None, fail_unless: Some(rule) };
        let body = br#"{"ok": true}"#.to_vec();
        let soon = Deadline::after(std::time::Duration::from_millis(20));
        let answer = rules.judge(body.clone(), soon).await.unwrap_err();
        assert_eq!(answer.reason(), Some("setup"));
        drop(taken);
        let later = Deadline::after(std::time::Duration::from_secs(20));
        assert_eq!(rules.judge(body, later).await, Ok(()));
    }

    #[test]
    fn mistakes_are_found_at_load() {
        for (expression, word) in [
            ("", "empty"),
            ("body.", "not a CEL expression"),
            ("bodi.x == 1", "bodi"),
            ("body.name.lowerAscii() == 'x'", "lowerAscii"),
            ("body.items.all(i, j.x)", "uses j"),
        ] {
            let wrong = CelRule::parse(expression).unwrap_err();
            assert!(wrong.contains(word), "{expression}: {wrong}");
        }
    }
}
