//! The events of the parser made into a tree. Bounds what a hostile file can cost.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::merge;
use super::problem::{Problem, Problems};
use super::scalar::{Scalar, Style};
use super::source::{Extent, Position, Source};
use super::tree::{Entry, Kind, Node};

/// Levels of nesting. Ours need ten; reading is recursive.
pub const MAX_DEPTH: usize = 64;
/// Values and keys in one file as written.
pub const MAX_NODES: usize = 4_000_000;
/// Values and keys that aliases may add: ten lines can otherwise ask for billions.
pub const MAX_ALIAS_NODES: usize = 200_000;

/// The first document of a text. `None` where no tree came of it; problems that leave the tree
/// usable (a duplicate key) are reported and the tree is returned all the same.
pub fn parse(source: impl Into<Arc<Source>>, problems: &mut Problems) -> Option<Node> {
    let source = source.into();
    let text = source.text.clone();
    let mut builder = Builder {
        parser: Parser::new_from_str(&text),
        source: source.clone(),
        problems,
        anchors: HashMap::new(),
        nodes: 0,
        copied: 0,
        anchored: 0,
        secrets: Vec::new(),
        end: (1, 1),
    };
    let read = builder.document();
    let secrets = std::mem::take(&mut builder.secrets);
    source.remember_secrets(secrets);
    match read {
        Ok(root) => root,
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

/// A problem after which nothing more can be read.
type Stop = Box<Problem>;

struct Anchor {
    node: Node,
    nodes: usize,
    height: usize,
    extent: Extent,
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    source: Arc<Source>,
    problems: &'a mut Problems,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    copied: usize,
    anchored: usize,
    secrets: Vec<Extent>,
    /// Where the last event ended.
    end: (usize, usize),
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        loop {
            match self.next()? {
                (Event::DocumentStart(_), _) => break,
                (Event::StreamEnd, _) => {
                    let problem = Problem::error("the file is empty")
                        .at(&Position::start(&self.source))
                        .hint("write {} for a configuration without entries");
                    return Err(Box::new(problem));
                }
                _ => {}
            }
        }
        let (event, span) = self.next()?;
        let root = self.node(event, span, 1, false)?;
        self.rest()?;
        Ok(root)
    }

    fn rest(&mut self) -> Result<(), Stop> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    let problem = Problem::warning("only the first document of a file is read")
                        .at(&self.position(span))
                        .hint("move what follows \"---\" to a file of its own");
                    self.problems.push(problem);
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.end = end_of(&event, span);
                Ok((event, span))
            }
            Some(Err(error)) => Err(Box::new(self.syntax(&error))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// `None` for a value that was refused: the problem is reported, and the rest is read.
    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        depth: usize,
        secret: bool,
    ) -> Result<Option<Node>, Stop> {
        self.count(span, depth)?;
        let (anchor, kind) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span, depth, secret),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar {
                    text: text.into(),
                    raw: None,
                    style: style_of(style),
                    tag: tag.as_deref().map(tag_name),
                };
                (anchor, Kind::Scalar(scalar))
            }
            Event::SequenceStart(anchor, _) => {
                (anchor, Kind::Sequence(self.sequence(depth, secret)?))
            }
            Event::MappingStart(anchor, _) => (anchor, Kind::Mapping(self.mapping(depth, secret)?)),
            _ => return Ok(None),
        };
        let node = Node { kind, at: self.position(span), secret };
        if anchor > 0 {
            let (nodes, height) = (node.count(), node.height());
            self.anchored += nodes;
            // Anchors inside of anchors keep the same values again and again.
            if self.anchored > MAX_NODES {
                let what = format!("anchors mark more than {MAX_NODES} values");
                return Err(Box::new(self.stop(what, span)));
            }
            let extent = self.extent(span);
            self.anchors.insert(anchor, Anchor { node: node.clone(), nodes, height, extent });
        }
        Ok(Some(node))
    }

    fn count(&mut self, span: Span, depth: usize) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Box::new(
                self.stop(format!("more than {MAX_NODES} values in one file"), span),
            ));
        }
        if depth > MAX_DEPTH {
            return Err(Box::new(
                self.stop(format!("nested more than {MAX_DEPTH} levels deep"), span),
            ));
        }
        Ok(())
    }

    fn stop(&self, what: String, span: Span) -> Problem {
        Problem::error(what).at(&self.position(span))
    }

    fn sequence(&mut self, depth: usize, secret: bool) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::SequenceEnd | Event::StreamEnd => return Ok(items),
                event => items.extend(self.node(event, span, depth + 1, secret)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize, secret: bool) -> Result<Vec<Entry>, Stop> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(merge::assemble(entries, self.problems));
            }
            let key = self.node(event, span, depth + 1, false)?;
            entries.extend(self.entry(key, span, depth, secret)?);
        }
    }

    fn entry(
        &mut self,
        key: Option<Node>,
        key_span: Span,
        depth: usize,
        secret: bool,
    ) -> Result<Option<Entry>, Stop> {
        let name = key.as_ref().and_then(Node::text);
        let starts_secret = !secret && name.is_some_and(|name| self.source.is_secret_key(name));
        let (event, span) = self.next()?;
        let value = self.node(event, span, depth + 1, secret || starts_secret)?;
        let (Some(key), Some(mut value)) = (key, value) else {
            return Ok(None);
        };
        if starts_secret {
            let extent = self.extent(span);
            self.secrets.push(extent);
        }
        if key.scalar().is_none() {
            let problem =
                Problem::error("a key must be a plain word or text, not a list or a mapping")
                    .at(key.at())
                    .hint("put text that starts with a bracket or a brace in quotes");
            self.problems.push(problem);
            return Ok(None);
        }
        if written_nothing(&value, span) {
            // The parser places an absent value where the next thing stands.
            value.at = self.position(key_span);
        }
        Ok(Some(Entry { key, value }))
    }

    fn alias(
        &mut self,
        id: usize,
        span: Span,
        depth: usize,
        secret: bool,
    ) -> Result<Option<Node>, Stop> {
        let Some(anchor) = self.anchors.get(&id) else {
            let problem = Problem::error("this alias stands inside the value that it names")
                .at(&self.position(span));
            self.problems.push(problem);
            return Ok(None);
        };
        self.copied += anchor.nodes;
        if self.copied > MAX_ALIAS_NODES {
            let what = format!("aliases expand to more than {MAX_ALIAS_NODES} values");
            return Err(Box::new(self.stop(what, span)));
        }
        if depth + anchor.height - 1 > MAX_DEPTH {
            let what = format!("with this alias, nested more than {MAX_DEPTH} levels deep");
            return Err(Box::new(self.stop(what, span)));
        }
        let mut node = anchor.node.clone();
        if secret {
            self.secrets.push(anchor.extent);
            node.hide();
        }
        Ok(Some(node))
    }

    fn position(&self, span: Span) -> Position {
        let line = span.start.line().max(1);
        let length = if span.end.line() == span.start.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            self.source.line(line).chars().count().saturating_sub(span.start.col())
        };
        Position { source: self.source.clone(), line, column: span.start.col() + 1, length }
    }

    /// From the start of a value to the end of the last event, which is its end.
    fn extent(&self, span: Span) -> Extent {
        Extent { from: (span.start.line().max(1), span.start.col() + 1), to: self.end }
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let marker = error.marker();
        let at = Position {
            source: self.source.clone(),
            line: marker.line().max(1),
            column: marker.col() + 1,
            length: 1,
        };
        let line = self.source.line(at.line);
        let indentation = line.chars().take_while(|letter| letter.is_whitespace());
        if let Some(tab) = indentation.clone().position(|letter| letter == '\t') {
            return Problem::error("a tab in the indentation")
                .at(&Position { column: tab + 1, ..at })
                .hint("indent with spaces");
        }
        let problem = Problem::error(format!("not valid YAML: {}", error.info())).at(&at);
        match syntax_hint(error.info(), line) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

fn syntax_hint(info: &str, line: &str) -> Option<&'static str> {
    if line.contains("${") {
        return Some("inside of { } and [ ], ${NAME} must be in quotes");
    }
    if info.contains("mapping values are not allowed") {
        return Some("put a text that contains \": \" in quotes, or check the indentation");
    }
    if info.contains("unknown anchor") {
        return Some("an anchor (&name) must stand before the alias (*name) that uses it");
    }
    if line.contains('\t') {
        return Some("write spaces instead of tabs");
    }
    if line.contains(": %") || line.contains(": @") || line.contains(": `") {
        return Some("put a text that starts with such a sign in quotes");
    }
    if line.contains('\\') && line.contains('"') {
        return Some("in double quotes a backslash starts an escape: use single quotes");
    }
    None
}

fn written_nothing(value: &Node, span: Span) -> bool {
    span.is_empty()
        && value
            .scalar()
            .is_some_and(|scalar| scalar.text.is_empty() && scalar.style == Style::Plain)
}

/// A block collection ends where the next thing stands.
fn end_of(event: &Event<'_>, span: Span) -> (usize, usize) {
    let end = match event {
        Event::SequenceEnd | Event::MappingEnd => span.start,
        _ => span.end,
    };
    (end.line().max(1), end.col() + 1)
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}

fn tag_name(tag: &Tag) -> Arc<str> {
    if tag.is_yaml_core_schema() {
        return tag.suffix.as_str().into();
    }
    if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
        // The non-specific tag: text, whatever it looks like.
        return "str".into();
    }
    format!("!{}", tag.suffix).into()
}
