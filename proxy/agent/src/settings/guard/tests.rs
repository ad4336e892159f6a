//! The `guard:` block: what it means, and what is wrong with it.

use super::*;
use crate::settings::file::File;

fn parsed(block: &str) -> Result<GuardSettings, SettingsError> {
    let serving = ["80", "443", "127.0.0.1:8443", "0.0.0.0:9443"];
    let serving = serving.map(|address| address.parse().unwrap());
    let file = File::parse(&format!("guard: {block}\n")).unwrap();
    guard(&file.guard.unwrap(), &serving)
}

fn only_listener(block: &str) -> GuardListener {
    let mut guard = parsed(block).unwrap();
    assert_eq!(guard.listeners.len(), 1);
    guard.listeners.remove(0)
}

fn limit(rate: u32, burst: u32) -> Option<SynLimit> {
    let rate = NonZeroU32::new(rate)?;
    NonZeroU32::new(burst).map(|burst| SynLimit { rate, burst })
}

#[test]
fn every_key_arrives() {
    let guard = parsed(
        "
  interfaces: [eth0, wlan0, eth0]
  mode: native
  listeners:
    - port: 443
      synRate: 50
      synBurst: 70
      deny: [192.0.2.0/24, '2001:db8::/32', 198.51.100.7]
      allow: 192.0.2.7/32
      default: deny
",
    )
    .unwrap();
    assert_eq!(guard.interfaces, ["eth0", "wlan0"]);
    assert_eq!(guard.mode, GuardMode::Native);
    let [listener] = guard.listeners.as_slice() else {
        panic!("{guard:?}")
    };
    assert_eq!(listener.address, ListenAddress::Port(443));
    assert_eq!(listener.syn, limit(50, 70));
    assert_eq!(listener.default, GuardVerdict::Deny);
    let verdict = |net: &str| {
        let net: IpNet = net.parse().unwrap();
        let found = listener.rules.iter().find(|(other, _)| *other == net);
        found.map(|(_, verdict)| *verdict)
    };
    assert_eq!(listener.rules.len(), 4);
    assert_eq!(verdict("192.0.2.0/24"), Some(GuardVerdict::Deny));
    assert_eq!(verdict("2001:db8::/32"), Some(GuardVerdict::Deny));
    assert_eq!(verdict("198.51.100.7/32"), Some(GuardVerdict::Deny));
    assert_eq!(verdict("192.0.2.7/32"), Some(GuardVerdict::Allow));
}

#[test]
fn what_is_not_written_is_usual() {
    let guard = parsed("{listeners: [{port: 80, synRate: 50}]}").unwrap();
    assert!(guard.interfaces.is_empty());
    assert_eq!(guard.mode, GuardMode::Auto);
    let listener = only_listener("{listeners: [{port: 80, synRate: 50}]}");
    assert_eq!(listener.syn, limit(50, 100));
    assert_eq!(listener.default, GuardVerdict::Allow);
    assert!(listener.rules.is_empty());
    let most = only_listener("{listeners: [{port: 80, synRate: 4294967295}]}");
    assert_eq!(most.syn, limit(u32::MAX, u32::MAX));
}

#[test]
fn a_prefix_that_is_written_twice_is_one_rule() {
    let block = "{listeners: [{port: 80, deny: [192.0.2.7, 192.0.2.7/32]}]}";
    assert_eq!(only_listener(block).rules.len(), 1);
}

#[test]
fn an_entry_names_listeners_by_port_or_address() {
    let address = |key: &str| {
        only_listener(&format!("{{listeners: [{{{key}, synRate: 1}}]}}"))
            .address
            .to_string()
    };
    assert_eq!(address("port: 443"), "443");
    assert_eq!(address("port: 8443"), "127.0.0.1:8443");
    assert_eq!(address("port: 9443"), "0.0.0.0:9443");
    assert_eq!(address("address: '203.0.113.7:443'"), "203.0.113.7:443");
    assert_eq!(address("address: '[2001:db8::7]:443'"), "[2001:db8::7]:443");
    assert_eq!(address("address: '127.0.0.1:8443'"), "127.0.0.1:8443");
    assert_eq!(address("address: '203.0.113.7:9443'"), "203.0.113.7:9443");
}

#[test]
fn several_listeners_of_a_port_share_the_rules() {
    let file = File::parse("guard: {listeners: [{port: 443, synRate: 5}]}").unwrap();
    let serving = ["127.0.0.1:443", "[::1]:443", "80"].map(|address| address.parse().unwrap());
    let guard = guard(&file.guard.unwrap(), &serving).unwrap();
    let addresses: Vec<_> = guard
        .listeners
        .iter()
        .map(|listener| listener.address)
        .collect();
    assert_eq!(addresses, serving[..2]);
    assert!(
        guard
            .listeners
            .iter()
            .all(|listener| listener.syn == limit(5, 10))
    );
}

