//! Waits until every authoritative server of a zone has a record.

use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::time::Instant;

use super::authority::{NameServer, Place, ask};
use super::exchange::ExchangeError;

/// From one round of questions to the next; the last goes on.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// What a server was last seen to have.
#[derive(Debug)]
enum Sight {
    /// The value.
    Has,
    /// This node cannot reach an address of that family, so it cannot tell and does not wait for it.
    NoRoute,
    /// Not the value, and why it is thought so.
    Lacks(String),
}

/// Waits until every server has the value, at the latest until `deadline`.
///
/// # Errors
/// The servers that lack it then, as text.
pub(super) async fn wait(place: &Place, value: &str, deadline: Instant) -> Result<(), String> {
    let mut waiting: Vec<&NameServer> = place.servers.iter().collect();
    let mut have = 0;
    let mut pauses = PAUSES.iter();
    let mut pause = Duration::ZERO;
    loop {
        let looks = waiting.iter().map(|server| look(server, place, value));
        let sights = join_all(looks).await;
        let mut lacking = Vec::new();
        let mut unreachable = Vec::new();
        let mut still = Vec::new();
        for (server, sight) in waiting.into_iter().zip(sights) {
            match sight {
                Sight::Has => {
                    have += 1;
                    continue;
                }
                Sight::NoRoute => {
                    unreachable.push(format!("{server}: this node has no route to it"));
                }
                Sight::Lacks(why) => lacking.push(format!("{server}: {why}")),
            }
            still.push(server);
        }
        if lacking.is_empty() && have > 0 {
            return Ok(());
        }
        waiting = still;
        pause = pauses.next().copied().unwrap_or(pause);
        if Instant::now() + pause >= deadline {
            lacking.extend(unreachable);
            return Err(lacking.join(", "));
        }
        tokio::time::sleep(pause).await;
    }
}

async fn look(server: &NameServer, place: &Place, value: &str) -> Sight {
    let answer = match ask(server, &place.record, RecordType::TXT).await {
        Ok(answer) => answer,
        Err(ExchangeError::NoRoute) => return Sight::NoRoute,
        Err(error) => return Sight::Lacks(error.to_string()),
    };
    let has_value =
        |record: &Record| record.name == place.record && is_text(&record.data, value.as_bytes());
    match answer.response_code {
        _ if answer.answers.iter().any(has_value) => Sight::Has,
        ResponseCode::NXDomain => Sight::Lacks("it has no such record".to_owned()),
        ResponseCode::NoError if answer.answers.is_empty() => {
            Sight::Lacks("it has no such record".to_owned())
        }
        ResponseCode::NoError => Sight::Lacks("it has only other values".to_owned()),
        code => Sight::Lacks(format!("it answers {code}")),
    }
}

/// Whether the strings of a TXT record, one after another, are this text (RFC 8555 section 8.4).
fn is_text(data: &RData, text: &[u8]) -> bool {
    match data {
        RData::TXT(txt) => txt.txt_data.concat() == text,
        _ => false,
    }
}
