//! An error in the configuration file, shown as a compiler would: file, line, column, the line itself, what to write.
//!
//! Higher floors use [`Diagnostic::at`] for errors that only they can find, such as a statement that the database
//! refuses. The source that is shown has its passwords starred out: these texts end up in logs.

use super::Origin;
use super::redact::redact;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::sync::Arc;

/// One error, with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where. Empty: the file as a whole.
    pub origin: Origin,
    /// What is wrong: lower-case, one fact.
    pub message: String,
    /// What to write instead; may be empty.
    pub hint: String,
    /// Whose fault it is.
    pub fault: Fault,
    /// Another place that belongs to it, and what it is.
    pub related: Option<(Origin, String)>,
    /// The file it is in, and the place there, if that is another file; `origin` is then where that is named.
    pub elsewhere: Option<(Arc<Source>, Origin)>,
}

/// A file that the configuration names, as errors show it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Whose fault an error is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file must change.
    Config,
    /// A service that the file names does not answer; the file may be right.
    Service,
}

impl Diagnostic {
    /// An error at a place of the file.
    pub fn at(origin: &Origin, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            origin: origin.clone(),
            message: message.into(),
            hint: hint.into(),
            fault: Fault::Config,
            related: None,
            elsewhere: None,
        }
    }

    /// An error of the file as a whole.
    pub fn of_file(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::at(&Origin::default(), message, hint)
    }

    /// A service that a place of the file names does not answer.
    pub fn unreachable(origin: &Origin, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { fault: Fault::Service, ..Self::at(origin, message, hint) }
    }

    /// The same, showing a second place too.
    pub fn with_related(mut self, origin: &Origin, label: impl Into<String>) -> Self {
        self.related = Some((origin.clone(), label.into()));
        self
    }

    /// The same, in another file, which is named at `named`.
    pub(super) fn of_source(self, source: &Arc<Source>, named: &Origin) -> Self {
        Self { elsewhere: Some((source.clone(), self.origin)), origin: named.clone(), ..self }
    }

    /// The error as text of several lines; `source` is the text of `file`.
    pub fn render(&self, file: &str, source: &str, color: bool) -> String {
        let (file, source, origin) = match &self.elsewhere {
            Some((other, origin)) => (other.name.as_str(), other.text.as_str(), origin),
            None => (file, source, &self.origin),
        };
        let shown = redact(source);
        let title = Level::ERROR.primary_title(self.message.as_str());
        let mut group = match self.snippet(file, &shown, origin) {
            Some(snippet) => title.element(snippet),
            None => title.element(annotate_snippets::Origin::path(file)),
        };
        if !self.hint.is_empty() {
            group = group.element(Level::HELP.message(self.hint.as_str()));
        }
        render_group(group, color)
    }

    fn snippet<'a>(
        &'a self,
        file: &'a str,
        source: &'a str,
        origin: &Origin,
    ) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let span = clamp(origin, source)?;
        let snippet = Snippet::source(source).path(file).annotation(AnnotationKind::Primary.span(span));
        let related = self.related.as_ref().and_then(|(origin, label)| Some((clamp(origin, source)?, label)));
        Some(match related {
            Some((span, label)) => snippet.annotation(AnnotationKind::Context.span(span).label(label.as_str())),
            None => snippet,
        })
    }
}

/// All of them, a blank line between two.
pub fn render_all(diagnostics: &[Diagnostic], file: &str, source: &str, color: bool) -> String {
    let texts: Vec<String> = diagnostics.iter().map(|one| one.render(file, source, color)).collect();
    texts.join("\n\n")
}

fn render_group(group: Group<'_>, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// The range if it lies within the text: an origin of another text must not end the process.
fn clamp(origin: &Origin, source: &str) -> Option<std::ops::Range<usize>> {
    let range = origin.0.clone();
    (!range.is_empty() && source.get(range.clone()).is_some()).then_some(range)
}
