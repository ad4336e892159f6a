//! Connections through a veth pair, with the guard in the driver and behind it.

use tidegate::Guard;
use tidegate::settings::GuardMode;

use crate::client::{connects, serve};
use crate::namespace::{
    Namespace, ONE_V4, ONE_V6, OTHER_V4, OTHER_V6, SERVER, SERVER_V4, Wire, ip,
};
use crate::settings::{NO_PATIENCE, Rules, guard, listener, packets, state};

const GUARDED: u16 = 8443;
const FREE: u16 = 8080;

#[test]
fn denied_sources_get_no_connection_and_others_do() {
    for (mode, word) in [(GuardMode::Auto, "native"), (GuardMode::Generic, "generic")] {
        let wire = Wire::new();
        serve(&wire, &[GUARDED, FREE]);
        let listener = listener(&GUARDED.to_string())
            .deny(&format!("{ONE_V4}/32"))
            .deny("2001:db8:77::/64");
        let settings = guard(SERVER, mode, &[listener]);
        let guard = wire
            .server
            .run(move || Guard::start(&settings, None, NO_PATIENCE).unwrap());
        assert_eq!(state(&guard, SERVER), word);
        for (denied, allowed) in [(ONE_V4, OTHER_V4), (ONE_V6, OTHER_V6)] {
            assert!(!connects(&wire, denied, GUARDED), "{word}: {denied}");
            assert!(connects(&wire, allowed, GUARDED), "{word}: {allowed}");
            assert!(connects(&wire, denied, FREE), "{word}: another port");
        }
        assert!(packets(&guard, "denied") >= 2);
        guard.remove();
        assert!(connects(&wire, ONE_V4, GUARDED), "{word}: removed");
        assert!(connects(&wire, ONE_V6, GUARDED), "{word}: removed");
    }
}

#[test]
fn the_interface_of_the_default_route_is_the_one_that_is_guarded() {
    let wire = Wire::new();
    serve(&wire, &[GUARDED]);
    let mut settings = guard(SERVER, GuardMode::Auto, &[listener("8443").deny_others()]);
    settings.interfaces.clear();
    let none = settings.clone();
    let error = wire
        .server
        .run(move || Guard::start(&none, None, NO_PATIENCE).err());
    let error = error.expect("no route leads anywhere").to_string();
    assert!(error.contains("guard.interfaces"), "{error}");
    let guard = wire.server.run(move || {
        ip(&format!("route add default via {ONE_V4}"));
        Guard::start(&settings, None, NO_PATIENCE).unwrap()
    });
    assert_eq!(state(&guard, SERVER), "native");
    assert!(!connects(&wire, ONE_V4, GUARDED));
    guard.remove();
    assert!(connects(&wire, ONE_V4, GUARDED));
}

#[test]
fn native_is_off_where_the_driver_has_no_xdp() {
    let settings = guard("lo", GuardMode::Native, &[listener("1").deny_others()]);
    Namespace::new().run(move || {
        let guard = Guard::start(&settings, None, NO_PATIENCE).unwrap();
        assert_eq!(state(&guard, "lo"), "off");
    });
}

#[test]
fn an_interface_that_is_not_there_leaves_the_others_guarded() {
    let wire = Wire::new();
    serve(&wire, &[GUARDED]);
    let address = format!("{SERVER_V4}:{GUARDED}");
    let mut settings = guard(
        "nowhere0",
        GuardMode::Auto,
        &[listener(&address).deny_others()],
    );
    settings.interfaces.push(SERVER.to_owned());
    let guard = wire
        .server
        .run(move || Guard::start(&settings, None, NO_PATIENCE).unwrap());
    assert_eq!(state(&guard, "nowhere0"), "off");
    assert_eq!(state(&guard, SERVER), "native");
    assert!(!connects(&wire, ONE_V4, GUARDED));
    assert!(connects(&wire, ONE_V6, GUARDED));
}
