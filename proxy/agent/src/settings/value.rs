//! Values as people write them, on the command line and in the settings file alike. Errors are ends of a sentence that
//! names the key and the value.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tidegate_controller::inventory::PublishedAddress;
use tidegate_controller::translate::{PortRef, Selector, SelectorError, ServicePort};
use tidegate_dataplane::ListenAddress;
use tidegate_model::{Hostname, NamespacedName, RedirectMode};

use super::source::NodeAddresses;

/// An address to listen on, or the wish not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// `off`
    Off,
    /// `PORT` or `HOST:PORT`
    On(ListenAddress),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A YAML reader may take `off` for a boolean.
        match text {
            "off" | "false" => Ok(Self::Off),
            _ => text.parse().map(Self::On).map_err(|_| {
                "write PORT (every address, IPv4 and IPv6), IP:PORT such as 127.0.0.1:8080 or [::1]:8080, or off"
                    .to_owned()
            }),
        }
    }
}

/// The addresses of a list in which `off` may stand alone.
pub(crate) fn addresses(list: &[Listen]) -> Result<Vec<ListenAddress>, String> {
    let on: Vec<_> = list
        .iter()
        .filter_map(|listen| match listen {
            Listen::Off => None,
            Listen::On(address) => Some(*address),
        })
        .collect();
    if !on.is_empty() && on.len() < list.len() {
        return Err("off stands beside addresses; write either off or addresses".to_owned());
    }
    Ok(on)
}

/// A time such as `10s`, `500ms`, `1m30s`, `2h` or `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const REMEDY: &str = "write a number and a unit (ms, s, m, h, d), such as 10s, 500ms or 1m30s";
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| REMEDY.to_owned())?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(REMEDY.to_owned()),
        };
        let part = number.checked_mul(factor).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or("it is too long")?;
        rest = tail;
    }
    match total.is_zero() {
        true if text.is_empty() => Err(REMEDY.to_owned()),
        true => Err("it must be longer than nothing".to_owned()),
        false => Ok(total),
    }
}

/// Seconds as a plain number, or a time with units.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number) => Ok(Duration::from_secs(number)),
        Err(_) => {
            duration(text).map_err(|_| "write seconds, such as 30, or a time such as 1m30s".into())
        }
    }
}

/// `namespace/name`
pub(crate) fn namespaced_name(text: &str) -> Result<NamespacedName, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(NamespacedName::new(namespace, name))
        }
        _ => Err("write NAMESPACE/NAME, such as ingress/default-tls".to_owned()),
    }
}

/// A number or the name of a port (a name has at least one letter, RFC 6335 section 5.1).
pub(crate) fn port_ref(text: &str) -> Result<PortRef, String> {
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Ok(PortRef::Name(text.to_owned()));
    }
    port(text).map(PortRef::Number).map_err(|_| {
        "write a port from 1 to 65535, or the name of a port of the Service".to_owned()
    })
}

/// `namespace/name:port`
pub(crate) fn service_port(text: &str) -> Result<ServicePort, String> {
    let (service, port) = text
        .rsplit_once(':')
        .ok_or("write NAMESPACE/NAME:PORT, such as ingress/not-found:80")?;
    Ok(ServicePort {
        service: namespaced_name(service)?,
        port: port_ref(port)?,
    })
}

/// An IP address, or a name that DNS knows.
pub(crate) fn published_address(text: &str) -> Result<PublishedAddress, String> {
    if let Ok(address) = text.parse() {
        return Ok(PublishedAddress::Ip(address));
    }
    match Hostname::parse(text) {
        Ok(_) => Ok(PublishedAddress::Hostname(text.to_owned())),
        Err(error) => Err(format!(
            "{error}; write an IP address or a DNS name, such as 203.0.113.7 or edge.example.com"
        )),
    }
}

