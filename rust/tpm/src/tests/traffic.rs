// SPDX-License-Identifier: Apache-2.0
//! What libtss2 and swtpm said to each other: see `testdata/record.py`.

use std::collections::{BTreeMap, BTreeSet};

use super::trace;
use crate::table::TABLE;
use crate::{Command, GateError, Response};

struct Exchange {
    name: &'static str,
    command: Vec<u8>,
    response: Vec<u8>,
}

fn exchanges() -> Vec<Exchange> {
    include_str!("../../testdata/traffic.txt")
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("a line has three words");
            Exchange {
                name: word(),
                command: from_hex(word()),
                response: from_hex(word()),
            }
        })
        .collect()
}

/// The command and response of one exchange.
pub(super) fn recorded(name: &str) -> (Vec<u8>, Vec<u8>) {
    let exchange = exchanges()
        .into_iter()
        .find(|exchange| exchange.name == name);
    let exchange = exchange.expect("it was recorded");
    (exchange.command, exchange.response)
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The pieces of a response, or why it is refused.
fn shape(command: &Command<'_>, response: &[u8]) -> Result<Vec<usize>, GateError> {
    trace::take();
    Response::parse(command, response).map(|_| trace::take())
}

#[test]
fn every_exchange_passes() {
    for Exchange {
        name,
        command,
        response,
    } in exchanges()
    {
        let command = Command::parse(&command).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Err(error) = Response::parse(&command, &response) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn every_command_of_the_table_was_recorded_and_succeeded() {
    let recorded: BTreeSet<u32> = exchanges()
        .iter()
        .filter(|exchange| exchange.response[6..10] == [0; 4])
        .map(|exchange| u32::from_be_bytes(exchange.command[6..10].try_into().unwrap()))
        .collect();
    let listed: BTreeSet<u32> = TABLE.iter().map(|schema| schema.code).collect();
    assert_eq!(recorded, listed);
}

#[test]
fn a_flipped_bit_never_moves_a_border() {
    let mut refused = BTreeMap::new();
    for exchange in exchanges() {
        let command = Command::parse(&exchange.command).unwrap_or_else(|error| panic!("{error}"));
        let whole = shape(&command, &exchange.response).unwrap();
        for bit in 0..exchange.response.len() * 8 {
            let mut response = exchange.response.clone();
            response[bit / 8] ^= 1 << (bit % 8);
            let verdict = shape(&command, &response);
            if let Ok(pieces) = &verdict {
                assert_eq!(*pieces, whole, "{}: bit {bit}", exchange.name);
            }
            let counts: &mut (usize, usize) = refused.entry(exchange.name).or_default();
            counts.0 += usize::from(verdict.is_err());
            counts.1 += 1;
        }
    }
    for (name, (refused, flips)) in &refused {
        // Header, sizes and selectors alone are more than an eighth of the shortest response.
        assert!(refused * 64 > *flips, "{name}: {refused} of {flips}");
    }
}

#[test]
fn no_part_of_a_response_and_nothing_longer_passes() {
    for exchange in exchanges() {
        let command = Command::parse(&exchange.command).unwrap_or_else(|error| panic!("{error}"));
        for length in 0..exchange.response.len() {
            let part = &exchange.response[..length];
            assert!(shape(&command, part).is_err(), "{}", exchange.name);
            assert!(
                shape(&command, &with_size(part)).is_err(),
                "{}: {length}",
                exchange.name
            );
        }
        let longer = with_size(&[&exchange.response[..], &[0]].concat());
        assert!(shape(&command, &longer).is_err(), "{}", exchange.name);
    }
}

#[test]
fn no_part_of_a_command_and_nothing_longer_passes() {
    for Exchange { name, command, .. } in exchanges() {
        for length in 0..command.len() {
            assert!(Command::parse(&command[..length]).is_err(), "{name}");
            assert!(
                Command::parse(&with_size(&command[..length])).is_err(),
                "{name}: {length}"
            );
        }
        let longer = with_size(&[&command[..], &[0]].concat());
        assert!(Command::parse(&longer).is_err(), "{name}");
    }
}

/// The bytes with a size field that is true.
fn with_size(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let size = u32::try_from(bytes.len()).unwrap();
    if let Some(field) = bytes.get_mut(2..6) {
        field.copy_from_slice(&size.to_be_bytes());
    }
    bytes
}
