//! Network interfaces, and those that lead to the rest of the world.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use super::Cause;

/// The kernel's routes, as seen from the thread's network namespace: one a line, numbers in hexadecimal.
const ROUTES_V4: &str = "/proc/thread-self/net/route";
const ROUTES_V6: &str = "/proc/thread-self/net/ipv6_route";

/// `RTF_UP` and `RTF_REJECT` of the kernel's `route.h`.
const UP: u32 = 0x0001;
const REJECT: u32 = 0x0200;

/// A network interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    name: String,
    index: u32,
}

impl Interface {
    /// Asks the kernel.
    pub(super) fn named(name: &str) -> io::Result<Self> {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)
            .or_else(|_| socket(AddressFamily::UNIX, SocketType::DGRAM, None))?;
        Ok(Self {
            name: name.to_owned(),
            index: netdevice::name_to_index(any, name)?,
        })
    }

    /// Its number, which no other interface of the namespace has or had.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Those that are named, or else those that have a default route.
pub(super) fn chosen(named: &[String]) -> Result<Vec<String>, Cause> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let v4 = read(ROUTES_V4).map_err(Cause::Routes)?;
    let v6 = read(ROUTES_V6).map_err(Cause::Routes)?;
    let found: BTreeSet<&str> = v4
        .lines()
        .filter_map(default_v4)
        .chain(v6.lines().filter_map(default_v6))
        .collect();
    match found.is_empty() {
        true => Err(Cause::NoInterface),
        false => Ok(found.into_iter().map(str::to_owned).collect()),
    }
}

/// Empty when the kernel lacks the family.
fn read(path: &str) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT`
fn default_v4(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (interface, destination, flags, mask) =
        (words.first()?, words.get(1)?, words.get(3)?, words.get(7)?);
    let default = *destination == "00000000" && *mask == "00000000";
    (default && leads_somewhere(flags)).then_some(*interface)
}

/// `destination length source length gateway metric references use flags interface`
fn default_v6(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (destination, length, flags, interface) =
        (words.first()?, words.get(1)?, words.get(8)?, words.get(9)?);
    let default = destination.bytes().all(|digit| digit == b'0') && *length == "00";
    (default && *interface != "lo" && leads_somewhere(flags)).then_some(*interface)
}

fn leads_somewhere(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & (UP | REJECT) == UP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_names_its_interface() {
        assert_eq!(
            default_v4("eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0"),
            Some("eth0")
        );
        let others = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
            "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0",
            "",
        ];
        for line in others {
            assert_eq!(default_v4(line), None, "{line}");
        }
    }

    #[test]
    fn a_default_route_of_ipv6_is_not_the_one_that_refuses() {
        let line = |flags: &str, interface: &str| {
            let zero = "0".repeat(32);
            format!(
                "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 {flags} {interface}"
            )
        };
        assert_eq!(default_v6(&line("00000003", "wan0")), Some("wan0"));
        assert_eq!(default_v6(&line("00200200", "lo")), None);
        assert_eq!(default_v6(&line("00200200", "wan0")), None);
        let network = "20010db8000000000000000000000000 40 0 00 0 0 0 0 00000001 wan0";
        assert_eq!(default_v6(network), None);
    }
}
