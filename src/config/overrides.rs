//! A module with some of its keys set otherwise: the value is put into the tree where it would have been written, and the
//! whole is read as every module is, so that rules and words are the same.

use std::sync::Arc;

use super::modules::place;
use super::yaml::{self, Node, Problem, Problems, Source, Style};
use crate::model::{HINT, Mistakes, Overrides};
use crate::probe::{Allowed, Form, Module, ModuleSpec, Recipe, Refused};

/// How the module `name`, written as `node`, is made anew. Its list of allowed keys has been checked.
pub(super) fn recipe(name: &str, node: &Node, allowed: Vec<Allowed>) -> Recipe {
    let written = Written { name: name.to_owned(), node: node.clone(), allowed };
    let (_, known) = written.read(node);
    Recipe::new(move |overrides| written.with(overrides, &known))
}

/// A module as it stands in the configuration.
struct Written {
    name: String,
    node: Node,
    allowed: Vec<Allowed>,
}

impl Written {
    /// The module that `node` is, and what is wrong or odd about it.
    fn read(&self, node: &Node) -> (Option<Module>, Problems) {
        let mut problems = Problems::new();
        let spec = yaml::decode::<ModuleSpec>(node, &mut problems);
        let mut mistakes = Mistakes::default();
        let module = spec.and_then(|spec| spec.build(&self.name, &mut mistakes));
        problems.extend(mistakes.into_vec().into_iter().map(|mistake| place(mistake, node)));
        (module, problems)
    }

    /// `known` is what was odd before.
    fn with(&self, overrides: &Overrides, known: &Problems) -> Result<Module, Refused> {
        let mut node = self.node.clone();
        for (key, text) in overrides {
            let Some(key) = self.allowed.iter().find(|allowed| allowed.key == *key) else {
                return Err(not_allowed(&self.name, key, &self.allowed));
            };
            let path: Vec<&str> = key.path.iter().map(String::as_str).collect();
            node.set(&path, value(key, text)?);
        }
        let (module, problems) = self.read(&node);
        // What only warns in a configuration means that no run could succeed: whoever asks now wants to know now.
        let is_new = |problem: &&Problem| !known.iter().any(|known| known.what == problem.what);
        match (problems.iter().find(is_new), module) {
            (None, Some(module)) => Ok(module),
            (None, None) => Err(Refused::new(None, "no module can be made with these overrides")),
            (Some(problem), _) => Err(said(problem, blamed(problem, overrides))),
        }
    }
}

/// The key that a problem is about: by its place, or because there is no other.
fn blamed<'a>(problem: &Problem, overrides: &'a Overrides) -> Option<&'a str> {
    let named = problem.at.as_ref().map(|at| &*at.source.name);
    let by_place = overrides.keys().find(|key| named == Some(key.as_str()));
    let alone = overrides.keys().next().filter(|_| overrides.len() == 1);
    by_place.or(alone).map(String::as_str)
}

fn not_allowed(name: &str, key: &str, allowed: &[Allowed]) -> Refused {
    let known: Vec<&str> = allowed.iter().map(|allowed| allowed.key.as_str()).collect();
    let known = known.join(", ");
    let what = format!("module {name:?} does not allow {key:?} to be overridden, only {known}");
    Refused::new(Some(key), what)
}

fn said(problem: &Problem, key: Option<&str>) -> Refused {
    let hint = problem.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let what = problem.what.replace(HINT, "; ");
    let subject = key.map(|key| format!("{key}: ")).unwrap_or_default();
    Refused::new(key, format!("{subject}{what}{hint}"))
}

/// The value as a tree. Its source is called as its key, so that what is wrong with it is known by its place.
fn value(key: &Allowed, text: &str) -> Result<Node, Refused> {
    let source = Arc::new(Source::named(&key.key, text));
    match key.form {
        Form::Text => Ok(Node::scalar_of(&source, Style::Quoted)),
        Form::Word => Ok(Node::scalar_of(&source, Style::Plain)),
        Form::List if text.starts_with('[') => list(key, source),
        Form::List => {
            let style = if is_number(text) { Style::Plain } else { Style::Quoted };
            Ok(Node::list_of(vec![Node::scalar_of(&source, style)]))
        }
    }
}

