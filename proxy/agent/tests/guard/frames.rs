//! What the program does with single frames.

use tidegate::Guard;
use tidegate::settings::{GuardListener, GuardMode};

use crate::frame::{ACK, Frame, SYN};
use crate::namespace::Namespace;
use crate::settings::{NO_PATIENCE, Rules, guard, listener, packets, state};

const WEB: &str = "203.0.113.7";
const WEB_V6: &str = "2001:db8::7";
const FRIEND: &str = "198.51.100.1";
const FOE: &str = "192.0.2.1";
const FRIEND_V6: &str = "2001:db8:1::1";
const FOE_V6: &str = "2001:db8:bad::1";

/// Runs the test with a guard of the listeners on a loopback interface of its own.
fn with_guard(listeners: &[GuardListener], test: impl FnOnce(&Guard) + Send + 'static) {
    let settings = guard("lo", GuardMode::Generic, listeners);
    Namespace::new().run(move || {
        let guard = Guard::start(&settings, None, NO_PATIENCE).unwrap();
        assert_eq!(state(&guard, "lo"), "generic");
        test(&guard);
        guard.remove();
    });
}

fn drops(guard: &Guard, frame: &Frame) -> bool {
    guard.drops(&frame.bytes()).unwrap()
}

#[test]
fn frames_of_denied_sources_are_dropped_whatever_they_are() {
    let listener = listener("443")
        .deny("192.0.2.0/24")
        .deny("2001:db8:bad::/48");
    with_guard(&[listener], |guard| {
        for flags in [SYN, SYN | ACK, ACK, 0] {
            let frame = |source, destination| Frame {
                flags,
                ..Frame::syn(source, destination, 443)
            };
            assert!(drops(guard, &frame(FOE, WEB)));
            assert!(!drops(guard, &frame(FRIEND, WEB)));
            assert!(drops(guard, &frame(FOE_V6, WEB_V6)));
            assert!(!drops(guard, &frame(FRIEND_V6, WEB_V6)));
        }
        assert_eq!(packets(guard, "denied"), 8);
        assert_eq!(packets(guard, "passed"), 8);
        assert_eq!(packets(guard, "limited"), 0);
    });
}

#[test]
fn the_longest_prefix_wins_and_the_default_is_for_the_rest() {
    let listener = listener("443")
        .deny_others()
        .allow("192.0.2.0/24")
        .deny("192.0.2.128/25")
        .allow("192.0.2.129/32")
        .allow("2001:db8::/32")
        .deny("2001:db8:bad::/48");
    with_guard(&[listener], |guard| {
        let dropped = |source: &str| {
            let destination = if source.contains(':') { WEB_V6 } else { WEB };
            drops(guard, &Frame::syn(source, destination, 443))
        };
        assert!(dropped(FRIEND));
        assert!(!dropped(FOE));
        assert!(dropped("192.0.2.128"));
        assert!(!dropped("192.0.2.129"));
        assert!(!dropped(FRIEND_V6));
        assert!(dropped(FOE_V6));
        assert!(dropped("2001:db9::1"));
    });
}

#[test]
fn a_prefix_of_all_addresses_is_that_of_one_listener() {
    let listeners = [
        listener("1").deny("0.0.0.0/0"),
        listener("2").deny("::/0"),
        listener("3").limit(1, 1),
    ];
    with_guard(&listeners, |guard| {
        let dropped =
            |source, destination, port| drops(guard, &Frame::syn(source, destination, port));
        assert!(dropped(FOE, WEB, 1));
        assert!(!dropped(FOE_V6, WEB_V6, 1));
        assert!(!dropped(FOE, WEB, 2));
        assert!(dropped(FOE_V6, WEB_V6, 2));
        assert!(!dropped(FOE, WEB, 3));
    });
}

#[test]
fn an_address_of_a_listener_is_guarded_alone() {
    let listeners = [
        listener("203.0.113.7:80").deny_others(),
        listener("[2001:db8::7]:80").deny_others(),
        listener("0.0.0.0:81").deny_others(),
    ];
    with_guard(&listeners, |guard| {
        let dropped = |destination: &str, port| {
            let source = if destination.contains(':') {
                FOE_V6
            } else {
                FOE
            };
            drops(guard, &Frame::syn(source, destination, port))
        };
        assert!(dropped(WEB, 80));
        assert!(!dropped("203.0.113.8", 80));
        assert!(dropped(WEB_V6, 80));
        assert!(!dropped("2001:db8::8", 80));
        assert!(dropped(WEB, 81) && dropped("203.0.113.8", 81));
        assert!(!dropped(WEB_V6, 81));
        assert!(!dropped(WEB, 82));
    });
}

