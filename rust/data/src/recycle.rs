// SPDX-License-Identifier: Apache-2.0
//! Keeping the memory of vectors whose elements borrow something that does not live as long.

/// Empties a vector and returns it for elements of another lifetime.
///
/// Collecting in place keeps the allocation, so that a request that is served costs none. That is
/// what the standard library does, not what it promises: `tests/system/costs` counts.
pub(crate) fn emptied<T, U>(mut used: Vec<T>) -> Vec<U> {
    used.clear();
    used.into_iter().filter_map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_stays_and_the_elements_do_not() {
        let word = String::from("short-lived");
        let used: Vec<&str> = vec![&word; 100];
        let (place, capacity) = (used.as_ptr(), used.capacity());
        let emptied: Vec<&'static str> = emptied(used);
        assert!(emptied.is_empty());
        assert_eq!((emptied.as_ptr(), emptied.capacity()), (place, capacity));
    }
}
