//! Path templates of `google.api.http`: `/v1/{topic=projects/*/topics/*}:publish`.
//!
//! A path is cut into segments before it is decoded, so that an encoded slash stays inside its segment, and each
//! segment is decoded once; a plus sign is a plus sign (docs/behaviour.md, section 1.3).

use std::ops::Range;

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a template in the descriptors is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the path template '{template}' is not understood: {what}")]
pub struct BadTemplate {
    template: String,
    what: &'static str,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// This text.
    Literal(String),
    /// `*`: any one segment.
    One,
    /// `**`: any number of segments, also none; the last one of its template.
    Rest,
}

/// The form of a path, and which parts of it are values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    /// Names of fields, with dots, and the segments that are their values.
    variables: Vec<(String, Range<usize>)>,
    /// What stands behind the last colon of the last segment.
    verb: Option<String>,
}

impl Template {
    /// Understands a template.
    ///
    /// # Errors
    /// It does not follow the grammar of `google.api.http`.
    pub fn parse(template: &str) -> Result<Self, BadTemplate> {
        Parser::new(template).parse().map_err(|what| BadTemplate {
            template: template.to_owned(),
            what,
        })
    }

    /// The values of the variables, in order, if the path is one of this template.
    ///
    /// # Errors
    /// It is, but a value of it is not UTF-8.
    pub fn matches(&self, path: &Path<'_>) -> Option<Result<Vec<String>, NotText>> {
        let segments = path.segments(self.verb.as_deref())?;
        let open = matches!(self.segments.last(), Some(Segment::Rest));
        let fixed = self.segments.len() - usize::from(open);
        let long_enough = segments.len() == fixed || (open && segments.len() > fixed);
        let alike = |(expected, given): (&Segment, &&str)| match expected {
            Segment::Literal(text) => decode(given).is_ok_and(|given| given == *text),
            Segment::One => !given.is_empty(),
            Segment::Rest => true,
        };
        if !long_enough || !self.segments.iter().zip(&segments).all(alike) {
            return None;
        }
        let value = |(_, range): &(String, Range<usize>)| {
            let end = if open && range.end == self.segments.len() {
                segments.len()
            } else {
                range.end
            };
            let decoded: Result<Vec<_>, _> = segments[range.start..end]
                .iter()
                .map(|segment| decode(segment))
                .collect();
            Ok(decoded?.join("/"))
        };
        Some(self.variables.iter().map(value).collect())
    }

    /// Whether it ends with a verb.
    pub fn has_verb(&self) -> bool {
        self.verb.is_some()
    }

    /// The path for people, `/v1/projects/{project}/topics/{topic}:publish`, and the names in it: each segment that may
    /// be any is named after the collection before it.
    pub fn described(&self) -> (String, Vec<String>) {
        let (mut path, mut names) = (String::new(), Vec::new());
        let mut collection = "";
        for segment in &self.segments {
            path.push('/');
            if let Segment::Literal(text) = segment {
                path.push_str(text);
                collection = text;
            } else {
                let name = collection.strip_suffix('s').unwrap_or(collection);
                path.extend(["{", name, "}"]);
                names.push(name.to_owned());
            }
        }
        if let Some(verb) = &self.verb {
            path.extend([":", verb]);
        }
        (path, names)
    }

    /// The names of the variables: paths of fields, with dots.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_str())
    }
}

/// A segment that is not UTF-8 when it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the path is not UTF-8 text")]
pub struct NotText;

fn decode(segment: &str) -> Result<String, NotText> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(Into::into).map_err(|_| NotText)
}

/// A request's path, cut into segments.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    segments: Vec<&'a str>,
    /// The last segment before its last colon, and what stands behind it.
    verb: Option<(&'a str, &'a str)>,
}

impl<'a> Path<'a> {
    /// Cuts `path` up; as it was sent, without its query.
    pub fn new(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let segments: Vec<_> = path.split('/').collect();
        let last = segments.last().copied().unwrap_or_default();
        let colon = last.rmatch_indices(':').chain(last.rmatch_indices("%3A"));
        let colon = colon.chain(last.rmatch_indices("%3a")).max();
        Self {
            verb: colon.map(|(at, colon)| (&last[..at], &last[at + colon.len()..])),
            segments,
        }
    }

    /// The segments without the verb, if it is that one.
    fn segments(&self, verb: Option<&str>) -> Option<Vec<&'a str>> {
        let mut segments = self.segments.clone();
        if let Some(verb) = verb {
            let (before, given) = self.verb?;
            if given != verb {
                return None;
            }
            *segments.last_mut()? = before;
        } else if self.verb.is_some() {
            // No name that stands last has a colon: this is a verb that is not known.
            return None;
        }
        Some(segments)
    }
}

/// Reads a template from left to right.
struct Parser<'a> {
    rest: &'a str,
    template: Template,
}

impl<'a> Parser<'a> {
    fn new(template: &'a str) -> Self {
        Self {
            rest: template,
            template: Template {
                segments: Vec::new(),
                variables: Vec::new(),
                verb: None,
            },
        }
    }

    fn parse(mut self) -> Result<Template, &'static str> {
        while self.take('/') {
            if self.take('{') {
                self.variable()?;
            } else {
                self.segment()?;
            }
        }
        if self.take(':') {
            if self.rest.is_empty() || self.rest.contains(['/', '{', '}', '*', ':', '=']) {
                return Err("a verb is a word at its end");
            }
            self.template.verb = Some(std::mem::take(&mut self.rest).to_owned());
        }
        if !self.rest.is_empty() || self.template.segments.is_empty() {
            return Err("a segment begins with a slash");
        }
        let open = |segment: &Segment| *segment == Segment::Rest;
        match self.template.segments.iter().position(open) {
            Some(at) if at + 1 < self.template.segments.len() => Err("** is only for its end"),
            _ => Ok(self.template),
        }
    }

    fn variable(&mut self) -> Result<(), &'static str> {
        let end = self.rest.find(['=', '}']).ok_or("a variable has no end")?;
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.contains(['/', '{', '*', ':']) {
            return Err("a variable needs the name of a field");
        }
        self.rest = rest;
        let start = self.template.segments.len();
        if self.take('=') {
            self.segment()?;
            while self.take('/') {
                self.segment()?;
            }
        } else {
            self.template.segments.push(Segment::One);
        }
        if !self.take('}') {
            return Err("a variable ends with }");
        }
        let range = start..self.template.segments.len();
        self.template.variables.push((name.to_owned(), range));
        Ok(())
    }

    fn segment(&mut self) -> Result<(), &'static str> {
        let end = self.rest.find(['/', ':', '{', '}', '=']);
        let (segment, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        self.template.segments.push(match segment {
            "" => return Err("a segment is empty"),
            "*" => Segment::One,
            "**" => Segment::Rest,
            text if text.contains('*') => return Err("a star stands alone"),
            text => Segment::Literal(text.to_owned()),
        });
        Ok(())
    }

    /// Goes past the character if it is next.
    fn take(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests;
