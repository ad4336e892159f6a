//! What is said about machines that lack something.

use super::super::facts::Capabilities;
use super::super::report::Report;
use super::*;

fn rights(list: &[Capability]) -> Found<Capabilities> {
    let bits = list.iter().map(|right| 1u64 << (*right as u32));
    Ok(Capabilities(bits.sum()))
}

/// A machine on which everything works.
fn good() -> (Facts, Vec<Probed>) {
    let facts = Facts {
        kernel: Kernel::parse("6.12.48"),
        capabilities: rights(&[
            Capability::Bpf,
            Capability::NetAdmin,
            Capability::NetBindService,
        ]),
        bpffs: Bpffs::Writable("/sys/fs/bpf".into()),
        unprivileged_bpf_disabled: Ok(2),
        first_unprivileged_port: Ok(1024),
    };
    let probed = ["steer", "steer_select", "guard"].map(|program| Probed {
        program,
        outcome: Ok(()),
    });
    (facts, probed.into())
}

fn refused(program: &'static str) -> Probed {
    Probed {
        program,
        outcome: Err("operation not permitted".to_owned()),
    }
}

#[track_caller]
fn expect(checks: &[Check], what: &str, state: State, cost: &str) {
    let found = checks.iter().find(|check| check.what == what).unwrap();
    assert_eq!(found.state, state, "{found:?}");
    let shown = found.cost.as_deref().unwrap_or_default();
    assert!(shown.contains(cost), "{found:?}");
    assert_eq!(found.remedy.is_some(), state != State::Works, "{found:?}");
    assert_eq!(found.cost.is_some(), state != State::Works, "{found:?}");
}

#[test]
fn the_documented_capabilities_are_enough() {
    let (facts, probed) = good();
    let checks = all(&facts, &probed);
    expect(&checks, "CAP_PERFMON", State::Missing, "guard");
    let others = checks.iter().filter(|check| check.what != "CAP_PERFMON");
    for check in others {
        expect(&checks, check.what, State::Works, "");
    }
    assert!(Report::new(checks).works());
}

#[test]
fn each_missing_capability_has_its_cost() {
    let (mut facts, probed) = good();
    facts.capabilities = rights(&[]);
    let checks = all(&facts, &probed);
    expect(&checks, "CAP_BPF", State::Missing, "no steering");
    expect(&checks, "CAP_NET_ADMIN", State::Missing, "no steering");
    expect(
        &checks,
        "CAP_NET_BIND_SERVICE",
        State::Missing,
        "80 and 443",
    );
    assert!(!Report::new(checks).works());
}

#[test]
fn sys_admin_is_taken_for_bpf_and_perfmon_alone() {
    let (mut facts, probed) = good();
    facts.capabilities = rights(&[Capability::SysAdmin]);
    let checks = all(&facts, &probed);
    expect(&checks, "CAP_BPF", State::Works, "");
    expect(&checks, "CAP_PERFMON", State::Works, "");
    expect(&checks, "CAP_NET_ADMIN", State::Missing, "no steering");
}

#[test]
fn low_ports_may_be_free_for_all() {
    let (mut facts, probed) = good();
    facts.capabilities = rights(&[Capability::Bpf, Capability::NetAdmin]);
    facts.first_unprivileged_port = Ok(80);
    let checks = all(&facts, &probed);
    expect(&checks, "CAP_NET_BIND_SERVICE", State::Works, "");
    facts.first_unprivileged_port = Ok(81);
    let checks = all(&facts, &probed);
    expect(
        &checks,
        "CAP_NET_BIND_SERVICE",
        State::Missing,
        "80 and 443",
    );
}

#[test]
fn old_kernels_have_their_costs() {
    let (mut facts, probed) = good();
    for (release, cost) in [("5.13.0", "closes its sockets"), ("5.4.0", "no steering")] {
        facts.kernel = Kernel::parse(release);
        expect(&all(&facts, &probed), "kernel", State::Missing, cost);
    }
    facts.kernel = Kernel::parse("5.14.0");
    expect(&all(&facts, &probed), "kernel", State::Works, "");
}

#[test]
fn without_a_place_for_pins_queued_connections_are_lost() {
    let (mut facts, probed) = good();
    let (at, cost) = ("/sys/fs/bpf", "queued at the end of the old process");
    let states = [
        (Bpffs::NotMounted(at.into()), State::Missing),
        (
            Bpffs::NotWritable(at.into(), "read-only file system".into()),
            State::Missing,
        ),
        (Bpffs::Unknown("cannot look".into()), State::Unknown),
    ];
    for (bpffs, state) in states {
        facts.bpffs = bpffs;
        let checks = all(&facts, &probed);
        expect(&checks, "bpffs", state, cost);
        assert!(!Report::new(checks).works());
    }
}

#[test]
fn a_program_that_is_refused_costs_what_it_does() {
    let (facts, mut probed) = good();
    probed[0] = refused("steer");
    let checks = all(&facts, &probed);
    expect(
        &checks,
        "program steer",
        State::Missing,
        "closes its sockets",
    );
    assert!(!Report::new(checks).works());
    probed[1] = refused("steer_select");
    let checks = all(&facts, &probed);
    expect(&checks, "program steer", State::Missing, "no steering");
    let steer = checks.iter().find(|check| check.what == "program steer");
    assert_eq!(steer.unwrap().found, "operation not permitted");
}

#[test]
fn what_the_defaults_do_not_use_may_be_refused() {
    let (facts, mut probed) = good();
    probed[1] = refused("steer_select");
    probed[2] = refused("guard");
    let checks = all(&facts, &probed);
    expect(&checks, "program steer_select", State::Missing, "nothing");
    expect(&checks, "program guard", State::Missing, "guard");
    assert!(Report::new(checks).works());
}

#[test]
fn a_machine_that_tells_nothing_is_unknown() {
    let unknown = || Unknown("it does not say".to_owned());
    let facts = Facts {
        kernel: Err(unknown()),
        capabilities: Err(unknown()),
        bpffs: Bpffs::Unknown("it does not say".to_owned()),
        unprivileged_bpf_disabled: Err(unknown()),
        first_unprivileged_port: Err(unknown()),
    };
    let checks = all(&facts, &[]);
    for check in &checks {
        expect(&checks, check.what, State::Unknown, "");
    }
    assert!(!Report::new(checks).works());
}
