//! What a guest's console says of the checks.

use super::console::{Console, LONGEST};

const UP: &str = "guest: up ";
const DOCTOR: &str = "guest: doctor ";
const TESTS: &str = "guest: tests ";

/// What is checked on every kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Steering,
    HandOver,
    Guard,
    Tls,
    Doctor,
}

impl Check {
    pub(super) const ALL: [Self; 5] = [
        Self::Steering,
        Self::HandOver,
        Self::Guard,
        Self::Tls,
        Self::Doctor,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Steering => "steering",
            Self::HandOver => "hand-over",
            Self::Guard => "guard",
            Self::Tls => "TLS request",
            Self::Doctor => "doctor",
        }
    }

    /// The check that a test is part of: its name says so, or its module's.
    fn of_test(path: &str) -> Option<Self> {
        let mut parts = path.rsplit("::");
        parts.find_map(|part| {
            let name = part.strip_prefix("vm_").unwrap_or(part);
            let starts = [
                ("steer", Self::Steering),
                ("listener", Self::Steering),
                ("hand_over", Self::HandOver),
                ("guard", Self::Guard),
                ("tls", Self::Tls),
                ("doctor", Self::Doctor),
            ];
            let found = starts.iter().find(|(start, _)| name.starts_with(start));
            found.map(|(_, check)| *check)
        })
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// So many tests passed.
    Passed(usize),
    /// Some test failed or did not end.
    Failed,
    /// No test was run.
    Missing,
}

/// What became of the checks on one kernel.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the kernel calls itself.
    pub(super) release: Option<String>,
    tests: Vec<Test>,
    /// Exit status of `tidegate doctor`.
    doctor: Option<i32>,
    /// Exit status of all tests together.
    harness: Option<i32>,
    hung: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Test {
    path: String,
    passed: bool,
}

impl Outcome {
    pub(super) fn read(console: &Console) -> Self {
        let lines = || console.text.lines();
        let number = |start| lines().find_map(|line| line.strip_prefix(start)?.parse().ok());
        Self {
            release: lines().find_map(|line| Some(line.strip_prefix(UP)?.to_owned())),
            tests: tests(&console.text),
            doctor: number(DOCTOR),
            harness: number(TESTS),
            hung: console.hung,
        }
    }

    /// Whether every check passed, and every test.
    pub(super) fn passed(&self) -> bool {
        self.problems().is_empty()
    }

    pub(super) fn ended(&self, check: Check) -> Ended {
        let tests = self.tests.iter();
        let tests = tests.filter(|test| Check::of_test(&test.path) == Some(check));
        let command = self.doctor.filter(|_| check == Check::Doctor);
        let passed = tests.map(|test| test.passed);
        let passed: Vec<bool> = passed.chain(command.map(|status| status == 0)).collect();
        match passed.as_slice() {
            [] => Ended::Missing,
            all if all.contains(&false) => Ended::Failed,
            all => Ended::Passed(all.len()),
        }
    }

    /// What keeps it from having passed, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.hung {
            problems.push(format!(
                "not done after {} s, so it was ended",
                LONGEST.as_secs()
            ));
        }
        if self.release.is_none() {
            problems.push("the kernel did not start the checks".to_owned());
            return problems;
        }
        match self.doctor {
            Some(0) => {}
            Some(status) => problems.push(format!("`tidegate doctor` ended with status {status}")),
            None => problems.push("`tidegate doctor` did not end".to_owned()),
        }
        let failed = self.tests.iter().filter(|test| !test.passed);
        problems.extend(failed.map(|test| format!("{} failed or did not end", test.path)));
        let missing = Check::ALL
            .into_iter()
            .filter(|check| *check != Check::Doctor && self.ended(*check) == Ended::Missing);
        problems.extend(missing.map(|check| format!("no test of {} was run", check.name())));
        match self.harness {
            Some(0) => {}
            Some(status) => problems.push(format!("the tests ended with status {status}")),
            None => problems.push("the tests did not end".to_owned()),
        }
        problems
    }

    /// Tests that passed and that failed, and `tidegate doctor` as one more.
    pub(super) fn tally(&self) -> (usize, usize) {
        let passed = self.tests.iter().filter(|test| test.passed).count();
        let doctor = usize::from(self.doctor == Some(0));
        let all = self.tests.len() + 1;
        (passed + doctor, all - passed - doctor)
    }
}

