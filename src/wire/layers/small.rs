//! Counts the small answers that a connection holds: HTTP/2 takes them whole, and holds them for as long as the client
//! takes nothing, when nobody watches over them any more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use crate::limits::{SMALL_ANSWER_BYTES, SMALL_ANSWERS_UNSENT_MAX};

/// Bytes of small answers that one connection has not sent.
#[derive(Clone, Debug, Default)]
pub struct SmallAnswers(Arc<AtomicUsize>);

impl SmallAnswers {
    /// `answer`, counted until its bytes are dropped, which is when they are sent.
    ///
    /// # Errors
    /// The same, where it is not small, or the connection holds too many that are.
    pub fn count(&self, answer: Bytes) -> Result<Bytes, Bytes> {
        let bytes = answer.len();
        if bytes > SMALL_ANSWER_BYTES {
            return Err(answer);
        }
        let unsent = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let counted = Counted {
            bytes: answer.clone(),
            of: self.clone(),
        };
        if unsent > SMALL_ANSWERS_UNSENT_MAX {
            drop(counted);
            return Err(answer);
        }
        Ok(Bytes::from_owner(counted))
    }
}

struct Counted {
    bytes: Bytes,
    of: SmallAnswers,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_small_answers_count_as_there_may_be_and_are_given_back() {
        let answers = SmallAnswers::default();
        let small = Bytes::from_static(&[7; SMALL_ANSWER_BYTES]);
        let mut unsent: Vec<_> = (0..SMALL_ANSWERS_UNSENT_MAX / SMALL_ANSWER_BYTES)
            .map(|_| {
                answers
                    .count(small.clone())
                    .expect("within what there may be")
            })
            .collect();
        assert_eq!(answers.count(small.clone()), Err(small.clone()));
        let part = unsent.pop().map(|sent| sent.slice(..1));
        assert!(
            answers.count(small.clone()).is_err(),
            "some of it is not sent"
        );
        drop(part);
        assert_eq!(answers.count(small.clone()), Ok(small));
        let large = Bytes::from(vec![7; SMALL_ANSWER_BYTES + 1]);
        assert!(SmallAnswers::default().count(large).is_err());
    }
}
