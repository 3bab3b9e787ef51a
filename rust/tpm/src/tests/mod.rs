// SPDX-License-Identifier: Apache-2.0
//! The gate's tests.

mod commands;
mod messages;
mod responses;
mod structures;
pub(crate) mod trace;
mod traffic;

use crate::{Command, GateError, Response};

/// Why a command is refused; passing is a failure of the test.
fn refused_command(message: &[u8]) -> GateError {
    match Command::parse(message) {
        Ok(_) => panic!("the command passed"),
        Err(error) => error,
    }
}

/// Why a response to a command is refused; passing is a failure of the test.
fn refused_response(command: &[u8], message: &[u8]) -> GateError {
    let command = Command::parse(command).unwrap_or_else(|error| panic!("{error}"));
    match Response::parse(&command, message) {
        Ok(_) => panic!("the response passed"),
        Err(error) => error,
    }
}

/// Fails the test unless the response passes.
fn passes(command: &[u8], message: &[u8]) {
    let command = Command::parse(command).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = Response::parse(&command, message) {
        panic!("{error}");
    }
}
