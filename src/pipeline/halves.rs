//! Finding out which of several users nobody can export: pure.

use std::collections::HashSet;

/// What to do next for some users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for a task.
    Ask(Vec<String>),
    /// Ask for the user alone, without a task.
    Alone(String),
}

/// What to do for users who cannot be exported together: those whom Stream names and the others, or else halves of them. Who is the
/// only one left is asked for without a task. A user is never left out for being named: words of a message may be ids as well.
pub(super) fn apart(mut user_ids: Vec<String>, named: &HashSet<String>) -> Vec<Next> {
    if user_ids.len() < 2 {
        return user_ids.into_iter().map(Next::Alone).collect();
    }
    let (suspects, others): (Vec<String>, Vec<String>) = user_ids.iter().cloned().partition(|id| named.contains(id));
    let parts = if suspects.is_empty() || others.is_empty() {
        let right = user_ids.split_off(user_ids.len().div_ceil(2));
        [user_ids, right]
    } else {
        [others, suspects]
    };
    parts.into_iter().map(Next::Ask).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What a Stream that fails every request with one of `guilty` in it is asked for: requests, and who is left alone.
    fn explore(user_ids: Vec<String>, guilty: &BTreeSet<String>, tells: bool) -> (Vec<Vec<String>>, Vec<String>) {
        let (mut requests, mut alone, mut left) = (Vec::new(), Vec::new(), vec![Next::Ask(user_ids)]);
        while let Some(next) = left.pop() {
            match next {
                Next::Ask(user_ids) => {
                    requests.push(user_ids.clone());
                    let culprit = user_ids.iter().find(|id| guilty.contains(*id)).cloned();
                    if let Some(culprit) = culprit {
                        let named = if tells { [culprit].into() } else { HashSet::new() };
                        left.extend(apart(user_ids, &named));
                    }
                }
                Next::Alone(user_id) => alone.push(user_id),
            }
        }
        (requests, alone)
    }

    proptest! {
        #[test]
        fn everybody_innocent_is_exported_once_and_everybody_guilty_is_asked_for_alone(
            users in 1usize..=25,
            marks in prop::collection::vec(prop::bool::weighted(0.15), 25),
            tells: bool,
        ) {
            let user_ids: Vec<String> = (0..users).map(|number| format!("user-{number}")).collect();
            let guilty: BTreeSet<String> =
                user_ids.iter().zip(&marks).filter(|(_, guilty)| **guilty).map(|(id, _)| id.clone()).collect();
            let (requests, mut alone) = explore(user_ids.clone(), &guilty, tells);
            let is_whole = |request: &&Vec<String>| request.iter().all(|id| !guilty.contains(id));
            let mut exported: Vec<String> = requests.iter().filter(is_whole).flatten().cloned().collect();
            exported.sort();
            let mut innocent: Vec<String> = user_ids.iter().filter(|id| !guilty.contains(*id)).cloned().collect();
            innocent.sort();
            prop_assert_eq!(exported, innocent);
            alone.sort();
            prop_assert_eq!(alone, guilty.iter().cloned().collect::<Vec<_>>());
            let halvings = users.next_power_of_two().ilog2() as usize;
            let each = if tells { 2 } else { 2 * halvings };
            prop_assert!(requests.len() <= 1 + each * guilty.len(), "{} requests", requests.len());
        }
    }

    #[test]
    fn one_of_twenty_five_is_found_by_ten_more_requests() {
        let user_ids: Vec<String> = (0..25).map(|number| number.to_string()).collect();
        let (requests, alone) = explore(user_ids, &["0".to_owned()].into(), false);
        let lengths: Vec<usize> = requests.iter().map(Vec::len).collect();
        assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (11, 25 + 25 + 13 + 7 + 4 + 2));
        assert_eq!(alone, ["0"]);
    }
}