#[test]
fn two_addresses_of_a_port_may_have_rules_of_their_own() {
    let guard = parsed(
        "{listeners: [{address: '203.0.113.7:443', synRate: 1}, {address: '203.0.113.8:443', synRate: 2}]}",
    );
    assert_eq!(guard.unwrap().listeners.len(), 2);
}

#[test]
fn an_error_names_key_value_and_remedy() {
    let wrong: [(&str, &[&str]); 20] = [
        ("{}", &["guard.listeners", "port: 443"]),
        ("{listeners: []}", &["guard.listeners", "port: 443"]),
        (
            "{interfaces: [eth0/1], listeners: [{port: 80, synRate: 1}]}",
            &["guard.interfaces", "eth0/1", "ip link"],
        ),
        (
            "{interfaces: [a-name-of-16-byte], listeners: [{port: 80, synRate: 1}]}",
            &["guard.interfaces", "a-name-of-16-byte", "15 bytes"],
        ),
        (
            "{mode: driver, listeners: [{port: 80, synRate: 1}]}",
            &["guard.mode", "driver", "native"],
        ),
        (
            "{listeners: [{synRate: 1}]}",
            &["guard.listeners[0]", "either port or address"],
        ),
        (
            "{listeners: [{port: 80, address: '127.0.0.1:80', synRate: 1}]}",
            &["guard.listeners[0]", "either port or address"],
        ),
        (
            "{listeners: [{port: 81, synRate: 1}]}",
            &["guard.listeners[0].port", "\"81\"", "80, 443", "http"],
        ),
        (
            "{listeners: [{address: '127.0.0.2:8443', synRate: 1}]}",
            &["guard.listeners[0].address", "127.0.0.2:8443", "443"],
        ),
        (
            "{listeners: [{address: '[::1]:9443', synRate: 1}]}",
            &["guard.listeners[0].address", "[::1]:9443", "0.0.0.0:9443"],
        ),
        (
            "{listeners: [{address: example.com, synRate: 1}]}",
            &["guard.listeners[0].address", "example.com", "IP:PORT"],
        ),
        (
            "{listeners: [{port: 80, synRate: 0}]}",
            &["guard.listeners[0].synRate", "\"0\"", "from 1", "leave"],
        ),
        (
            "{listeners: [{port: 80, synRate: 1, synBurst: 0}]}",
            &["guard.listeners[0].synBurst", "\"0\"", "from 1"],
        ),
        (
            "{listeners: [{port: 80, synBurst: 9}]}",
            &["guard.listeners[0].synBurst", "9", "give synRate"],
        ),
        (
            "{listeners: [{port: 80, synRate: 1}, {port: 443, deny: [192.0.2.7/24]}]}",
            &[
                "guard.listeners[1].deny",
                "192.0.2.7/24",
                "192.0.2.0/24",
                "192.0.2.7/32",
            ],
        ),
        (
            "{listeners: [{port: 80, allow: ['::ffff:192.0.2.0/120']}]}",
            &["guard.listeners[0].allow", "write 192.0.2.0/24"],
        ),
        (
            "{listeners: [{port: 80, deny: [192.0.2.7], allow: [192.0.2.7/32]}]}",
            &["guard.listeners[0]", "192.0.2.7/32", "take it out"],
        ),
        (
            "{listeners: [{port: 80, default: drop}]}",
            &["guard.listeners[0].default", "drop", "allow or deny"],
        ),
        (
            "{listeners: [{port: 80, allow: [192.0.2.7]}]}",
            &["guard.listeners[0]", "keeps nothing out", "synRate"],
        ),
        (
            "{listeners: [{port: 443, synRate: 1}, {address: '127.0.0.1:443', synRate: 1}]}",
            &["guard.listeners[1]", "127.0.0.1:443", "one entry"],
        ),
    ];
    for (block, parts) in wrong {
        let error = parsed(block).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("{block} was taken"));
        for part in parts {
            assert!(error.contains(part), "{block}: {error}");
        }
    }
}

#[test]
fn a_part_of_an_address_is_no_second_listener() {
    let block =
        "{listeners: [{port: 9443, synRate: 1}, {address: '203.0.113.7:9443', synRate: 1}]}";
    let error = parsed(block).unwrap_err().to_string();
    assert!(error.contains("0.0.0.0:9443"), "{error}");
}

#[test]
fn an_unknown_key_is_refused() {
    let error = File::parse("guard: {listeners: [{port: 80, synrate: 1}]}").unwrap_err();
    assert!(
        error.contains("synrate") && error.contains("synRate"),
        "{error}"
    );
}
