//! Messages of one ordering key that are not done, in the order of the log.
//!
//! Most keys have one at a time, which costs no allocation.

use std::collections::VecDeque;

/// A message that is not leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) state: State,
    /// Whether it may not go out yet: its failure is not stored, or its backoff is not over.
    pub(super) waits: bool,
    /// Whether its body is here.
    pub(super) is_loaded: bool,
}

/// Why a message is not leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum State {
    /// It was never delivered.
    Waiting,
    /// Its lease ended because of another message, or it never left.
    Returned,
    /// It failed itself: it goes out again when nothing before it in its key is undone.
    Failed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) enum Messages {
    #[default]
    None,
    /// Leased, if it is not open.
    One(u64, Option<Open>),
    Many(Box<Many>),
}

/// Those that are leased, and those that are not: the first of either is asked for most.
#[derive(Debug, Default)]
pub(super) struct Many {
    leased: VecDeque<u64>,
    open: VecDeque<(u64, Open)>,
}

impl Messages {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::One(..) => false,
            Self::Many(many) => many.leased.is_empty() && many.open.is_empty(),
        }
    }

    pub(super) fn is_leased(&self) -> bool {
        match self {
            Self::None => false,
            Self::One(_, open) => open.is_none(),
            Self::Many(many) => !many.leased.is_empty(),
        }
    }

    pub(super) fn open_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_, open) => usize::from(open.is_some()),
            Self::Many(many) => many.open.len(),
        }
    }

    pub(super) fn first_leased(&self) -> Option<u64> {
        match self {
            Self::One(offset, None) => Some(*offset),
            Self::Many(many) => many.leased.front().copied(),
            Self::None | Self::One(..) => None,
        }
    }

    /// Those that are leased, from this one on.
    pub(super) fn leased_from(&self, from: u64) -> impl Iterator<Item = u64> {
        let (one, many) = match self {
            Self::One(offset, None) => (Some(*offset).filter(|offset| *offset >= from), None),
            Self::Many(many) => {
                let at = many.leased.partition_point(|offset| *offset < from);
                (None, Some(many.leased.range(at..).copied()))
            }
            Self::None | Self::One(..) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Those that are not, from this one on.
    pub(super) fn open_from(&self, from: u64) -> impl Iterator<Item = (u64, Open)> {
        let (one, many) = match self {
            Self::One(offset, Some(open)) => {
                let one = Some((*offset, *open));
                (one.filter(|(offset, _)| *offset >= from), None)
            }
            Self::Many(many) => {
                let at = many.open.partition_point(|(offset, _)| *offset < from);
                (None, Some(many.open.range(at..).copied()))
            }
            Self::None | Self::One(..) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn open_mut(&mut self, offset: u64) -> Option<&mut Open> {
        match self {
            Self::One(one, open) if *one == offset => open.as_mut(),
            Self::Many(many) => {
                let at = many.open_at(offset).ok()?;
                Some(&mut many.open.get_mut(at)?.1)
            }
            Self::None | Self::One(..) => None,
        }
    }

    /// Adds one that is not there; leased, if it is not open.
    pub(super) fn insert(&mut self, offset: u64, open: Option<Open>) {
        match self {
            Self::None => *self = Self::One(offset, open),
            Self::One(one, its) => {
                let mut many = Many::default();
                many.insert(*one, *its);
                many.insert(offset, open);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => many.insert(offset, open),
        }
    }

    /// One that is open is leased. False when it is not there, or leased.
    pub(super) fn lease(&mut self, offset: u64) -> bool {
        match self {
            Self::One(one, open) if *one == offset => open.take().is_some(),
            Self::Many(many) => {
                let Ok(at) = many.open_at(offset) else {
                    return false;
                };
                many.open.remove(at);
                many.insert(offset, None);
                true
            }
            Self::None | Self::One(..) => false,
        }
    }

    /// One that is leased is open. False when it is not there, or not leased.
    pub(super) fn end_lease(&mut self, offset: u64, open: Open) -> bool {
        match self {
            Self::One(one, its) if *one == offset && its.is_none() => {
                *its = Some(open);
                true
            }
            Self::Many(many) => {
                let Ok(at) = many.leased.binary_search(&offset) else {
                    return false;
                };
                many.leased.remove(at);
                many.insert(offset, Some(open));
                true
            }
            Self::None | Self::One(..) => false,
        }
    }

    /// Takes one away. Returns what it was if it was open.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Open> {
        match self {
            Self::One(one, open) if *one == offset => {
                let open = *open;
                *self = Self::None;
                open
            }
            Self::Many(many) => {
                if let Ok(at) = many.open_at(offset) {
                    return many.open.remove(at).map(|(_, open)| open);
                }
                let at = many.leased.binary_search(&offset).ok()?;
                many.leased.remove(at);
                None
            }
            Self::None | Self::One(..) => None,
        }
    }
}

impl Many {
    fn open_at(&self, offset: u64) -> Result<usize, usize> {
        self.open
            .binary_search_by_key(&offset, |(offset, _)| *offset)
    }

    fn insert(&mut self, offset: u64, open: Option<Open>) {
        match open {
            Some(open) => {
                if let Err(at) = self.open_at(offset) {
                    self.open.insert(at, (offset, open));
                }
            }
            None => {
                if let Err(at) = self.leased.binary_search(&offset) {
                    self.leased.insert(at, offset);
                }
            }
        }
    }
}

#[cfg(test)]
impl Messages {
    pub(super) fn leased(&self) -> Vec<u64> {
        self.leased_from(0).collect()
    }

    /// Whether each is there once, in order.
    pub(super) fn check(&self) {
        let (leased, open) = (self.leased(), self.open_from(0).map(|(offset, _)| offset));
        let open: Vec<_> = open.collect();
        assert!(leased.is_sorted_by(|a, b| a < b) && open.is_sorted_by(|a, b| a < b));
        assert!(!leased.iter().any(|offset| open.contains(offset)));
        assert_eq!(
            (self.open_len(), self.is_leased()),
            (open.len(), !leased.is_empty())
        );
    }
}
