//! One bridge that nodes, pods and the control plane share: a flat network of its own for every testbed.
//!
//! It is 10.S.0.0/16 with an S that nothing else here uses: 10.S.0.K is node K, 10.S.K.* are the addresses of the pods
//! on it, and 10.S.255.254 is the bridge itself, where this machine and the control plane are.

use std::env;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tidegate_testbed_inside::sweep::{Folder, sweep};

use crate::run;

/// How the names of all testbeds begin.
const PREFIX: &str = "tgt";
/// What a bridge's alias begins with; the process that owns the testbed and the folder follow.
const OWNED: &str = "tidegate-testbed";
/// The most nodes that fit in the plan of addresses.
pub(crate) const MOST_NODES: u8 = 250;

/// The network of a testbed.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// The testbed's name, which is that of the bridge as well.
    pub(crate) name: String,
    /// The second byte of all its addresses.
    second: u8,
}

/// An interface as `ip -json` shows it.
#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    ifalias: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    local: String,
}

/// A route as `ip -json` shows it.
#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
}

impl Network {
    /// Makes the bridge. What testbeds left whose owners are dead goes first.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let lock = File::create(env::temp_dir().join("tidegate-testbed.lock"))?;
        lock.lock().context("cannot lock the choice of a network")?;
        remove_orphans()?;
        let second = free_network()?;
        let name = format!("{PREFIX}{second:03}");
        let network = Self { name, second };
        network.make_bridge(folder)?;
        Ok(network)
    }

    fn make_bridge(&self, folder: &Path) -> Result<()> {
        let (name, gateway) = (&self.name, self.gateway());
        let owner = Owner::this();
        let (process, started, folder) = (owner.process, owner.started, folder.display());
        let batch = format!(
            "link add {name} type bridge\n\
             address add {gateway}/16 dev {name}\n\
             link set {name} alias \"{OWNED} {process} {started} {folder}\"\n\
             link set {name} up\n"
        );
        run::feed(Command::new("ip").args(["-batch", "-"]), &batch)?;
        Ok(())
    }

    /// The address of the bridge.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, 255, 254)
    }

    /// The address of a node; the first one is 1.
    pub(crate) fn node(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, 0, number)
    }

    /// An address of a pod.
    pub(crate) fn pod(&self, node: u8, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, node, number)
    }

    /// Gives a process's network namespace an interface on the bridge. The port names it, unique within the testbed.
    pub(crate) fn connect(&self, port: &str, process: u32, address: Ipv4Addr) -> Result<()> {
        let (name, gateway) = (&self.name, self.gateway());
        let outside = format!(
            "link add {name}-{port} type veth peer name eth0 netns {process}\n\
             link set {name}-{port} master {name} up\n"
        );
        run::feed(Command::new("ip").args(["-batch", "-"]), &outside)?;
        let inside = format!(
            "link set lo up\n\
             address add {address}/16 dev eth0\n\
             link set eth0 up\n\
             route add default via {gateway}\n"
        );
        let mut enter = Command::new("nsenter");
        enter.args(["--net", "--target", &process.to_string()]);
        run::feed(enter.args(["ip", "-batch", "-"]), &inside)?;
        Ok(())
    }
}

/// The process that a testbed belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    process: u32,
    /// When it started, in clock ticks after the machine did: process ids come again.
    started: u64,
}

impl Owner {
    fn this() -> Self {
        let process = std::process::id();
        Self {
            process,
            started: started(process).unwrap_or_default(),
        }
    }

    fn is_alive(self) -> bool {
        started(self.process) == Some(self.started)
    }
}

/// Field 22 of proc_pid_stat(5).
fn started(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Removes what is left of testbeds whose owner is no more, and gives their names.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_orphans() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for bridge in interfaces()? {
        let mut words = bridge.ifalias.splitn(4, ' ');
        if words.next() != Some(OWNED) || !bridge.ifname.starts_with(PREFIX) {
            continue;
        }
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        let (process, started) = (number(words.next()), number(words.next()));
        let (Some(process), Some(started)) = (process, started) else {
            continue;
        };
        let owner = Owner {
            process: u32::try_from(process).unwrap_or_default(),
            started,
        };
        if !owner.is_alive() {
            let folder = Path::new(words.next().unwrap_or_default());
            sweep(&bridge.ifname, folder, Folder::Remove).map_err(anyhow::Error::msg)?;
            removed.push(bridge.ifname);
        }
    }
    Ok(removed)
}

/// A second byte that no address and no route of this machine has after a 10.
fn free_network() -> Result<u8> {
    let routes =
        run::output(Command::new("ip").args(["-json", "-4", "route", "show", "table", "all"]))?;
    let routes: Vec<Route> = serde_json::from_str(&routes).context("cannot read the routes")?;
    let mut taken: Vec<u8> = routes
        .iter()
        .filter_map(|route| second(&route.dst))
        .collect();
    for interface in interfaces()? {
        let addresses = interface.addr_info.iter();
        taken.extend(addresses.filter_map(|address| second(&address.local)));
    }
    // Away from the low numbers that people choose.
    match (100..=250).find(|candidate| !taken.contains(candidate)) {
        Some(found) => Ok(found),
        None => bail!("no network 10.100.0.0/16 to 10.250.0.0/16 is free on this machine"),
    }
}

fn second(address: &str) -> Option<u8> {
    address.strip_prefix("10.")?.split('.').next()?.parse().ok()
}

fn interfaces() -> Result<Vec<Interface>> {
    let text = run::output(Command::new("ip").args(["-json", "address", "show"]))?;
    serde_json::from_str(&text).context("cannot read the network interfaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_of_addresses() {
        let network = Network {
            name: "tgt101".to_owned(),
            second: 101,
        };
        assert_eq!(network.node(2), Ipv4Addr::new(10, 101, 0, 2));
        assert_eq!(network.pod(2, 9), Ipv4Addr::new(10, 101, 2, 9));
        assert_eq!(network.gateway(), Ipv4Addr::new(10, 101, 255, 254));
    }

    #[test]
    fn only_networks_below_10_are_taken() {
        assert_eq!(second("10.7.0.0/16"), Some(7));
        assert_eq!(second("10.200.1.1"), Some(200));
        assert_eq!(second("default"), None);
        assert_eq!(second("192.168.10.1"), None);
    }

    #[test]
    fn an_owner_is_known_by_its_start() {
        let owner = Owner::this();
        assert!(owner.is_alive());
        let namesake = Owner {
            started: owner.started + 1,
            ..owner
        };
        assert!(!namesake.is_alive());
    }
}
