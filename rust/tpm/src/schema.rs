// SPDX-License-Identifier: Apache-2.0
//! What there is to know of one command.

use crate::field::Field;
use crate::handle::Kind;

/// The shape of a command and of its response.
///
/// Spec: TPM 2.0 Part 3, the two tables of each command.
pub(crate) struct Schema {
    pub(crate) code: u32,
    pub(crate) handles: &'static [Kind],
    /// How many of the handles, counted from the first, need an authorization.
    pub(crate) authorized: usize,
    pub(crate) takes_sessions: bool,
    pub(crate) parameters: &'static [Field],
    pub(crate) answer: Answer,
    pub(crate) answered_handle: Option<Kind>,
    pub(crate) answered: &'static [Field],
}

/// What, beyond its shape, makes a response an answer to its command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing that the gate sees.
    Any,
    /// `GetCapability`: the capability that was asked for, and no more entries.
    Capability,
    /// As many bytes as were asked for, or fewer.
    AtMost,
    /// Exactly as many bytes as were asked for.
    Exactly,
    /// `PCR_Read`: PCRs that were asked for, perhaps not all.
    Pcrs,
    /// The kind of session that was asked for.
    Session,
}

impl Schema {
    /// A command without authorization, which may have sessions for audit or encryption.
    pub(crate) const fn new(
        code: u32,
        handles: &'static [Kind],
        parameters: &'static [Field],
        answered: &'static [Field],
    ) -> Self {
        Self {
            code,
            handles,
            authorized: 0,
            takes_sessions: true,
            parameters,
            answer: Answer::Any,
            answered_handle: None,
            answered,
        }
    }

    pub(crate) const fn authorized(mut self, handles: usize) -> Self {
        self.authorized = handles;
        self
    }

    pub(crate) const fn without_sessions(mut self) -> Self {
        self.takes_sessions = false;
        self
    }

    pub(crate) const fn answers_handle(mut self, kind: Kind) -> Self {
        self.answered_handle = Some(kind);
        self
    }

    pub(crate) const fn answers(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }
}
