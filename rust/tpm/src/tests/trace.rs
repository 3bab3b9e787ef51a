// SPDX-License-Identifier: Apache-2.0
//! The shape of a message, as the pieces that a walk took from it.

use std::cell::RefCell;

thread_local! {
    static PIECES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Remembers that a piece of `bytes` was taken.
pub(crate) fn record(bytes: usize) {
    PIECES.with_borrow_mut(|pieces| pieces.push(bytes));
}

/// Returns the pieces taken since the last call.
pub(crate) fn take() -> Vec<usize> {
    PIECES.take()
}
