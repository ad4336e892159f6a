//! Storage that is used again: a head's memory goes from one request to the next of the same thread.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Most boxes that lie on a thread's shelf: more heads than that are seldom alive at once, apart from bursts of HTTP/2.
const MOST: usize = 64;

/// Boxes of one thread that wait to be used again.
pub(super) type Shelf<T> = RefCell<Vec<Box<T>>>;

/// What can be used again.
pub(super) trait Reusable: Default + 'static {
    /// Forgets its content and keeps its memory, unless that is too much to keep.
    fn reset(&mut self);

    /// Where the thread keeps those that are not in use.
    fn shelf() -> &'static LocalKey<Shelf<Self>>;
}

/// A box that goes back to its thread's shelf.
pub(super) struct Recycled<T: Reusable>(Option<Box<T>>);

impl<T: Reusable> Recycled<T> {
    /// An empty one.
    pub(super) fn take() -> Self {
        let shelved = T::shelf().try_with(|shelf| shelf.borrow_mut().pop());
        Self(Some(shelved.ok().flatten().unwrap_or_default()))
    }
}

impl<T: Reusable> Drop for Recycled<T> {
    fn drop(&mut self) {
        let Some(mut value) = self.0.take() else {
            return;
        };
        value.reset();
        // At the end of the thread there is no shelf any more; then the box is simply dropped.
        let _ = T::shelf().try_with(|shelf| {
            let mut shelf = shelf.borrow_mut();
            if shelf.len() < MOST {
                shelf.push(value);
            }
        });
    }
}

impl<T: Reusable> Deref for Recycled<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("only drop takes it out"),
        }
    }
}

impl<T: Reusable> DerefMut for Recycled<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("only drop takes it out"),
        }
    }
}

impl<T: Reusable + fmt::Debug> fmt::Debug for Recycled<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Text {
        bytes: Vec<u8>,
    }

    thread_local! {
        static TEXTS: Shelf<Text> = const { RefCell::new(Vec::new()) };
    }

    impl Reusable for Text {
        fn reset(&mut self) {
            self.bytes.clear();
        }

        fn shelf() -> &'static LocalKey<Shelf<Self>> {
            &TEXTS
        }
    }

    #[test]
    fn memory_is_used_again_and_content_is_not() {
        let mut first = Recycled::<Text>::take();
        first.bytes.extend_from_slice(b"abc");
        let memory = first.bytes.as_ptr();
        drop(first);
        let second = Recycled::<Text>::take();
        assert_eq!(second.bytes.as_ptr(), memory);
        assert!(second.bytes.is_empty());
    }

    #[test]
    fn the_shelf_is_bounded() {
        let many: Vec<_> = (0..MOST * 2).map(|_| Recycled::<Text>::take()).collect();
        drop(many);
        TEXTS.with(|shelf| assert_eq!(shelf.borrow().len(), MOST));
    }
}
