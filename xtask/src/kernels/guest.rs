//! The machines that are emulated.

use std::process::Command;

/// A kernel on an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    /// Like `6.1`.
    pub(super) series: &'static str,
    pub(super) architecture: Architecture,
}

impl Guest {
    /// The long-term kernels that Debian bookworm has.
    pub(super) const ALL: [Self; 4] = [
        Self::of("6.1", Architecture::Amd64),
        Self::of("6.12", Architecture::Amd64),
        Self::of("6.1", Architecture::Arm64),
        Self::of("6.12", Architecture::Arm64),
    ];

    /// The one that differs most from the machine of the tests: the oldest kernel, on the other architecture. The
    /// others take ten minutes more and are for releases.
    pub(super) const OF_EVERY_TEST: [Self; 1] = [Self::of("6.1", Architecture::Arm64)];

    const fn of(series: &'static str, architecture: Architecture) -> Self {
        Self {
            series,
            architecture,
        }
    }

    /// Like `6.1-amd64`.
    pub(super) fn name(self) -> String {
        format!("{}-{}", self.series, self.architecture.debian())
    }

    /// The guest of this name.
    ///
    /// # Errors
    /// The names that there are.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|guest| guest.name() == name);
        found.ok_or_else(|| format!("guests are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What the processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    pub(super) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// Debian's name for it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's name for Linux on it.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What the names of the C compiler's programs for it start with; `None` for the architecture that builds.
    pub(super) fn cross_compiler(self) -> Option<&'static str> {
        match self {
            Self::Amd64 => None,
            Self::Arm64 => Some("aarch64-linux-gnu"),
        }
    }

    /// QEMU for this machine: two CPUs in software, a serial console on standard output, no network card.
    pub(super) fn qemu(self) -> Command {
        let (program, machine) = match self {
            Self::Amd64 => ("qemu-system-x86_64", ["-cpu", "max"].as_slice()),
            // Pointers signed as the architecture says take most of the time when they are emulated.
            Self::Arm64 => (
                "qemu-system-aarch64",
                ["-M", "virt", "-cpu", "max,pauth-impdef=on"].as_slice(),
            ),
        };
        let mut command = Command::new(program);
        command
            .args(machine)
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"])
            .args(["-nic", "none", "-nographic", "-no-reboot"]);
        command
    }

    /// The kernel's name for that console.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}
