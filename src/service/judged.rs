//! What an Acknowledge or ModifyAckDeadline with many ids is answered where delivery is exactly once
//! (docs/behaviour.md, section 9).

use super::EndCause;
use crate::{
    delivery::{DeliveryError, Judgement},
    engine::{input::LeaseId, output::Verdict},
};

/// Why the request with one ack id had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckFailure {
    /// The id is not ours, or of a lease that has ended.
    Invalid,
    /// Something before the message in its ordering key is not acknowledged.
    Unordered,
    /// It may be tried again.
    Temporary,
}

impl AckFailure {
    /// What the verdict on one id means to its client.
    const fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Applied | Verdict::Accepted => None,
            Verdict::Done | Verdict::Ended | Verdict::Void => Some(Self::Invalid),
            Verdict::Unordered => Some(Self::Unordered),
        }
    }
}

/// The ids of one request while they are decoded, in the client's order.
#[derive(Debug)]
pub(super) struct Ids {
    ack_ids: Vec<String>,
    /// Those that are not ours.
    foreign: Vec<bool>,
}

/// A request of which the judgement is awaited.
#[derive(Debug)]
pub struct Judging {
    ids: Ids,
    /// `None`: it was not taken in.
    judgement: Option<Judgement>,
}

/// The ids of a request, by what became of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// These had their effect.
    pub applied: Vec<String>,
    /// The others.
    pub failed: Vec<(String, AckFailure)>,
}

impl Ids {
    /// Those of a request, and what each stands for.
    pub(super) fn new(ack_ids: Vec<String>, leases: &[Option<LeaseId>]) -> Self {
        let foreign = leases.iter().map(Option::is_none).collect();
        Self { ack_ids, foreign }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.ack_ids.len()
    }

    /// Those that are ours were taken in; the judgement on them is to come.
    pub(super) const fn taken(self, judgement: Judgement) -> Judging {
        Judging {
            ids: self,
            judgement: Some(judgement),
        }
    }

    /// Each by what is said of it: `verdicts` has those that are ours, or nothing, if delivery is not exactly once any
    /// more.
    pub(super) fn judged(self, verdicts: Vec<Verdict>) -> Judged {
        let mut judged = Judged::default();
        let mut verdicts = verdicts.into_iter();
        for (ack_id, is_foreign) in self.ack_ids.into_iter().zip(self.foreign) {
            let failure = if is_foreign {
                Some(AckFailure::Invalid)
            } else {
                verdicts.next().and_then(AckFailure::of)
            };
            match failure {
                None => judged.applied.push(ack_id),
                Some(failure) => judged.failed.push((ack_id, failure)),
            }
        }
        judged
    }

    /// None of those that are ours had an effect that is known to be durable.
    fn put_off(self) -> Judged {
        let failures = self.foreign.into_iter().map(|is_foreign| {
            if is_foreign {
                AckFailure::Invalid
            } else {
                AckFailure::Temporary
            }
        });
        Judged {
            applied: Vec::new(),
            failed: self.ack_ids.into_iter().zip(failures).collect(),
        }
    }
}

impl Judging {
    /// A request that is not taken in, as too many others are awaited.
    pub(super) const fn put_off(ids: Ids) -> Self {
        Self {
            ids,
            judgement: None,
        }
    }

    /// How many ids it has.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Waits until what was done is durable. A failure of the store is one of each id, which may be tried again.
    pub async fn ended(self) -> Judged {
        let Some(judgement) = self.judgement else {
            return self.ids.put_off();
        };
        match judgement.pronounced().await {
            Ok(verdicts) => self.ids.judged(verdicts),
            Err(_) => self.ids.put_off(),
        }
    }
}

/// Whether ids failed that were taken for those of a subscription whose delivery is not exactly once: it has been since.
pub(super) fn check_none_failed(verdicts: &[Verdict]) -> Result<(), DeliveryError> {
    if verdicts.iter().any(|it| AckFailure::of(*it).is_some()) {
        let text = "the subscription has just become one with exactly-once delivery".to_owned();
        return Err(EndCause::Unavailable(text).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::Issue;

    const LEASE: LeaseId = LeaseId {
        generation: 1,
        partition: 0,
        offset: 0,
        number: 1,
        issue: Issue {
            epoch: 1,
            exactly_once: true,
        },
    };

    fn ids() -> Ids {
        let leases = [Some(LEASE), None, Some(LEASE), Some(LEASE)];
        let texts = ["a", "foreign", "b", "c"].map(str::to_owned);
        Ids::new(texts.into(), &leases)
    }

    #[test]
    fn each_id_has_its_own_verdict_and_one_that_is_not_ours_is_one_failure_among_others() {
        let verdicts = vec![Verdict::Applied, Verdict::Unordered, Verdict::Ended];
        let failed = |id: &str, failure| (id.to_owned(), failure);
        assert_eq!(
            ids().judged(verdicts),
            Judged {
                applied: vec!["a".to_owned()],
                failed: vec![
                    failed("foreign", AckFailure::Invalid),
                    failed("b", AckFailure::Unordered),
                    failed("c", AckFailure::Invalid),
                ],
            }
        );
        let all = ids().judged(Vec::new());
        assert_eq!(all.applied, ["a", "b", "c"]);
        assert_eq!(all.failed, [failed("foreign", AckFailure::Invalid)]);
    }

    #[tokio::test]
    async fn what_was_not_taken_in_may_be_tried_again() {
        let judged = Judging::put_off(ids()).ended().await;
        let temporary = |(_, failure): &&(String, AckFailure)| *failure == AckFailure::Temporary;
        assert_eq!(judged.failed.iter().filter(temporary).count(), 3);
        assert!(judged.applied.is_empty());
    }
}
