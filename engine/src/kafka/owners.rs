//! Questions about many partitions, each answered by the shard that owns it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_model::{LogId, ShardId};

use super::join::Together;
use crate::shard::{Refusal, Shard};

/// Questions for one owner, with the place of each among all.
type Questions<Q> = (Vec<usize>, Vec<(LogId, Q)>);

/// One message to each owner, with all that it is asked; the answers in the order of the questions.
/// An owner answers its questions one after the other.
pub(crate) async fn ask_owners<Q, A, F>(
    shard: &Rc<Shard>,
    questions: Vec<(LogId, Q)>,
    answer: impl Fn(Rc<Shard>, LogId, Q) -> F + Copy + Send + 'static,
) -> Vec<Result<A, Refusal>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Refusal>> + 'static,
{
    let answers = RefCell::new(Vec::new());
    answers.borrow_mut().resize_with(questions.len(), || None);
    let mut of_owner: BTreeMap<ShardId, Questions<Q>> = BTreeMap::new();
    for (at, (log, question)) in questions.into_iter().enumerate() {
        let (places, questions) = of_owner.entry(shard.owner(log)).or_default();
        places.push(at);
        questions.push((log, question));
    }
    let all = of_owner.into_iter().map(|(owner, (places, questions))| {
        let answers = &answers;
        async move {
            let answered = shard.on(owner, move |owner| async move {
                let mut answers = Vec::with_capacity(questions.len());
                for (log, question) in questions {
                    answers.push(answer(Rc::clone(&owner), log, question).await);
                }
                answers
            });
            let mut answered = match answered.await {
                Ok(answered) => answered.into_iter(),
                Err(refusal) => {
                    let refused = places.iter().map(|_| Err(refusal.clone()));
                    refused.collect::<Vec<_>>().into_iter()
                }
            };
            for at in places {
                answers.borrow_mut()[at] = answered.next();
            }
        }
    });
    Together::new(all).await;
    let answered = answers.into_inner().into_iter();
    answered
        .map(|answer| answer.expect("every owner answers all that it is asked"))
        .collect()
}

/// As [`ask_owners`], where some questions have their answer already.
pub(crate) async fn ask_owners_unless<Q, A, F>(
    shard: &Rc<Shard>,
    questions: Vec<Result<(LogId, Q), Refusal>>,
    answer: impl Fn(Rc<Shard>, LogId, Q) -> F + Copy + Send + 'static,
) -> Vec<Result<A, Refusal>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Refusal>> + 'static,
{
    let mut open = Vec::new();
    let mut refused = Vec::with_capacity(questions.len());
    for question in questions {
        match question {
            Ok(question) => {
                open.push(question);
                refused.push(None);
            }
            Err(refusal) => refused.push(Some(refusal)),
        }
    }
    let mut answers = ask_owners(shard, open, answer).await.into_iter();
    let answered = refused.into_iter().map(|refusal| match refusal {
        Some(refusal) => Err(refusal),
        None => answers.next().expect("one answer a question"),
    });
    answered.collect()
}
