//! Answers of endpoints, which are read as strictly as requests: what cannot be trusted is 502, what breaks off is cut,
//! and in both cases the connection carries nothing more.

mod cases;

use std::sync::Condvar;
use std::time::Duration;

use super::*;

struct Answered {
    id: &'static str,
    method: &'static str,
    /// Sent with a pause between them.
    pieces: Vec<Vec<u8>>,
    /// Whether the endpoint closes then.
    ending: Ending,
    /// Whether the case is the same when the bytes come one by one.
    pace: Pace,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Stays,
    Closes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Any,
    /// What comes in one piece is seen in one piece.
    AtOnce,
}

/// What becomes of an answer.
#[derive(Clone, Copy)]
enum Outcome {
    /// 502, and the connection is not used again.
    Bad,
    /// The client can tell that it is not whole, and the connection is not used again.
    Cut,
    Passes(Passed),
}

#[derive(Clone, Copy)]
struct Passed {
    status: u16,
    body: &'static str,
    trailers: &'static str,
    /// Fields that reach the client, or do not.
    fields: &'static [(&'static str, Option<&'static str>)],
    then: Then,
}

/// What becomes of the endpoint's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Reused,
    Dropped,
}

const PAUSE: Duration = Duration::from_millis(50);

fn all() -> Vec<Answered> {
    let tables = [
        cases::heads(),
        cases::framings(),
        cases::cuts(),
        cases::passing(),
    ];
    tables.into_iter().flatten().collect()
}

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let row = |case: &Answered| {
        let outcome = match case.outcome {
            Outcome::Bad => "502",
            Outcome::Cut => "cut",
            Outcome::Passes(_) => "passes",
        };
        (case.id, outcome.to_owned())
    };
    all().iter().map(row).collect()
}

/// What the endpoint saw and did.
#[derive(Clone, Default)]
struct Asked(Arc<(Mutex<Log>, Condvar)>);

#[derive(Default)]
struct Log {
    /// On which connection a target was asked for.
    targets: Vec<(usize, String)>,
    /// Answers that were written to their end, as far as the connection took them.
    written: usize,
}

impl Asked {
    fn note(&self, number: usize, target: &str) {
        self.log().targets.push((number, target.to_owned()));
    }

    fn note_written(&self) {
        self.log().written += 1;
        self.0.1.notify_all();
    }

    /// Waits until the first answer is out: what the endpoint sends too late for one answer must not meet the next
    /// request on its way, which no proxy could tell from an answer to it.
    fn until_written(&self) {
        let limit = Duration::from_secs(10);
        let is_missing = |log: &mut Log| log.written == 0;
        drop(self.0.1.wait_timeout_while(self.log(), limit, is_missing));
    }

    fn take(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut *self.log()).targets
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.0.lock().unwrap()
    }
}

/// Answers `/ID` as its case tells, `/ID/slowly` the same byte by byte, and any other with its target.
fn endpoint(asked: &Asked) -> Backend {
    let (asked, cases) = (asked.clone(), all());
    Backend::raw(move |mut stream, number| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_message(&mut reader) {
            let target = target(&request).to_owned();
            asked.note(number, &target);
            let mut words = target.split('/').skip(1);
            let Some(case) = words
                .next()
                .and_then(|id| cases.iter().find(|case| case.id == id))
            else {
                let _ = stream.write_all(ok(&target).as_bytes());
                continue;
            };
            let size = if words.next().is_some() {
                1
            } else {
                usize::MAX
            };
            for (index, piece) in case.pieces.iter().enumerate() {
                if index > 0 {
                    std::thread::sleep(PAUSE);
                }
                let mut written = piece.chunks(size).map(|part| stream.write_all(part));
                let _ = written.find(Result::is_err);
            }
            asked.note_written();
            if case.ending == Ending::Closes {
                return;
            }
        }
    })
}

/// What the client got: the final answer, if it was whole, and the end of the connection.
fn read_answer(client: &mut Client, method: &str) -> Option<Response> {
    loop {
        let answer = match method {
            "HEAD" => client.response_without_body(),
            _ => read_message(&mut client.reader)?,
        };
        if !(100..200).contains(&answer.status()) {
            return Some(answer).filter(|_| client.rest().is_empty());
        }
    }
}

fn check(gate: &Gate, asked: &Asked, case: &Answered, suffix: &str) -> Result<(), String> {
    let Answered { id, method, .. } = case;
    let mut client = gate.client();
    client.send(&format!("{method} /{id}{suffix} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"));
    let answer = read_answer(&mut client, method);
    asked.until_written();
    same("the next answer", &gate.ask(GOOD).text(), "/good")?;
    let asked = asked.take();
    let [(first, _), (second, _)] = &asked[..] else {
        return Err(format!("not asked once each: {asked:?}"));
    };
    let then = if first == second {
        Then::Reused
    } else {
        Then::Dropped
    };
    let wanted = match case.outcome {
        Outcome::Bad => {
            let status = answer.as_ref().map(Response::status);
            same("the status", &format!("{status:?}"), "Some(502)")?;
            Then::Dropped
        }
        Outcome::Cut if answer.is_none() => Then::Dropped,
        Outcome::Cut => return Err(format!("looks whole: {answer:?}")),
        Outcome::Passes(passed) => {
            passed.check(&answer.ok_or("not whole")?)?;
            passed.then
        }
    };
    same(
        "the connection",
        &format!("{then:?}"),
        &format!("{wanted:?}"),
    )
}

impl Passed {
    fn check(&self, answer: &Response) -> Result<(), String> {
        same(
            "the status",
            &answer.status().to_string(),
            &self.status.to_string(),
        )?;
        same("the body", &answer.text(), self.body)?;
        same(
            "the trailers",
            answer.trailers.to_lowercase().trim(),
            self.trailers,
        )?;
        for (name, value) in self.fields {
            let found = answer.field(name);
            same(
                name,
                &format!("{:?}", found.as_deref()),
                &format!("{value:?}"),
            )?;
        }
        Ok(())
    }
}

#[test]
fn each_is_answered_502_or_cut_or_passes_clean() {
    let asked = Asked::default();
    let backend = endpoint(&asked);
    let gate = Gate::start(everything_to(backend.address));
    let mut failures = Vec::new();
    for case in all() {
        let is_short = case.pieces.iter().all(|piece| piece.len() <= SHORT);
        let suffixes: &[&str] = match case.pace {
            Pace::Any if is_short => &["", "/slowly"],
            _ => &[""],
        };
        for suffix in suffixes {
            asked.take();
            if let Err(why) = check(&gate, &asked, &case, suffix) {
                failures.push(format!("{}{suffix}: {why}", case.id));
            }
        }
    }
    none_failed(&failures);
}

#[test]
fn what_an_endpoint_says_unasked_is_nobodys_answer() {
    // Between two requests the endpoint sends an answer that nobody asked for; the next client must not get it.
    let asked = Asked::default();
    let seen = asked.clone();
    let backend = Backend::raw(move |mut stream, number| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_message(&mut reader) {
            let target = target(&request).to_owned();
            let _ = stream.write_all(ok(&target).as_bytes());
            seen.note(number, &target);
            std::thread::sleep(PAUSE);
            let _ = stream.write_all(ok("unasked").as_bytes());
        }
    });
    let gate = Gate::start(everything_to(backend.address));
    for _ in 0..5 {
        assert_eq!(gate.ask(GOOD).text(), "/good");
        std::thread::sleep(PAUSE * 3);
    }
    let numbers: Vec<usize> = asked.take().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}