#[test]
fn a_source_has_as_many_syns_as_its_burst() {
    // Less than a token in a minute: the test does not last so long.
    let limited = |address| listener(address).limit(1, 3);
    with_guard(&[limited("1"), limited("2")], |guard| {
        let passes = |source, destination, port| {
            let frame = Frame::syn(source, destination, port);
            (0..20).filter(|_| !drops(guard, &frame)).count()
        };
        // One more where a second went by.
        let burst = 3..=6;
        assert!(burst.contains(&passes(FOE, WEB, 1)));
        assert!(burst.contains(&passes(FRIEND, WEB, 1)), "another source");
        assert!(burst.contains(&passes(FOE, WEB, 2)), "another listener");
        assert!(burst.contains(&passes(FOE_V6, WEB_V6, 1)), "another family");
        let neighbour = passes("2001:db8:bad::2:2", WEB_V6, 1);
        assert!(
            neighbour <= 3,
            "the same 64 bits share a bucket: {neighbour}"
        );
        let frame = |flags| Frame {
            flags,
            ..Frame::syn(FOE, WEB, 1)
        };
        for flags in [ACK, SYN | ACK, 0] {
            assert!(!drops(guard, &frame(flags)), "only SYNs are limited");
        }
        assert!(packets(guard, "limited") >= 4 * 14);
        assert_eq!(packets(guard, "denied"), 0);
    });
}

#[test]
fn a_bucket_fills_with_time() {
    with_guard(&[listener("1").limit(20, 1)], |guard| {
        let frame = Frame::syn(FOE, WEB, 1);
        assert!(!drops(guard, &frame));
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert!(!drops(guard, &frame), "a token after 50 ms");
    });
}

#[test]
fn tags_and_headers_in_between_are_read_over() {
    let listener = listener("443")
        .deny("192.0.2.0/24")
        .deny("2001:db8:bad::/48");
    with_guard(&[listener], |guard| {
        let v4 = Frame::syn(FOE, WEB, 443);
        let v6 = Frame::syn(FOE_V6, WEB_V6, 443);
        for options in [0, 4, 20, 40] {
            assert!(
                drops(
                    guard,
                    &Frame {
                        options,
                        ..v4.clone()
                    }
                ),
                "{options}"
            );
        }
        for tags in [vec![0x8100], vec![0x88a8, 0x8100]] {
            for frame in [&v4, &v6] {
                let frame = Frame {
                    tags: tags.clone(),
                    ..frame.clone()
                };
                assert!(drops(guard, &frame), "{tags:x?}");
            }
        }
        let longest = vec![0, 60, 43, 44, 51, 60, 135, 60];
        for extensions in [vec![0], vec![60, 51], vec![44], longest] {
            let frame = Frame {
                extensions: extensions.clone(),
                ..v6.clone()
            };
            assert!(drops(guard, &frame), "{extensions:?}");
        }
    });
}

#[test]
fn what_is_not_understood_passes() {
    let everyone = listener("443").deny_others();
    with_guard(&[everyone], |guard| {
        let v4 = Frame::syn(FOE, WEB, 443);
        let v6 = Frame::syn(FOE_V6, WEB_V6, 443);
        let three_tags = vec![0x8100; 3];
        let frames = [
            (
                "another port",
                Frame {
                    port: 444,
                    ..v4.clone()
                },
            ),
            (
                "the second fragment",
                Frame {
                    fragment: 1,
                    ..v4.clone()
                },
            ),
            (
                "three tags",
                Frame {
                    tags: three_tags,
                    ..v4.clone()
                },
            ),
            (
                "nine headers",
                Frame {
                    extensions: vec![60; 9],
                    ..v6.clone()
                },
            ),
            (
                "no next header",
                Frame {
                    extensions: vec![59],
                    ..v6.clone()
                },
            ),
            (
                "the second fragment, IPv6",
                Frame {
                    extensions: vec![44],
                    fragment: 9,
                    ..v6.clone()
                },
            ),
        ];
        for (what, frame) in frames {
            assert!(!drops(guard, &frame), "{what}");
        }
        assert_eq!(packets(guard, "passed"), 0, "not counted either");
        let changed = |at: usize, to: u8| {
            let mut bytes = v4.bytes();
            bytes[at] = to;
            guard.drops(&bytes).unwrap()
        };
        assert!(!changed(14, 0x44), "a header shorter than the shortest");
        assert!(!changed(14, 0x65), "version 6 in a frame for IPv4");
        assert!(!changed(23, 17), "UDP");
        assert!(!changed(12, 0x09), "not IP");
        assert!(changed(15, 0x10), "the rest does not matter");
    });
}

#[test]
fn a_frame_may_end_anywhere() {
    let everyone = listener("443").deny_others();
    with_guard(&[everyone], |guard| {
        let extensions = vec![0, 44, 51];
        let frames = [
            Frame::syn(FOE, WEB, 443),
            Frame {
                options: 40,
                tags: vec![0x8100],
                ..Frame::syn(FOE, WEB, 443)
            },
            Frame {
                extensions,
                ..Frame::syn(FOE_V6, WEB_V6, 443)
            },
        ];
        for frame in frames {
            let bytes = frame.bytes();
            let ports = bytes.len() - 20 + 4;
            // The kernel runs the program on nothing shorter than an Ethernet header.
            for end in 14..bytes.len() {
                let dropped = guard.drops(&bytes[..end]).unwrap();
                assert_eq!(dropped, end >= ports, "{end} of {}", bytes.len());
            }
        }
    });
}

#[test]
fn a_first_fragment_without_flags_counts_as_a_syn() {
    with_guard(&[listener("443").limit(1, 1)], |guard| {
        let bytes = Frame::syn(FOE, WEB, 443).bytes();
        let cut = &bytes[..bytes.len() - 12];
        let passed = (0..10).filter(|_| !guard.drops(cut).unwrap()).count();
        assert!((1..=3).contains(&passed), "{passed}");
    });
}
