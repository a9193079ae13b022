use std::collections::VecDeque;

use smallvec::{Array, SmallVec};

/// A queue whose first items have places of their own. So a room that has little to do at a time takes no more
/// memory from the allocator for it.
#[derive(Debug)]
pub(super) struct Lane<A: Array> {
    /// The first items. Never more than have a place here.
    first: SmallVec<A>,
    /// What comes behind those.
    rest: VecDeque<A::Item>,
}

impl<A: Array> Lane<A> {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    pub(super) fn front(&self) -> Option<&A::Item> {
        self.first.first().or_else(|| self.rest.front())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &A::Item> {
        self.first.iter().chain(&self.rest)
    }

    pub(super) fn push_back(&mut self, item: A::Item) {
        if self.rest.is_empty() && self.first.len() < A::size() {
            self.first.push(item);
        } else {
            self.rest.push_back(item);
        }
    }

    pub(super) fn push_front(&mut self, item: A::Item) {
        if self.first.len() == A::size()
            && let Some(last) = self.first.pop()
        {
            self.rest.push_front(last);
        }
        self.first.insert(0, item);
    }

    pub(super) fn pop_front(&mut self) -> Option<A::Item> {
        if self.first.is_empty() {
            return self.rest.pop_front();
        }
        Some(self.first.remove(0))
    }

    /// Removes the item with this number, counted from the first one.
    pub(super) fn remove(&mut self, at: usize) -> Option<A::Item> {
        match at.checked_sub(self.first.len()) {
            None => Some(self.first.remove(at)),
            Some(at) => self.rest.remove(at),
        }
    }

    /// Gives back the memory that a busy time took, beyond `kept` places.
    pub(super) fn shrink(&mut self, kept: usize) {
        self.rest.shrink_to(kept);
    }
}

impl<A: Array> Extend<A::Item> for Lane<A> {
    fn extend<I: IntoIterator<Item = A::Item>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push_back(item));
    }
}

impl<A: Array> Default for Lane<A> {
    fn default() -> Self {
        Self { first: SmallVec::new(), rest: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Back(u8),
        Front(u8),
        Pop,
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any::<u8>().prop_map(Step::Back),
            1 => any::<u8>().prop_map(Step::Front),
            3 => Just(Step::Pop),
            1 => (0..6_usize).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut lane, mut model) = (Lane::<[u8; 2]>::default(), VecDeque::new());
            for step in steps {
                match step {
                    Step::Back(item) => {
                        lane.push_back(item);
                        model.push_back(item);
                    }
                    Step::Front(item) => {
                        lane.push_front(item);
                        model.push_front(item);
                    }
                    Step::Pop => prop_assert_eq!(lane.pop_front(), model.pop_front()),
                    Step::Remove(at) => prop_assert_eq!(lane.remove(at), model.remove(at)),
                }
                prop_assert!(lane.iter().eq(&model));
                prop_assert_eq!((lane.len(), lane.front()), (model.len(), model.front()));
                prop_assert_eq!(lane.is_empty(), model.is_empty());
                prop_assert!(!lane.first.spilled(), "the first items are in their places");
            }
        }
    }
}