/// Whether this line is the guest's first own one.
pub(super) fn is_up(line: &str) -> bool {
    line.starts_with(UP)
}

/// The lines `test PATH ... ok`. What a test's processes print may stand before its verdict, and lines before that.
fn tests(text: &str) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let begun = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "));
        if let Some((path, _)) = begun {
            tests.push(Test {
                path: path.to_owned(),
                passed: false,
            });
            open = true;
        }
        // Of a harness that is done, more lines may start in the same way.
        if line.starts_with("test result: ") || line == "successes:" || line == "failures:" {
            open = false;
        }
        let verdict = line.split_whitespace().next_back();
        if let (true, Some(verdict @ ("ok" | "FAILED"))) = (open, verdict) {
            if let Some(test) = tests.last_mut() {
                test.passed = verdict == "ok";
            }
            open = false;
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: &str = "\x1bc
guest: up 6.1.0-50-cloud-amd64
kernel 6.1
guest: doctor 0

running 4 tests
test steering::vm_least_loaded_follows_the_load ... ok
test steering::vm_tls_request_through_a_steered_port ... ok
test vm_guard_limits ... noise
more noise
ok
test vm_hand_over ... ok

successes:

---- vm_hand_over stdout ----
figure: connections = 100

test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

guest: tests 0
";

    fn outcome(text: &str) -> Outcome {
        Outcome::read(&Console {
            text: text.to_owned(),
            booted: None,
            took: Duration::ZERO,
            hung: false,
        })
    }

    #[test]
    fn every_check_is_found() {
        let good = outcome(GOOD);
        assert_eq!(good.release.as_deref(), Some("6.1.0-50-cloud-amd64"));
        for check in Check::ALL {
            assert_eq!(good.ended(check), Ended::Passed(1), "{check:?}");
        }
        assert_eq!(good.tally(), (5, 0));
        assert!(good.passed(), "{:?}", good.problems());
    }

    #[test]
    fn a_failure_is_named() {
        let text = GOOD.replace("vm_hand_over ... ok", "vm_hand_over ... FAILED");
        let bad = outcome(&text.replace("guest: tests 0", "guest: tests 101"));
        assert_eq!(bad.ended(Check::HandOver), Ended::Failed);
        assert_eq!(
            bad.problems(),
            [
                "vm_hand_over failed or did not end",
                "the tests ended with status 101"
            ]
        );
        assert_eq!(bad.tally(), (4, 1));
    }

    #[test]
    fn the_doctor_has_a_say() {
        let bad = outcome(&GOOD.replace("guest: doctor 0", "guest: doctor 1"));
        assert_eq!(bad.ended(Check::Doctor), Ended::Failed);
        assert_eq!(bad.problems(), ["`tidegate doctor` ended with status 1"]);
    }

    #[test]
    fn a_test_that_hangs_is_named() {
        let (start, _) = GOOD.split_once("more noise").unwrap();
        let bad = outcome(start);
        assert_eq!(bad.ended(Check::Guard), Ended::Failed);
        assert_eq!(bad.ended(Check::HandOver), Ended::Missing);
        assert!(!bad.passed());
    }

    #[test]
    fn a_check_without_a_test_is_a_failure() {
        let bad = outcome(&GOOD.replace("test vm_guard_limits", "test vm_boots"));
        assert_eq!(bad.problems(), ["no test of guard was run"]);
    }

    #[test]
    fn a_kernel_that_does_not_start_is_a_failure() {
        assert_eq!(
            outcome("Kernel panic").problems(),
            ["the kernel did not start the checks"]
        );
    }
}