/// `internal` or `external`
pub(crate) fn node_addresses(text: &str) -> Result<NodeAddresses, String> {
    match text {
        "internal" => Ok(NodeAddresses::Internal),
        "external" => Ok(NodeAddresses::External),
        _ => Err("write internal or external".to_owned()),
    }
}

/// An IP address without a port.
pub(crate) fn ip(text: &str) -> Result<std::net::IpAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address without a port, such as 10.0.0.7 or fd00::7".to_owned())
}

/// A label selector, written as for `kubectl get -l`.
pub(crate) fn selector(text: &str) -> Result<Selector, String> {
    text.parse()
        .map_err(|error: SelectorError| error.to_string())
}

/// A time as the file has it.
pub(super) fn written(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// `tls-hosts`, `all` or `none`
pub(crate) fn redirect_mode(text: &str) -> Result<RedirectMode, String> {
    match text {
        "tls-hosts" => Ok(RedirectMode::TlsHosts),
        "all" => Ok(RedirectMode::All),
        "none" => Ok(RedirectMode::None),
        _ => Err("write tls-hosts, all or none".to_owned()),
    }
}

/// A status with which a redirect can be answered.
pub(crate) fn redirect_status(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(status @ (301 | 302 | 303 | 307 | 308)) => Ok(status),
        _ => Err("write 301, 302, 303, 307 or 308".to_owned()),
    }
}

/// A TCP port, not 0.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err("write a port from 1 to 65535".to_owned()),
    }
}

/// A network or a single address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse().map(|address: std::net::IpAddr| address.into());
    text.parse()
        .or_else(|_| single())
        .map_err(|_| "write a network such as 10.0.0.0/8 or fd00::/8, or an address".to_owned())
}

/// A name server: an address, with the port when it is not 53.
pub(crate) fn name_server(text: &str) -> Result<std::net::SocketAddr, String> {
    let without_port = || {
        text.parse()
            .map(|address: std::net::IpAddr| std::net::SocketAddr::new(address, 53))
    };
    text.parse().or_else(|_| without_port()).map_err(|_| {
        "write the address of a name server, such as 10.96.0.10 or [fd00::a]:53".into()
    })
}

/// `true` or `false`
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

/// Anything but nothing.
pub(crate) fn text(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("it must not be empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// A file or folder.
pub(crate) fn path(path: &str) -> Result<PathBuf, String> {
    text(path).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "10", "s", "10 s", "-1s", "1.5s", "0s", "10parsecs"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("99999999999999999999s").is_err());
        assert!(duration("18446744073709551615h").is_err());
        assert_eq!(seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("1m"), Ok(Duration::from_secs(60)));
    }

    #[test]
    fn services_and_their_ports() {
        let parsed = service_port("ingress/not-found:http");
        assert_eq!(
            parsed.map(|found| (found.service.to_string(), found.port)),
            Ok(("ingress/not-found".into(), PortRef::Name("http".into())))
        );
        assert_eq!(port_ref("8080"), Ok(PortRef::Number(8080)));
        for wrong in [
            "a/b",
            "a:80",
            "/b:80",
            "a/:80",
            "a/b:0",
            "a/b:65536",
            "a/b/c:80",
        ] {
            assert!(service_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_and_name_servers() {
        assert_eq!(network("10.0.0.7"), Ok("10.0.0.7/32".parse().unwrap()));
        assert!(network("10.0.0.0/33").is_err());
        assert_eq!(
            name_server("10.96.0.10"),
            Ok("10.96.0.10:53".parse().unwrap())
        );
        assert_eq!(name_server("fd00::a"), Ok("[fd00::a]:53".parse().unwrap()));
        assert!(name_server("dns.example.com").is_err());
    }

    #[test]
    fn off_stands_alone() {
        assert_eq!(addresses(&[Listen::Off]), Ok(Vec::new()));
        let port = ListenAddress::Port(80);
        assert_eq!(addresses(&[Listen::On(port)]), Ok(vec![port]));
        assert!(addresses(&[Listen::Off, Listen::On(port)]).is_err());
    }
}
