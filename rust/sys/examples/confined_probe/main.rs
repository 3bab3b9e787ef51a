// SPDX-License-Identifier: Apache-2.0
//! Attacks the confinement from inside, one attack and any set of measures at a time.
//!
//! ```text
//! confined_probe measures              all measures, as an enclave gets them
//! confined_probe attack NAME WITH      WITH is all, none, or measures joined by commas
//! confined_probe attacks               the names
//! confined_probe works                 what a confined enclave must still be able to do
//! ```
//!
//! Three processes, as in the product: the outer one, which is also the victim; one that enters
//! the namespaces; and its child, which is confined and attacks. The outer process first moves to
//! throw-away namespaces where it may, so that an attack that succeeds changes nothing of the
//! machine. Prints one line of JSON.

mod attacks;
mod kernel;
mod works;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use strongroom_sys::confine::{self, Measure, Namespace, Step};

use attacks::{Attack, Victim};
use kernel::{Ended, fork, wait};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["measures"] => measures(),
        ["attacks"] => Ok(format!("{:?}", attacks::ALL.map(|attack| attack.name))),
        ["attack", name, with] => attack(name, with),
        ["works"] => works::run(),
        // What the set-user-ID copy of this program is run for.
        ["euid"] => return attacks::report_user(),
        _ => Err(io::Error::other("see the head of confined_probe/main.rs")),
    };
    let (text, code) = match result {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (
            format!("{{\"error\": {:?}}}", error.to_string()),
            ExitCode::FAILURE,
        ),
    };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The measures of a whole confinement, reported from inside through a pipe made before.
fn measures() -> io::Result<String> {
    let (report, _) = in_enclave(
        |_| true,
        |taken, stream| {
            let lines: Vec<String> = taken.iter().map(json).collect();
            stream.write_all(format!("[{}]", lines.join(", ")).as_bytes())
        },
    )?;
    Ok(report)
}

fn attack(name: &str, with: &str) -> io::Result<String> {
    let attack = attacks::ALL
        .iter()
        .find(|attack| attack.name == name)
        .ok_or_else(|| io::Error::other("no such attack"))?;
    let wanted = |measure: &str| match with {
        "all" => true,
        "none" => false,
        names => names.split(',').any(|wanted| wanted == measure),
    };
    kernel::isolate();
    let victim = Victim::new()?;
    let (report, ended) = in_enclave(wanted, |taken, stream| {
        let missing: Vec<&str> = taken
            .iter()
            .filter(|measure| !measure.active)
            .map(|measure| measure.name)
            .collect();
        stream.write_all(format!("{missing:?}\n").as_bytes())?;
        let outcome = match (attack.run)(&victim) {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        stream.write_all(outcome.as_bytes())
    })?;
    let (missing, said) = report.split_once('\n').unwrap_or(("null", "never began"));
    let outcome = judge(attack, &victim, said, ended);
    Ok(format!(
        "{{\"attack\": {name:?}, \"outcome\": {outcome:?}, \"detail\": {said:?}, \
         \"ended\": \"{ended:?}\", \"inactive\": {missing}}}"
    ))
}

/// `done`, `refused`, `killed` by the filter, or `contained`: done, without effect outside.
fn judge(attack: &Attack, victim: &Victim, said: &str, ended: Ended) -> &'static str {
    match (said, ended) {
        (
            _,
            Ended::Killed {
                signal: libc::SIGSYS,
                ..
            },
        ) => "killed",
        // Quiet and well: it became another program, which judges by its exit status.
        ("done", _) | ("", Ended::Exited(0) | Ended::Killed { .. }) => {
            if (attack.felt)(victim, ended) {
                "done"
            } else {
                "contained"
            }
        }
        _ => "refused",
    }
}

/// Runs `inside` in a process with the wanted measures; returns what it wrote and how it ended.
fn in_enclave(
    wanted: impl Fn(&str) -> bool,
    inside: impl FnOnce(&[Measure], &mut UnixStream) -> io::Result<()>,
) -> io::Result<(String, Ended)> {
    let (mut outside, mut stream) = UnixStream::pair()?;
    let Some(launcher) = fork()? else {
        let mut taken = Vec::new();
        for namespace in Namespace::ALL
            .into_iter()
            .filter(|space| wanted(space.name()))
        {
            taken.push(namespace.enter());
        }
        let Some(child) = fork()? else {
            attacks::prepare(&wanted)?;
            for step in Step::ALL.into_iter().filter(|step| wanted(step.name())) {
                taken.push(step.take());
            }
            let result = inside(&taken, &mut stream);
            kernel::leave(i32::from(result.is_err()));
        };
        drop(stream);
        let ended = wait(child)?;
        kernel::leave(ended.encode());
    };
    drop(stream);
    let mut report = String::new();
    outside.read_to_string(&mut report)?;
    Ok((report, Ended::decode(wait(launcher)?)))
}

fn json(measure: &Measure) -> String {
    format!(
        "{{\"name\": {:?}, \"active\": {}, \"detail\": {:?}}}",
        measure.name, measure.active, measure.detail
    )
}

/// Used by `works`: a process under everything, with a stream to the outside.
fn confined(
    inside: impl FnOnce(&mut UnixStream) -> io::Result<()>,
) -> io::Result<(UnixStream, u32)> {
    let (outside, mut stream) = UnixStream::pair()?;
    let Some(launcher) = fork()? else {
        drop(outside);
        let _reported = confine::enter_namespaces();
        let Some(child) = fork()? else {
            let _reported = confine::confine();
            let result = inside(&mut stream);
            if let Err(error) = &result {
                let _best_effort = writeln!(io::stderr(), "inside: {error}");
            }
            kernel::leave(i32::from(result.is_err()));
        };
        drop(stream);
        kernel::leave(wait(child)?.encode());
    };
    Ok((outside, launcher))
}
