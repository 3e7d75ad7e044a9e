//! What the protos say about their messages, fields and RPCs.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::FileDescriptor;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The documentation of everything in the descriptors.
#[derive(Debug)]
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    /// Reads all of it from encoded descriptors; nothing if they are damaged.
    pub(super) fn read(documented: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(documented).unwrap_or_default();
        Self(set.file.iter().flat_map(of_file).collect())
    }

    /// What is said about the thing at `path` in `file`, in Markdown; nothing if there is nothing.
    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        let key = (file.name().to_owned(), path.to_vec());
        self.0.get(&key).map_or("", String::as_str)
    }
}

fn of_file(file: &FileDescriptorProto) -> Vec<((String, Vec<i32>), String)> {
    let Some(source) = &file.source_code_info else {
        return Vec::new();
    };
    let locations = source.location.iter();
    let commented = locations.filter_map(|location| {
        let comment = location.leading_comments.as_deref()?;
        let key = (file.name().to_owned(), location.path.clone());
        Some((key, markdown(comment)))
    });
    commented.collect()
}

/// A comment without the space that each line begins with, and with plain words where it refers to other comments.
fn markdown(comment: &str) -> String {
    let lines: Vec<_> = comment
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    // Some links go on in the next line.
    without_references(&lines.join("\n").trim().replace("]\n(", "]("))
}

/// `[Topic][google.pubsub.v1.Topic]` becomes `Topic`.
fn without_references(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("][") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let (Some(opened), Some(closed)) = (before.rfind('['), after.find(']')) {
            plain.push_str(&before[..opened]);
            plain.push_str(&before[opened + 1..]);
            rest = &after[closed + 1..];
        } else {
            plain.push_str(&rest[..at + 2]);
            rest = after;
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_other_comments_become_words() {
        for (comment, text) in [
            (" One line.\n Another one.\n", "One line.\nAnother one."),
            (
                " Of [Topic][google.pubsub.v1.Topic] and [`x`] [y][z].",
                "Of Topic and [`x`] y.",
            ),
            (
                " [a link]\n (https://b.c) [stays][",
                "[a link](https://b.c) [stays][",
            ),
        ] {
            assert_eq!(markdown(comment), text);
        }
    }
}