/// The one item of a list may be a number where numbers are wanted.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn list(key: &Allowed, source: Arc<Source>) -> Result<Node, Refused> {
    let mut problems = Problems::new();
    let node = yaml::parse(source, &mut problems).filter(|_| !problems.is_fatal());
    node.filter(Node::is_list).ok_or_else(|| {
        let what = format!("{}: not a list; write it as [\"one\", \"two\"]", key.key);
        Refused::new(Some(&key.key), what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r"
prober: http
timeout: 5s
allow_overrides: [timeout, method, valid_status_codes, fail_if_body_matches_regexp, headers.X-Scope, server_name, body]
http:
  method: POST
  headers: { X-Scope: one, x-other: two }
  basic_auth: { username: u, password: hunter2 }
";

    fn recipe_of_written() -> Module {
        let mut problems = Problems::new();
        let node = yaml::parse(Source::named("w.yml", WRITTEN), &mut problems).unwrap();
        let list: Vec<String> = node
            .get("allow_overrides")
            .unwrap()
            .items()
            .iter()
            .map(|item| item.text().unwrap().to_owned())
            .collect();
        let allowed = Allowed::read(&list, "http", &mut Mistakes::default());
        let spec = yaml::decode::<ModuleSpec>(&node, &mut problems).unwrap();
        let mut module = spec.build("m", &mut Mistakes::default()).unwrap();
        module.recipe = Some(recipe("m", &node, allowed));
        module
    }

    fn remade(pairs: &[(&str, &str)]) -> Result<Module, Refused> {
        let overrides =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        recipe_of_written().remade(&overrides)
    }

    #[test]
    fn values_are_read_as_if_they_were_written_in_the_module() {
        let shown = |pairs: &[(&str, &str)]| format!("{:?}", remade(pairs).unwrap().prober);
        assert!(shown(&[("method", "HEAD")]).contains("method: HEAD"));
        assert!(shown(&[("valid_status_codes", "404")]).contains("first: 404"));
        assert!(shown(&[("valid_status_codes", "2xx")]).contains("first: 200"));
        assert!(shown(&[("valid_status_codes", "[301, \"4xx\"]")]).contains("first: 400"));
        assert!(shown(&[("fail_if_body_matches_regexp", "a: b")]).contains("a: b"));
        let headers = shown(&[("headers.x-scope", "three")]);
        assert!(headers.contains(r#""x-scope": "three""#), "{headers}");
        assert!(headers.contains(r#""x-other": "two""#), "{headers}");
        assert!(shown(&[("server_name", "sni.example")]).contains("sni.example"));
        let timeout = remade(&[("timeout", "250ms")]).unwrap().timeout;
        assert_eq!(timeout, Some(std::time::Duration::from_millis(250)));
        assert!(!shown(&[("body", "x")]).contains("hunter2"));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_configuration() {
        for (key, value, says) in [
            ("password", "x", "does not allow \"password\" to be overridden, only timeout, method"),
            ("timeout", "soon", "timeout: \"soon\" is not a duration; write a number"),
            ("valid_status_codes", "ok", "valid_status_codes: "),
            ("valid_status_codes", "[200", "not a list"),
            ("fail_if_body_matches_regexp", "(", "fail_if_body_matches_regexp: "),
            ("method", "A B", "method: \"A B\" is no HTTP method"),
            ("headers.x-scope", "a\nb", "headers.x-scope: "),
        ] {
            let refused = remade(&[(key, value)]).unwrap_err();
            assert_eq!(refused.key.as_deref(), Some(key), "{refused}");
            assert!(refused.what.contains(says), "{key}: {refused}");
            assert!(!refused.what.contains(HINT));
        }
    }
}
